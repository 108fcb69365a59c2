"""SimMIM: paint hidden blocks, with a single layer for a decoder (Xie 2022, "SimMIM: a simple framework for masked
image modeling").

Any encoder serves. A hidden block is covered by one learned block of pixels: for a transformer that is a learned token
(its patches are a linear map of their pixels), and a convolution sees it like any other content. Blocks are as large as
the encoder's last stride, so that each place of the last features is wholly visible or wholly hidden. Only hidden
pixels count, by their absolute error (L1).

Shortcut: small blocks are filled in from their surroundings; the paper's best are of 32 pixels at 192.
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medssl.augment import RowGenerator
from medssl.config import View
from medssl.encoders import Encoder
from medssl.encoders.resnet import CONV
from medssl.errors import UserError
from medssl.pretext.base import Batch, PretextTask, TaskSettings
from medssl.pretext.decoder import PixelShuffle
from medssl.pretext.mae import hidden_count
from medssl.pretext.pictures import Picture, pictures


class Settings(TaskSettings):
    """
    Attributes:
        hidden: share of the blocks that are covered.
        block: pixels a side of a block; 0 takes the stride of the encoder's last features.
    """

    hidden: Annotated[float, Field(gt=0, lt=1)] = 0.6
    block: Annotated[int, Field(ge=0)] = 0


class SimMIM(PretextTask):
    name = "simmim"
    paper = "Xie, Zhang, Cao et al. 2022, arXiv:2111.09886"
    line = "paint the covered blocks of an image, with a single layer on the features"
    Settings = Settings
    collapsible = False
    compares = False
    dims = (2, 3)
    smallest = 32

    def __init__(self, encoder: Encoder, settings: Any, view: View, modality: str = "") -> None:
        super().__init__(encoder, settings, view, modality)
        dims, stride = view.spatial_dims, encoder.strides[-1]
        self.block = settings.block or stride
        if view.size % self.block or view.size % stride:
            raise UserError(
                f"{view.size} pixels are not divided by blocks of {self.block} and features of stride {stride}",
                "view.size",
                f"Set --size {max(2, round(view.size / stride)) * stride}, or simmim.block={stride}.",
            )
        self.cells = view.size // self.block
        self.count = hidden_count("simmim", settings.hidden, self.cells**dims)
        self.cover = nn.Parameter(torch.full((1, view.channels, *[self.block] * dims), 0.5))
        self.paint = nn.Sequential(
            CONV[dims](encoder.channels[-1], view.channels * stride**dims, 1), PixelShuffle(stride)
        )
        self.plan = self.views(gamma=0.0, blur=0.0, noise=0.0, cutout=0.0)

    def loss(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, dict[str, Tensor]]:
        images, hidden = self.puzzle(batch, generator)
        painted = self.paint(self.pyramid(self.covered(images, hidden))[-1])
        return absolute_error(painted.float(), images, hidden), {}

    def floor(self, batch: Batch, generator: RowGenerator) -> dict[str, float]:
        """Every hidden pixel painted in the mean of the visible ones."""
        images, hidden = self.puzzle(batch, generator)
        mean = (images * ~hidden).flatten(2).sum(2) / (~hidden).flatten(2).sum(2)
        return {"loss": float(absolute_error(mean.view(*mean.shape, *[1] * (images.ndim - 2)), images, hidden))}

    def show(self, batch: Batch, generator: RowGenerator) -> list[Picture]:
        """The image, what is seen of it, and what is painted."""
        return pictures(*zip(self.painted(batch, generator), ("image", "seen", "painted"), strict=True))

    def made(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, Tensor]:
        image, _, painted = self.painted(batch, generator)
        return image, painted

    def painted(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, Tensor, Tensor]:
        """The image, the covered one, and the image with what is painted there, (N, C, *spatial) each."""
        images, hidden = self.puzzle(batch, generator)
        seen = self.covered(images, hidden)
        painted = self.paint(self.pyramid(seen)[-1]).float()
        return images, seen, torch.where(hidden, painted, images)

    def puzzle(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, Tensor]:
        """The images, and where they are covered, (N, 1, *spatial) bool."""
        images = self.new_view(batch.images, self.plan, generator)
        dims = images.ndim - 2
        chosen = generator.order(self.cells**dims) < self.count
        grid = chosen.view(-1, 1, *[self.cells] * dims)
        return images, F.interpolate(grid.float(), images.shape[2:], mode="nearest") > 0.5

    def covered(self, images: Tensor, hidden: Tensor) -> Tensor:
        """What the encoder sees."""
        return torch.where(hidden, self.cover.tile([1, 1, *[self.cells] * (images.ndim - 2)]), images)


def absolute_error(painted: Tensor, target: Tensor, hidden: Tensor) -> Tensor:
    """Mean over hidden pixels alone."""
    return ((painted - target).abs() * hidden).sum() / (hidden.sum() * target.shape[1])
