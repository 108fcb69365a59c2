"""Supervised pretraining: an encoder learns the labels of other scans, or other labels, before it meets the target.

It runs in the engine of the pretext tasks, so that it resumes, leaves a history and a checkpoint as they do. It is none
of them: it needs labels, which it is given as numbers of a target.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from medssl.augment import RowGenerator
from medssl.config import SUPERVISED, View
from medssl.encoders import Encoder
from medssl.pretext import Batch, PretextTask
from medssl.pretext.base import TaskSettings
from medssl.transfer.target import TargetKind

CROP = (0.6, 1.0)  # of the area, as in finetuning


class Settings(TaskSettings):
    """labels: the hash of what is learnt, so that other labels are another run."""

    labels: str


class Supervised(PretextTask):
    """A linear head on the encoder, trained with the target's loss; samples without a label add nothing to it.

    Attributes:
        target: what the labels say.
        truth: (N,) or (N, L) encoded labels of all samples; whatever stands where `labeled` (N,) is False is not looked
            at.
    """

    name = SUPERVISED
    paper = ""
    line = "tell the labels of other scans"
    Settings = Settings
    compares = False
    collapsible = False
    dims = (2, 3)
    channels = tuple(range(1, 9))
    target: ClassVar[TargetKind]
    truth: ClassVar[np.ndarray]
    labeled: ClassVar[np.ndarray]

    def __init__(self, encoder: Encoder, settings: Any, view: View, modality: str = "") -> None:
        super().__init__(encoder, settings, view, modality)
        self.head = nn.Linear(encoder.embed_dim, self.target.outputs)
        self.plan = self.views(crop=CROP)
        self.register_buffer("answers", torch.as_tensor(self.truth), persistent=False)
        self.register_buffer("known", torch.as_tensor(self.labeled), persistent=False)

    def loss(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, dict[str, Tensor]]:
        logits = self.head(self.embed(self.new_view(batch.images, self.plan, generator))).float()
        return self._loss(logits, batch), {}

    def floor(self, batch: Batch, generator: RowGenerator) -> dict[str, float]:
        """The loss of equal logits for everything."""
        nothing = torch.zeros(len(batch.index), self.target.outputs, device=batch.index.device)
        return {"loss": float(self._loss(nothing, batch))}

    def _loss(self, logits: Tensor, batch: Batch) -> Tensor:
        rows = self.get_buffer("known")[batch.index]
        if not bool(rows.any()):
            return logits.sum() * 0.0
        return self.target.loss(logits[rows], self.get_buffer("answers")[batch.index][rows])


def supervised_task(target: TargetKind, truth: np.ndarray, labeled: np.ndarray) -> type[PretextTask]:
    """The task that learns these labels; see `Supervised`."""
    return type("SupervisedOn", (Supervised,), {"target": target, "truth": truth, "labeled": labeled})
