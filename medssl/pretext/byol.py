"""BYOL: predict what a slow copy of the network says of another view (Grill 2020, "Bootstrap your own latent").

The copy follows as an exponential moving average whose momentum rises to 1 over the run (section 3.2). Negatives are
not needed, so images of one patient are never driven apart.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from medssl.augment import RowGenerator
from medssl.config import View
from medssl.encoders import Encoder
from medssl.pretext.base import Batch, PretextTask, TaskSettings
from medssl.pretext.heads import chance, cosine, mlp, retrieval
from medssl.pretext.momentum import MomentumCopy
from medssl.pretext.questions import SAME_IMAGE


class Settings(TaskSettings):
    """
    Attributes:
        projection: width of the projection.
        hidden: of projection and prediction; 0 takes twice the encoder's.
        momentum: of the copy at the first step. The paper's .996 is for hundreds of thousands of steps.
    """

    projection: Annotated[int, Field(ge=2)] = 128
    hidden: Annotated[int, Field(ge=0)] = 0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.98


class BYOL(PretextTask):
    name = "byol"
    paper = "Grill, Strub, Altché et al. 2020, arXiv:2006.07733"
    line = "predict what a slow copy of the network says of another view; no negatives"
    question = SAME_IMAGE
    Settings = Settings
    compares = False
    dims = (2, 3)

    def __init__(self, encoder: Encoder, settings: Any, view: View, modality: str = "") -> None:
        super().__init__(encoder, settings, view, modality)
        hidden = settings.hidden or 2 * encoder.embed_dim
        self.projection = mlp(encoder.embed_dim, hidden, settings.projection, 2, last_norm=False)
        self.predictor = mlp(settings.projection, hidden, settings.projection, 2, last_norm=False)
        self.slow_encoder, self.slow_projection = MomentumCopy(encoder), MomentumCopy(self.projection)
        self.plan = self.views()

    def loss(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, dict[str, Tensor]]:
        """2 - 2 cosine, both ways (equation 2): 0 at best, 2 for unrelated vectors."""
        views = self.new_views(batch.images, self.plan, generator)
        z = self.projection(self.embed(views))
        with torch.no_grad():
            targets = self.slow_projection(self.slow_encoder.module.embed(views))
        predicted_second, predicted_first = self.predictor(z).chunk(2)
        first, second = targets.chunk(2)
        loss = 2 - cosine(predicted_second, second) - cosine(predicted_first, first)
        return loss, {"accuracy": retrieval(*z.chunk(2))}

    def after_step(self, step: int, steps: int) -> None:
        """Momentum from `momentum` to 1 along half a cosine."""
        left = 0.5 * (1 + math.cos(math.pi * step / max(1, steps)))
        momentum = 1 - (1 - self.settings.momentum) * left
        self.slow_encoder.follow(self.encoder, momentum)
        self.slow_projection.follow(self.projection, momentum)

    def floor(self, batch: Batch, generator: RowGenerator) -> dict[str, float]:
        """Loss: of predictions that have nothing to do with their targets. Accuracy: one in N."""
        return {"loss": 2.0, "accuracy": chance(batch)}
