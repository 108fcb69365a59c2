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
from torch import Tensor

from medssl.augment import RowGenerator
from medssl.config import View
from medssl.encoders import Encoder
from medssl.errors import UserError
from medssl.pretext.base import Batch, PretextTask, TaskSettings
from medssl.pretext.decoder import decoder_of
from medssl.pretext.pictures import Picture, pictures


class Settings(TaskSettings):
    """
    Attributes:
        cells: the image is divided into cells x cells blocks (a volume into cells x cells x cells).
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
    dims = (2, 3)
    compares = False

    def __init__(self, encoder: Encoder, settings: Any, view: View, modality: str = "") -> None:
        super().__init__(encoder, settings, view, modality)
        if settings.cells > view.size:
            raise UserError(f"{settings.cells} cells do not fit {view.size} pixels", "inpainting.cells")
        self.decoder = decoder_of(encoder, settings.width, view)
        self.plan = self.views(blur=0.0, noise=0.0, cutout=0.0)

    def loss(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, dict[str, Tensor]]:
        target, seen, hidden = self.puzzle(batch, generator)
        painted = self.decoder(self.pyramid(seen)[-1], target.shape[2:])
        return masked_error(painted.float(), target, hidden), {}

    def floor(self, batch: Batch, generator: RowGenerator) -> dict[str, float]:
        target, seen, hidden = self.puzzle(batch, generator)
        return {"loss": float(masked_error(seen, target, hidden))}  # hidden pixels of `seen` are the visible mean

    def show(self, batch: Batch, generator: RowGenerator) -> list[Picture]:
        target, seen, hidden = self.puzzle(batch, generator)
        painted = self.decoder(self.pyramid(seen)[-1], target.shape[2:]).float()
        return pictures((seen, "seen"), (torch.where(hidden, painted, seen), "answer"), (target, "truth"))

    def puzzle(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, Tensor, Tensor]:
        """The whole image, the image with holes, and where the holes are: (N, 1, *spatial) bool."""
        target = self.new_view(batch.images, self.plan, generator)
        hidden = holes(generator, self.settings.cells, self.settings.hidden, target.shape[2:])
        visible = (target * ~hidden).flatten(2).sum(2) / (~hidden).flatten(2).sum(2).clamp_min(1)
        return target, torch.where(hidden, visible.view(*visible.shape, *[1] * (target.ndim - 2)), target), hidden


def holes(generator: RowGenerator, cells: int, share: float, size: torch.Size) -> Tensor:
    """(N, 1, *size) bool: in each row the same number of blocks of a grid of `cells` a side, at random places."""
    total = cells ** len(size)
    count = min(max(1, round(share * total)), total - 1)
    chosen = generator.order(total).argsort(1) < count  # rank below count
    grid = chosen.view(-1, 1, *[cells] * len(size))
    return F.interpolate(grid.float(), size, mode="nearest") > 0.5


def masked_error(painted: Tensor, target: Tensor, hidden: Tensor) -> Tensor:
    """Mean squared error over hidden pixels alone."""
    return (((painted - target) ** 2) * hidden).sum() / (hidden.sum() * target.shape[1])
