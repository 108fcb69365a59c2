"""Inpainting: fill in what was cut out (Pathak 2016, "Context encoders: feature learning by inpainting").

Blocks of a grid are hidden behind the mean of what stays visible, and a light decoder on the encoder's coarsest
features paints them; only hidden pixels count. The reconstruction loss alone, no adversary. There are no skip
connections from finer levels: they would carry the edges around the encoder's last stages, and it is those that
transfer.

Shortcut: a block copied from its surroundings by blurring. Large blocks (an eighth of the side, half of them hidden)
leave holes that interpolation cannot fill.
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medssl.augment import RowGenerator, make_view
from medssl.config import View
from medssl.encoders import Encoder
from medssl.errors import UserError
from medssl.pretext.base import Batch, PretextTask, TaskSettings


class Settings(TaskSettings):
    """
    Attributes:
        cells: the image is divided into cells x cells blocks.
        hidden: share of the blocks that are cut out.
        width: channels of the decoder.
    """

    cells: Annotated[int, Field(ge=2)] = 8
    hidden: Annotated[float, Field(gt=0, lt=1)] = 0.5
    width: Annotated[int, Field(ge=8)] = 64


class Inpainting(PretextTask):
    name = "inpainting"
    paper = "Pathak, Krähenbühl, Donahue, Darrell, Efros 2016, arXiv:1604.07379"
    line = "paint the blocks that were cut out of an image"
    Settings = Settings

    def __init__(self, encoder: Encoder, settings: Any, view: View, modality: str = "") -> None:
        super().__init__(encoder, settings, view, modality)
        if settings.cells > view.size:
            raise UserError(f"{settings.cells} cells do not fit {view.size} pixels", "inpainting.cells")
        self.decoder = Decoder(encoder.channels[-1], settings.width, encoder.strides[-1], view.channels)
        self.plan = self.views(blur=0.0, noise=0.0, cutout=0.0)

    def loss(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, dict[str, Tensor]]:
        target, seen, hidden = self.puzzle(batch, generator)
        painted = self.decoder(self.pyramid(seen)[-1], target.shape[2:])
        return masked_error(painted.float(), target, hidden), {}

    def floor(self, batch: Batch, generator: RowGenerator) -> dict[str, float]:
        target, seen, hidden = self.puzzle(batch, generator)
        return {"loss": float(masked_error(seen, target, hidden))}  # hidden pixels of `seen` are the visible mean

    def puzzle(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, Tensor, Tensor]:
        """The whole image, the image with holes, and where the holes are: (N, 1, H, W) bool."""
        target = make_view(batch.images, self.plan, generator)
        hidden = holes(generator, self.settings.cells, self.settings.hidden, target.shape[2:])
        visible = (target * ~hidden).flatten(2).sum(2) / (~hidden).flatten(2).sum(2).clamp_min(1)
        return target, torch.where(hidden, visible[:, :, None, None], target), hidden


class Decoder(nn.Module):
    """From the coarsest features to pixels: two doublings with a 3x3 convolution each, the rest by pixel shuffle."""

    def __init__(self, inputs: int, width: int, stride: int, channels: int) -> None:
        super().__init__()
        left = max(1, stride // 4)
        self.body = nn.Sequential(
            nn.Conv2d(inputs, 2 * width, 1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(inplace=True),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.Conv2d(2 * width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.Conv2d(width, channels * left**2, 3, padding=1),
            nn.PixelShuffle(left),
        )

    def forward(self, x: Tensor, size: torch.Size) -> Tensor:
        """(N, inputs, h, w) -> (N, channels, *size)."""
        y = self.body(x)
        return y if y.shape[2:] == size else F.interpolate(y, size, mode="bilinear")


def holes(generator: RowGenerator, cells: int, share: float, size: torch.Size) -> Tensor:
    """(N, 1, H, W) bool: in each row the same number of blocks of a cells x cells grid, at random places."""
    count = min(max(1, round(share * cells**2)), cells**2 - 1)
    chosen = generator.order(cells**2).argsort(1) < count  # rank below count
    grid = chosen.view(-1, 1, cells, cells)
    return F.interpolate(grid.float(), size, mode="nearest") > 0.5


def masked_error(painted: Tensor, target: Tensor, hidden: Tensor) -> Tensor:
    """Mean squared error over hidden pixels alone."""
    return (((painted - target) ** 2) * hidden).sum() / (hidden.sum() * target.shape[1])
