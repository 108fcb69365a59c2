"""Denoising autoencoder: paint the clean image from a noisy one (Vincent 2008, "Extracting and composing robust
features with denoising autoencoders").

A baseline: with little noise it is an autoencoder, with much of it the network learns what neighbours tell of a pixel.
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
        sigma: standard deviation of the Gaussian noise, as a share of the full range.
        dropped: share of the pixels that are set to 0 (the paper's masking noise).
        width: channels of the decoder.
    """

    sigma: Annotated[float, Field(ge=0)] = 0.2
    dropped: Annotated[float, Field(ge=0, lt=1)] = 0.25
    width: Annotated[int, Field(ge=8)] = 64


class Denoising(PretextTask):
    name = "denoising"
    paper = "Vincent, Larochelle, Bengio, Manzagol 2008, doi:10.1145/1390156.1390294"
    line = "paint the clean image from a noisy one"
    Settings = Settings
    collapsible = False
    compares = False
    dims = (2, 3)

    def __init__(self, encoder: Encoder, settings: Any, view: View, modality: str = "") -> None:
        super().__init__(encoder, settings, view, modality)
        self.decoder = decoder_of(encoder, settings.width, view)
        self.plan = self.views(blur=0.0, noise=0.0, cutout=0.0)

    def loss(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, dict[str, Tensor]]:
        target, seen = self.puzzle(batch, generator)
        painted = self.decoder(self.pyramid(seen)[-1], target.shape[2:])
        return F.mse_loss(painted.float(), target), {}

    def floor(self, batch: Batch, generator: RowGenerator) -> dict[str, float]:
        """Every pixel painted with its image's mean."""
        target, _ = self.puzzle(batch, generator)
        return {"loss": blank_error(target)}

    def show(self, batch: Batch, generator: RowGenerator) -> list[Picture]:
        target, seen = self.puzzle(batch, generator)
        painted = self.decoder(self.pyramid(seen)[-1], target.shape[2:])
        return pictures((seen, "seen"), (painted, "answer"), (target, "truth"))

    def made(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, Tensor]:
        target, seen = self.puzzle(batch, generator)
        return target, self.decoder(self.pyramid(seen)[-1], target.shape[2:])

    def puzzle(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, Tensor]:
        """The clean image, and the noisy one."""
        target = self.new_view(batch.images, self.plan, generator)
        seen = target + self.settings.sigma * generator.noise(target.shape[1:])
        if self.settings.dropped:
            kept = generator.uniform(target[0, 0].numel()).view(len(target), 1, *target.shape[2:])
            seen = seen * (kept >= self.settings.dropped)
        return target, seen.clamp(0, 1)
