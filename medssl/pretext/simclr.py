"""SimCLR: two views of one image belong together, all others apart (Chen 2020, "A simple framework for contrastive
learning of visual representations"), with the three-layer projection head of SimCLRv2 (Chen 2020, "Big
self-supervised models are strong semi-supervised learners").

Shortcuts and how they are closed: two crops of one image share its gray histogram, so brightness, contrast and gamma
change in each view; crops are blurred so that fine noise of the detector does not tie them. Images of one patient are
no negatives of each other (`negatives: all` makes them so), or the network would learn what differs between two images
of one body.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medssl.augment import RowGenerator
from medssl.config import View
from medssl.encoders import Encoder
from medssl.pretext.base import Batch, PretextTask
from medssl.pretext.negatives import NegativeSettings, apart, refuse_one_patient
from medssl.pretext.processes import gather, process_count
from medssl.pretext.questions import SAME_IMAGE


class Settings(NegativeSettings):
    """
    Attributes:
        temperature: of the softmax over similarities.
        hidden: width of the projection head's two inner layers; 0 takes the encoder's.
        projection: width of its output.
    """

    temperature: Annotated[float, Field(gt=0)] = 0.2
    hidden: Annotated[int, Field(ge=0)] = 0
    projection: Annotated[int, Field(ge=2)] = 128


class SimCLR(PretextTask):
    name = "simclr"
    paper = "Chen, Kornblith, Norouzi, Hinton 2020, arXiv:2002.05709; head: arXiv:2006.10029"
    line = "find the other view of the same image among all views of the batch"
    question = SAME_IMAGE
    Settings = Settings
    dims = (2, 3)
    compares = True

    def __init__(self, encoder: Encoder, settings: Any, view: View, modality: str = "") -> None:
        super().__init__(encoder, settings, view, modality)
        self.projection = projection_head(encoder.embed_dim, settings.hidden, settings.projection)
        self.plan = self.views()

    def meet(self, index: Tensor, patient: Tensor) -> None:
        refuse_one_patient(self.name, self.settings, patient)

    def inputs(self, batch: Batch, generator: RowGenerator) -> Tensor:
        return self.new_views(batch.images, self.plan, generator)

    def loss_of(self, embeddings: Tensor, batch: Batch, generator: RowGenerator) -> tuple[Tensor, dict[str, Tensor]]:
        z = self.projection(embeddings)
        first, second = z.float().chunk(2)
        with torch.autocast(z.device.type, enabled=False):
            return nt_xent(first, second, self.settings.temperature, self.apart(batch))

    def floor(self, batch: Batch, generator: RowGenerator) -> dict[str, float]:
        """Loss: all similarities equal. Accuracy: how often the untrained encoder already finds the other view."""
        training = self.training
        self.eval()
        with torch.no_grad():
            first, second = self.embed(self.inputs(batch, generator)).float().chunk(2)
            metrics = nt_xent(first, second, self.settings.temperature, self.apart(batch))[1]
        self.train(training)
        others = 2 * len(batch.rows) * process_count() - 1
        return {"loss": math.log(others), "accuracy": float(metrics["accuracy"])}

    def apart(self, batch: Batch) -> Tensor | None:
        """Of this process's images against those of all, as `nt_xent` takes it."""
        return apart(self.settings, batch.patient, gather(batch.patient)[0])


def projection_head(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Three linear layers, each normalised over the batch, with ReLU between; the last norm has no scale or shift."""
    hidden = hidden or inputs
    return nn.Sequential(
        nn.Linear(inputs, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, outputs, bias=False),
        nn.BatchNorm1d(outputs, affine=False),
    )


def nt_xent(
    first: Tensor, second: Tensor, temperature: float, apart: Tensor | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """The normalised temperature-scaled cross entropy over all processes' views (Chen 2020, equation 1).

    Args:
        first, second: (N, D) projections of this process's images; rows belong together.
        temperature: of the softmax.
        apart: (N, M) bool, where image i of this process may have image j of the global batch as a negative;
            default: all but itself. (Images of one patient need not be driven apart.)

    Returns:
        The mean loss over this process's 2N views, and the share of them whose other view is the most similar one.
    """
    (keys_1, start), (keys_2, _) = (gather(F.normalize(z, dim=1)) for z in (first, second))
    queries = F.normalize(torch.cat([first, second]), dim=1)
    logits = queries @ torch.cat([keys_1, keys_2]).T / temperature
    here = start + torch.arange(len(first), device=first.device)
    myself = torch.cat([here, here + len(keys_1)])
    other = torch.cat([here + len(keys_1), here])
    if apart is not None:
        allowed = apart.repeat(2, 2).scatter(1, other[:, None], True)
        logits = logits.masked_fill(~allowed, -math.inf)
    logits = logits.scatter(1, myself[:, None], -math.inf)
    accuracy = (logits.detach().argmax(1) == other).float().mean()
    return F.cross_entropy(logits, other), {"accuracy": accuracy}
