"""Exemplar: all views of one image belong together, against all other images of the batch (Dosovitskiy 2014,
"Discriminative unsupervised feature learning with exemplar convolutional neural networks"), in the triplet form of S4L
(Zhai 2019, "S4L: self-supervised semi-supervised learning", section 4.2), which needs no class for every image.

The loss is the batch-hard triplet loss with soft margin (Hermans 2017): the farthest view of the same image should be
nearer than the nearest view of any other image, those of the same patient left out (`negatives: all` counts them).
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from medssl.augment import RowGenerator
from medssl.config import View
from medssl.encoders import Encoder
from medssl.pretext.base import Batch, PretextTask
from medssl.pretext.heads import mlp
from medssl.pretext.negatives import NegativeSettings, apart, refuse_one_patient
from medssl.pretext.processes import gather, process_count
from medssl.pretext.questions import SAME_IMAGE


class Settings(NegativeSettings):
    """
    Attributes:
        copies: views of each image in a batch. The paper takes 8; in the same time, two see four times the images.
        projection: width of the vectors whose distances count.
    """

    copies: Annotated[int, Field(ge=2)] = 2
    projection: Annotated[int, Field(ge=2)] = 128


class Exemplar(PretextTask):
    name = "exemplar"
    paper = "Dosovitskiy et al. 2014, arXiv:1406.6909; triplets: Zhai, Oliver, Kolesnikov, Beyer 2019, arXiv:1905.03670"
    line = "put all views of an image nearer to each other than to any other image"
    question = SAME_IMAGE
    Settings = Settings
    dims = (2, 3)
    compares = True

    def __init__(self, encoder: Encoder, settings: Any, view: View, modality: str = "") -> None:
        super().__init__(encoder, settings, view, modality)
        self.projection = mlp(encoder.embed_dim, encoder.embed_dim, settings.projection, 2, last_norm=True)
        self.plan = self.views()

    def meet(self, index: Tensor, patient: Tensor) -> None:
        refuse_one_patient(self.name, self.settings, patient)

    def inputs(self, batch: Batch, generator: RowGenerator) -> Tensor:
        return self.new_views(batch.images, self.plan, generator, self.settings.copies)

    def loss_of(self, embeddings: Tensor, batch: Batch, generator: RowGenerator) -> tuple[Tensor, dict[str, Tensor]]:
        z = self.projection(embeddings).float()
        with torch.autocast(z.device.type, enabled=False):
            near = apart(self.settings, batch.patient, gather(batch.patient)[0])
            return batch_hard(z, self.settings.copies, near)

    def floor(self, batch: Batch, generator: RowGenerator) -> dict[str, float]:
        """Loss: all distances equal. Accuracy: any other view is as near as those of the same image."""
        copies, images = self.settings.copies, len(batch.rows) * process_count()
        return {"loss": math.log(2), "accuracy": (copies - 1) / (copies * images - 1)}


def batch_hard(z: Tensor, copies: int, apart: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
    """Hermans 2017, equation 5 with softplus, over all processes' views.

    Args:
        z: (copies * N, D), all first views first; distances are between unit vectors.
        apart: (N, M) bool, whose views may be whose nearest others; default: all.

    Returns:
        The mean loss, and the share of views whose nearest view is one of the same image.
    """
    z = F.normalize(z, dim=1)
    rows = len(z) // copies
    parts = [gather(part) for part in z.view(copies, rows, -1)]
    keys = torch.cat([part for part, _ in parts])
    total, start = len(parts[0][0]), parts[0][1]
    own = (start + torch.arange(rows, device=z.device)).repeat(copies)
    theirs = torch.arange(total, device=z.device).repeat(copies)
    view = torch.arange(copies, device=z.device)
    myself = view.repeat_interleave(rows) * total + own  # where a row of z stands among the keys
    distance = (2 - 2 * z @ keys.T).clamp_min(1e-8).sqrt()
    same = own[:, None] == theirs
    farthest = distance.masked_fill(~same, 0).amax(1)
    left_out = same if apart is None else same | ~apart.repeat(copies, copies)
    nearest_other = distance.masked_fill(left_out, math.inf).amin(1)
    nearest = distance.detach().scatter(1, myself[:, None], math.inf).argmin(1)
    return F.softplus(farthest - nearest_other).mean(), {"accuracy": (theirs[nearest] == own).float().mean()}
