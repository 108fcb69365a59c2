"""DINO: a slow copy of the network, shown two large crops, teaches what it says to the network, which sees small ones
too (Caron 2021, "Emerging properties in self-supervised vision transformers").

The copy's answers are centred by a running mean and sharpened by a low temperature: without the centre every image soon
gets the same answer. `centring: false` opens that door, to show the monitor a collapse.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
import torch.distributed as distributed
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medssl.augment import RowGenerator
from medssl.augment.views import Kept
from medssl.config import View
from medssl.encoders import Encoder
from medssl.pretext.base import Batch, PretextTask, TaskSettings
from medssl.pretext.heads import chance, mlp, retrieval
from medssl.pretext.momentum import MomentumCopy
from medssl.pretext.pictures import Column, Picture, pictures, taken_for_each_other
from medssl.pretext.processes import process_count
from medssl.pretext.questions import SAME_IMAGE


class Settings(TaskSettings):
    """
    Attributes:
        prototypes: answers that there are. The paper's 65,536 are for a million images.
        local_crops: small crops an image, at half the side; 0 for none.
        local_crop: smallest and largest share of the area in a small crop; large ones follow the preset.
        temperature, teacher_temperature: of the network's and of the copy's answers.
        momentum: of the copy at the first step.
        centre_momentum: of the running mean of answers.
        centring: off, it collapses.
    """

    prototypes: Annotated[int, Field(ge=8)] = 1024
    local_crops: Annotated[int, Field(ge=0, le=10)] = 2
    local_crop: tuple[Kept, Kept] = (0.1, 0.4)
    temperature: Annotated[float, Field(gt=0)] = 0.1
    teacher_temperature: Annotated[float, Field(gt=0)] = 0.04
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.98
    centre_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    centring: bool = True


class DINO(PretextTask):
    name = "dino"
    paper = "Caron, Touvron, Misra et al. 2021, arXiv:2104.14294"
    line = "say of small crops what a slow copy says of large ones; no negatives"
    question = SAME_IMAGE
    Settings = Settings
    compares = True  # answers are centred by the mean of the batch
    dims = (2, 3)
    smallest = 32

    def __init__(self, encoder: Encoder, settings: Any, view: View, modality: str = "") -> None:
        super().__init__(encoder, settings, view, modality)
        width = encoder.embed_dim
        self.projection = mlp(width, 2 * width, width, 3, last_norm=False)
        self.prototypes = nn.utils.parametrizations.weight_norm(nn.Linear(width, settings.prototypes, bias=False))
        self.prototypes.parametrizations.weight.original0.data.fill_(1)  # of unit length, and stays so
        self.prototypes.parametrizations.weight.original0.requires_grad_(False)
        self.slow_encoder = MomentumCopy(encoder)
        self.slow_head = MomentumCopy(nn.ModuleList([self.projection, self.prototypes]))
        self.centre: Tensor
        self.register_buffer("centre", torch.zeros(settings.prototypes))
        if settings.local_crops:
            self.check_field("a small crop", view.size // 2)
        self.plan = self.views()
        self.small_plan = self.plan.model_copy(update={"crop": settings.local_crop})

    def loss(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross entropy between the copy's answer to each large crop and the network's to every other crop."""
        rows = len(batch.rows)
        large = self.new_views(batch.images, self.plan, generator)
        with torch.no_grad():
            slow_z = F.normalize(self.slow_head.module[0](self.slow_encoder.module.embed(large)), dim=1)
            answers = self.slow_head.module[1](slow_z).float()
        said = [self.embed(large)]
        if self.settings.local_crops:
            # Not `self.embed`: the monitor compares equal rows.
            said.append(self.encoder.embed(self.small_crops(batch, generator)))
        z = F.normalize(self.projection(torch.cat(said)), dim=1)
        logits = self.prototypes(z).float().view(-1, rows, self.settings.prototypes)
        centred = answers - self.centre if self.settings.centring else answers
        targets = (centred / self.settings.teacher_temperature).softmax(1).view(2, rows, -1)
        log_p = (logits / self.settings.temperature).log_softmax(2)
        pairs = [(t, v) for t in range(2) for v in range(len(log_p)) if v != t]
        loss = -sum(((targets[t] * log_p[v]).sum(1).mean() for t, v in pairs), torch.zeros((), device=z.device))
        if self.training:
            self._follow_centre(answers)
        return loss / len(pairs), {"accuracy": retrieval(z[:rows], z[rows : 2 * rows])}

    def small_crops(self, batch: Batch, generator: RowGenerator) -> Tensor:
        """(local_crops * N, C, *spatial) at half the side."""
        small = self.new_views(batch.images, self.small_plan, generator, self.settings.local_crops)
        return F.interpolate(small, scale_factor=0.5, mode="area")

    def show(self, batch: Batch, generator: RowGenerator) -> list[Picture]:
        large = self.new_views(batch.images, self.plan, generator)
        small: list[Column] = []
        if self.settings.local_crops:
            crops = self.small_crops(batch, generator).chunk(self.settings.local_crops)
            small = [(crop, f"small crop {k + 1}") for k, crop in enumerate(crops)]
        return pictures((batch.images, "image"), *taken_for_each_other(large, self.embed(large)), *small)

    def after_step(self, step: int, steps: int) -> None:
        """Momentum from `momentum` to 1 along half a cosine."""
        left = 0.5 * (1 + math.cos(math.pi * step / max(1, steps)))
        momentum = 1 - (1 - self.settings.momentum) * left
        self.slow_encoder.follow(self.encoder, momentum)
        self.slow_head.follow(nn.ModuleList([self.projection, self.prototypes]), momentum)

    def floor(self, batch: Batch, generator: RowGenerator) -> dict[str, float]:
        """Loss: all answers equally likely. Accuracy: one in N."""
        return {"loss": math.log(self.settings.prototypes), "accuracy": chance(batch)}

    @torch.no_grad()
    def _follow_centre(self, answers: Tensor) -> None:
        mean = answers.mean(0)
        if process_count() > 1:
            distributed.all_reduce(mean)
            mean /= process_count()
        self.centre.lerp_(mean, 1 - self.settings.centre_momentum)
