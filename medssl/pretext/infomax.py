"""Deep InfoMax: the vector of an image and the features at its places belong together, those of other images do not
(Hjelm 2019, "Learning deep representations by mutual information estimation and maximization").

Local form with the Jensen-Shannon estimate (equation 4) and the prior term (equation 7): a critic tells vectors from
uniform noise, and the encoder is to fool it.

Shortcut: noise and brightness of one picture tie its vector to its places. They come from two different views. Places
of other images of the same patient are left out (`negatives: all` counts them).
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call

from medssl.augment import RowGenerator
from medssl.config import View
from medssl.encoders import Encoder
from medssl.encoders.resnet import CONV
from medssl.pretext.base import Batch, MakeOptimizer, PretextTask, weight_decay_groups
from medssl.pretext.heads import mlp
from medssl.pretext.negatives import NegativeSettings, apart, refuse_one_patient
from medssl.pretext.pictures import Picture, pictures
from medssl.pretext.processes import gather, process_count
from medssl.pretext.questions import SAME_IMAGE


class Settings(NegativeSettings):
    """
    Attributes:
        width: of the space in which vectors and places are compared.
        prior: weight of the prior term (the paper's gamma).
    """

    width: Annotated[int, Field(ge=8)] = 128
    prior: Annotated[float, Field(ge=0)] = 0.1


class InfoMax(PretextTask):
    name = "infomax"
    paper = "Hjelm, Fedorov, Lavoie-Marchildon et al. 2019, arXiv:1808.06670"
    line = "tell an image's own places from those of other images by its vector"
    question = SAME_IMAGE
    Settings = Settings
    compares = True
    dims = (2, 3)
    smallest = 32

    def __init__(self, encoder: Encoder, settings: Any, view: View, modality: str = "") -> None:
        super().__init__(encoder, settings, view, modality)
        conv, width = CONV[view.spatial_dims], settings.width
        fine = encoder.channels[-2]  # one level finer than the vector, so that there are places
        self.local = nn.Sequential(conv(fine, width, 1), nn.ReLU(inplace=True), conv(width, width, 1))
        self.whole = mlp(encoder.channels[-1], 2 * width, width, 2, last_norm=False)
        self.squash = nn.Linear(encoder.channels[-1], width)
        self.critic = nn.Sequential(nn.Linear(width, width), nn.ReLU(inplace=True), nn.Linear(width, 1))
        self.plan = self.views()

    def meet(self, index: Tensor, patient: Tensor) -> None:
        refuse_one_patient(self.name, self.settings, patient)

    def loss(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, dict[str, Tensor]]:
        views = self.new_views(batch.images, self.plan, generator)
        features = self.pyramid(views)
        rows = len(batch.rows)
        vector = features[-1].flatten(2).mean(2)[:rows]
        whole = self.whole(vector).float()
        places = self.local(features[-2][rows:]).flatten(2).float()
        with torch.autocast(views.device.type, enabled=False):
            patients = gather(batch.patient)[0]
            loss, metrics = jensen_shannon(whole, places, apart(self.settings, patients, patients))
            if self.settings.prior:
                noise = generator.uniform(self.settings.width)
                code = torch.sigmoid(self.squash(vector.float()))
                fixed = {name: p.detach() for name, p in self.critic.named_parameters()}
                fool = F.softplus(-functional_call(self.critic, fixed, code)).mean()
                told = F.softplus(-self.critic(noise)).mean() + F.softplus(self.critic(code.detach())).mean()
                loss = loss + self.settings.prior * fool + told  # the critic has an optimizer of its own
                metrics["critic"] = told.detach()
        return loss, metrics

    def floor(self, batch: Batch, generator: RowGenerator) -> dict[str, float]:
        """Loss: all scores 0, and a critic that cannot tell. Accuracy: one in N."""
        prior = self.settings.prior
        return {
            "loss": math.log(2) * (2 + (prior + 2 if prior else 0)),
            "accuracy": 1 / (len(batch.rows) * process_count()),
        }

    def show(self, batch: Batch, generator: RowGenerator) -> list[Picture]:
        """The view that gave the vector, the one that gave the places, and how well each place fits the vector."""
        rows = len(batch.rows)
        views = self.new_views(batch.images, self.plan, generator)
        features = self.pyramid(views)
        whole = self.whole(features[-1].flatten(2).mean(2)[:rows]).float()
        places = self.local(features[-2][rows:]).float()
        scores = torch.einsum("nd,md...->nm...", whole, places) / math.sqrt(whole.shape[1])
        own = scores.diagonal().movedim(-1, 0)
        fit = F.interpolate(torch.sigmoid(own)[:, None], views.shape[2:], mode="nearest")
        best = scores.flatten(2).mean(2).argmax(1).tolist()
        words = [f"fit, best of the batch: {'right' if at == row else 'wrong'}" for row, at in enumerate(best)]
        shown = (views[:rows], "view of the vector"), (views[rows:], "view of the places")
        return pictures((batch.images, "image"), *shown, (fit, words))

    def optimizers(self, learning_rate: float, make: MakeOptimizer = torch.optim.AdamW) -> list[torch.optim.Optimizer]:
        critic = set(self.critic.parameters())
        players = [p for p in self.parameters() if p not in critic], [*self.critic.parameters()]  # in a fixed order
        return [make(weight_decay_groups(part, self.weight_decay), lr=learning_rate) for part in players]


def jensen_shannon(whole: Tensor, places: Tensor, apart: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
    """Equation 4, negated: every vector of this process against every place of every image of all processes.

    Args:
        whole: (N, D). places: (N, D, P).
        apart: (M, M) bool, of the global batch, whose places may be whose negatives; default: those of all others.

    Returns:
        The loss, whose mean over processes is that of the global batch, and the share of vectors whose own image has
        the highest mean score.
    """
    everywhere, start = gather(places)
    scores = torch.einsum("nd,mdp->nmp", whole, everywhere) / math.sqrt(whole.shape[1])
    here = start + torch.arange(len(whole), device=whole.device)
    own = here[:, None] == torch.arange(len(everywhere), device=whole.device)
    apart = ~torch.eye(len(everywhere), dtype=torch.bool, device=whole.device) if apart is None else apart
    negatives = (apart.sum() * places.shape[2] / process_count()).clamp_min(1)  # a process's share: it may have few
    loss = F.softplus(-scores[own]).mean() + F.softplus(scores[apart[here]]).sum() / negatives
    found = scores.detach().mean(2).argmax(1) == here
    return loss, {"accuracy": found.float().mean()}
