"""Autoencoder: paint the image again from its coarsest features (Hinton and Salakhutdinov 2006, "Reducing the
dimensionality of data with neural networks").

A baseline and no more: nothing forces the code to hold meaning rather than pixels, and no shortcut needs closing where
copying is the task.
"""

from __future__ import annotations

from typing import Annotated, Any

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from medssl.augment import RowGenerator
from medssl.config import View
from medssl.encoders import Encoder
from medssl.pretext.base import Batch, PretextTask, TaskSettings
from medssl.pretext.decoder import blank_error, decoder_of
from medssl.pretext.pictures import Picture, pictures


class Settings(TaskSettings):
    """
    Attributes:
        width: channels of the decoder.
    """

    width: Annotated[int, Field(ge=8)] = 64


class Autoencoder(PretextTask):
    name = "autoencoder"
    paper = "Hinton, Salakhutdinov 2006, doi:10.1126/science.1127647"
    line = "paint an image again from its coarsest features"
    Settings = Settings
    collapsible = False
    compares = False
    dims = (2, 3)

    def __init__(self, encoder: Encoder, settings: Any, view: View, modality: str = "") -> None:
        super().__init__(encoder, settings, view, modality)
        self.decoder = decoder_of(encoder, settings.width, view)
        self.plan = self.views(blur=0.0, noise=0.0, cutout=0.0)

    def loss(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, dict[str, Tensor]]:
        target = self.new_view(batch.images, self.plan, generator)
        painted = self.decoder(self.pyramid(target)[-1], target.shape[2:])
        return F.mse_loss(painted.float(), target), {}

    def floor(self, batch: Batch, generator: RowGenerator) -> dict[str, float]:
        """Every pixel painted with its image's mean."""
        target = self.new_view(batch.images, self.plan, generator)
        return {"loss": blank_error(target)}

    def show(self, batch: Batch, generator: RowGenerator) -> list[Picture]:
        return pictures(*zip(self.made(batch, generator), ("seen", "answer"), strict=True))

    def made(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, Tensor]:
        target = self.new_view(batch.images, self.plan, generator)
        return target, self.decoder(self.pyramid(target)[-1], target.shape[2:])
