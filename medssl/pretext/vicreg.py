"""VICReg: views agree, every dimension varies, no two vary together (Bardes 2022, "VICReg: variance-invariance-
covariance regularization for self-supervised learning").

`variance: 0` takes away what keeps the code from being constant; it is there to show the monitor a collapse.
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from medssl.augment import RowGenerator
from medssl.config import View
from medssl.encoders import Encoder
from medssl.pretext.base import Batch, PretextTask, TaskSettings
from medssl.pretext.heads import chance, mlp, retrieval
from medssl.pretext.processes import gather
from medssl.pretext.questions import SAME_IMAGE

EPSILON = 1e-4


class Settings(TaskSettings):
    """
    Attributes:
        projection: width of the expander and of its hidden layers; 0 takes twice the encoder's.
        invariance, variance, covariance: weights of the three terms (equation 6).
    """

    projection: Annotated[int, Field(ge=0)] = 0
    invariance: Annotated[float, Field(ge=0)] = 25.0
    variance: Annotated[float, Field(ge=0)] = 25.0
    covariance: Annotated[float, Field(ge=0)] = 1.0


class VICReg(PretextTask):
    name = "vicreg"
    paper = "Bardes, Ponce, LeCun 2022, arXiv:2105.04906"
    line = "give two views the same code, whose dimensions vary and do not vary together"
    question = SAME_IMAGE
    Settings = Settings
    dims = (2, 3)
    compares = True

    def __init__(self, encoder: Encoder, settings: Any, view: View, modality: str = "") -> None:
        super().__init__(encoder, settings, view, modality)
        width = settings.projection or 2 * encoder.embed_dim
        self.projection = mlp(encoder.embed_dim, width, width, 3, last_norm=False)
        self.plan = self.views()

    def inputs(self, batch: Batch, generator: RowGenerator) -> Tensor:
        return self.new_views(batch.images, self.plan, generator)

    def loss_of(self, embeddings: Tensor, batch: Batch, generator: RowGenerator) -> tuple[Tensor, dict[str, Tensor]]:
        z = self.projection(embeddings)
        first, second = z.float().chunk(2)
        with torch.autocast(z.device.type, enabled=False):
            terms = vicreg(gather(first)[0], gather(second)[0])
        weights = self.settings.invariance, self.settings.variance, self.settings.covariance
        loss = sum(w * term for w, term in zip(weights, terms, strict=True))
        names = ("invariance", "variance", "covariance")
        metrics = {name: term.detach() for name, term in zip(names, terms, strict=True)}
        return loss, metrics | {"accuracy": retrieval(first, second)}

    def floor(self, batch: Batch, generator: RowGenerator) -> dict[str, float]:
        """Loss: of a constant code (no variance), which is also where a collapse ends. Accuracy: one in N."""
        return {"loss": 2 * self.settings.variance * (1 - EPSILON**0.5), "accuracy": chance(batch)}


def vicreg(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(invariance, variance, covariance) of two (N, D): equations 5, 1 and 3, the latter two summed over both views. As
    in the authors' code the invariance is a mean over the D components too; they halve the variance, the paper does
    not."""
    variance = covariance = first.new_zeros(())
    for z in (first, second):
        count, width = z.shape
        z = z - z.mean(0)
        variance = variance + F.relu(1 - (z.var(0) + EPSILON).sqrt()).mean()
        matrix = z.T @ z / (count - 1)
        covariance = covariance + (matrix.pow(2).sum() - matrix.diagonal().pow(2).sum()) / width
    return F.mse_loss(first, second), variance, covariance
