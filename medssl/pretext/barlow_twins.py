"""Barlow Twins: the cross-correlation of two views' projections should be the identity (Zbontar 2021, "Barlow Twins:
self-supervised learning via redundancy reduction").

Nothing is driven apart but dimensions, so images of one patient are no negatives of each other.
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from medssl.augment import RowGenerator
from medssl.config import View
from medssl.encoders import Encoder
from medssl.pretext.base import Batch, PretextTask, TaskSettings
from medssl.pretext.heads import chance, mlp, retrieval
from medssl.pretext.processes import gather
from medssl.pretext.questions import SAME_IMAGE


class Settings(TaskSettings):
    """
    Attributes:
        projection: width of the projection and of its hidden layers; 0 takes twice the encoder's.
        redundancy: weight of the off-diagonal terms (lambda of equation 1).
    """

    projection: Annotated[int, Field(ge=0)] = 0
    redundancy: Annotated[float, Field(ge=0)] = 0.005


class BarlowTwins(PretextTask):
    name = "barlow_twins"
    paper = "Zbontar, Jing, Misra, LeCun, Deny 2021, arXiv:2103.03230"
    line = "give two views the same code, and no two dimensions of it the same meaning"
    question = SAME_IMAGE
    Settings = Settings
    dims = (2, 3)
    compares = True

    def __init__(self, encoder: Encoder, settings: Any, view: View, modality: str = "") -> None:
        super().__init__(encoder, settings, view, modality)
        self.width = settings.projection or 2 * encoder.embed_dim
        self.projection = mlp(encoder.embed_dim, self.width, self.width, 3, last_norm=False)
        self.plan = self.views()

    def inputs(self, batch: Batch, generator: RowGenerator) -> Tensor:
        return self.new_views(batch.images, self.plan, generator)

    def loss_of(self, embeddings: Tensor, batch: Batch, generator: RowGenerator) -> tuple[Tensor, dict[str, Tensor]]:
        z = self.projection(embeddings)
        first, second = z.float().chunk(2)
        with torch.autocast(z.device.type, enabled=False):
            loss = barlow_twins(gather(first)[0], gather(second)[0], self.settings.redundancy)
        return loss, {"accuracy": retrieval(first, second)}

    def floor(self, batch: Batch, generator: RowGenerator) -> dict[str, float]:
        """Loss: of unrelated views, whose correlations are 0. Accuracy: one in N."""
        return {"loss": float(self.width), "accuracy": chance(batch)}


def barlow_twins(first: Tensor, second: Tensor, redundancy: float) -> Tensor:
    """Equation 1 on two (N, D), each dimension standardised over the batch."""
    count = len(first)
    first, second = ((z - z.mean(0)) / z.std(0, correction=0).clamp_min(1e-5) for z in (first, second))
    correlation = first.T @ second / count
    diagonal = correlation.diagonal()
    others = correlation.pow(2).sum() - diagonal.pow(2).sum()
    return (1 - diagonal).pow(2).sum() + redundancy * others
