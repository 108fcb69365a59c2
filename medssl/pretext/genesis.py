"""Models Genesis: restore an image that was damaged in four ways (Zhou 2019, "Models Genesis: generic autodidactic
models for 3D medical image analysis").

Non-linear intensity (a monotone Bezier curve, so the network must know organs by appearance), local shuffling of pixels
(texture), and in- or out-painting (context). Each image draws which damages it gets.

Shortcut: from a skip connection the decoder could copy what was not damaged; it has the coarsest features alone.
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
from medssl.pretext.decoder import blank_error, decoder_of
from medssl.pretext.pictures import Picture, pictures

BOXES = 5
LEVELS = 256
Share = Annotated[float, Field(ge=0, le=1)]


class Settings(TaskSettings):
    """Probabilities are the paper's.

    Attributes:
        nonlinear: chance of a new intensity curve.
        shuffling: chance that pixels are shuffled inside small windows.
        painting: chance that boxes are hidden; of these, `inward` hide boxes and the others all but boxes.
        inward: share of in-painting among painted images.
        windows: the image is divided into so many windows a side, half of which are shuffled.
        width: channels of the decoder.
    """

    nonlinear: Share = 0.9
    shuffling: Share = 0.5
    painting: Share = 0.9
    inward: Share = 0.2
    windows: Annotated[int, Field(ge=2)] = 16
    width: Annotated[int, Field(ge=8)] = 64


class Genesis(PretextTask):
    name = "genesis"
    paper = "Zhou, Sodha, Siddiquee et al. 2019, arXiv:1908.06912"
    line = "restore an image after changes of intensity, shuffled pixels and hidden boxes"
    Settings = Settings
    collapsible = False
    compares = False
    dims = (2, 3)

    def __init__(self, encoder: Encoder, settings: Any, view: View, modality: str = "") -> None:
        super().__init__(encoder, settings, view, modality)
        self.decoder = decoder_of(encoder, settings.width, view)
        self.plan = self.views(gamma=0.0, blur=0.0, noise=0.0, cutout=0.0)

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
        """The image, and the damaged one."""
        s = self.settings
        target = self.new_view(batch.images, self.plan, generator)
        with torch.autocast(target.device.type, enabled=False):
            seen = _where(generator.chance(s.shuffling), shuffled(target, s.windows, generator), target)
            seen = _where(generator.chance(s.nonlinear), bezier(seen, generator), seen)
            inside = boxes(target.shape[2:], generator)
            hidden = torch.where(_column(generator.chance(s.inward), inside), inside, ~inside)
            hidden = hidden & _column(generator.chance(s.painting), inside)
            return target, torch.where(hidden, _column(generator.uniform(1)[:, 0], target), seen)


def bezier(x: Tensor, generator: RowGenerator) -> Tensor:
    """A cubic Bezier curve of its own for each row, from 0 to 1 or (half of them) from 1 to 0, applied to [0, 1].

    Its two inner points are random; sorted in both coordinates, so that the curve is monotone.
    """
    points = torch.sort(generator.uniform(4).view(-1, 2, 2), dim=2).values  # (N, coordinate, point)
    t = torch.linspace(0, 1, LEVELS, device=x.device)
    inner = 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2
    curve = points[..., :1] * inner[0] + points[..., 1:] * inner[1] + t**3  # (N, 2, LEVELS)
    levels = torch.searchsorted(curve[:, 0].contiguous(), t.expand(len(x), -1).contiguous()).clamp_max(LEVELS - 1)
    table = curve[:, 1].gather(1, levels)
    table = torch.where(_column(generator.chance(0.5), table), 1 - table, table)
    places = (x.flatten(1) * (LEVELS - 1)).round().long()
    return table.gather(1, places).view(x.shape)


def shuffled(x: Tensor, windows: int, generator: RowGenerator) -> Tensor:
    """Pixels change places inside half of the windows of a grid; sides that the grid does not divide keep a rest."""
    dims, side = x.ndim - 2, x.shape[-1]
    width = max(2, side // windows)
    count = side // width
    inner = (slice(None), slice(None), *[slice(0, count * width)] * dims)
    blocks = x[inner].reshape(len(x), x.shape[1], *[n for _ in range(dims) for n in (count, width)])
    order = [0, 1, *range(2, 2 + 2 * dims, 2), *range(3, 3 + 2 * dims, 2)]
    blocks = blocks.permute(order).reshape(len(x), x.shape[1], count**dims, width**dims)
    keys = generator.uniform(count**dims * width**dims).view(len(x), 1, *blocks.shape[2:])
    moved = blocks.gather(3, keys.argsort(3).expand_as(blocks))
    half = (generator.uniform(count**dims) < 0.5).view(len(x), 1, -1, 1)
    blocks = torch.where(half, moved, blocks).view(len(x), x.shape[1], *[count] * dims, *[width] * dims)
    back = [0, 1, *[axis for d in range(dims) for axis in (2 + d, 2 + dims + d)]]
    out = x.clone()
    out[inner] = blocks.permute(back).reshape(x[inner].shape)
    return out


def boxes(size: torch.Size, generator: RowGenerator) -> Tensor:
    """(N, 1, *size) bool: the union of up to five boxes, each a sixth to a third of the side (half to two thirds for
    the first, so that out-painting leaves something to go by)."""
    rows, dims = len(generator.rows), len(size)
    used = generator.integers(BOXES)[:, 0] + 1
    out = torch.zeros((rows, 1, *size), dtype=torch.bool, device=generator.rows.device)
    for n in range(BOXES):
        side = generator.between(0.5, 0.67, dims) if n == 0 else generator.between(1 / 6, 1 / 3, dims)
        low = generator.uniform(dims) * (1 - side)
        inside = (used > n).view(rows, *[1] * (dims + 1)).expand_as(out).clone()
        for axis, length in enumerate(size):
            centres = (torch.arange(length, device=out.device) + 0.5) / length
            here = (centres >= low[:, axis, None]) & (centres < (low + side)[:, axis, None])
            inside &= here.view(rows, 1, *[length if a == axis else 1 for a in range(dims)])
        out |= inside
    return out


def _column(x: Tensor, like: Tensor) -> Tensor:
    return x.view(-1, *[1] * (like.ndim - 1))


def _where(chosen: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(_column(chosen, yes), yes, no)
