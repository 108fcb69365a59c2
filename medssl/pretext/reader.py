"""A head that answers for every place of a coarse grid: which colour, or which gray value, belongs there."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl.config import View
from medssl.encoders import Encoder
from medssl.encoders.resnet import CONV, norm_layer
from medssl.errors import UserError
from medssl.pretext.decoder import LINEAR


class Reader(nn.Module):
    """From a feature pyramid to (N, outputs, *grid).

    Each level goes through a 1x1 convolution of its own, is interpolated to the grid, and all are summed. That is the
    same as a 1x1 convolution of the hypercolumn (Hariharan 2015), the levels interpolated and put behind each other,
    and needs no memory for it.

    Args:
        encoder: whose pyramid is read.
        width: channels of the sum.
        outputs: of each place.
        whole: reads all levels, each place by itself; else the coarsest level alone, with a 3x3 convolution.
        parts: the pyramid is given in so many equal parts of its channels, and this reads one.
    """

    def __init__(self, encoder: Encoder, width: int, outputs: int, whole: bool = False, parts: int = 1) -> None:
        super().__init__()
        dims = encoder.spatial_dims
        norm = "group" if any(isinstance(m, nn.GroupNorm) for m in encoder.modules()) else "batch"
        conv, self.mode = CONV[dims], LINEAR[dims]
        levels = encoder.channels if whole else encoder.channels[-1:]
        self.levels = nn.ModuleList(conv(channels // parts, width, 1, bias=False) for channels in levels)
        kernel = 1 if whole else 3
        self.answer = nn.Sequential(
            norm_layer(norm, dims, width),
            nn.ReLU(inplace=True),
            conv(width, width, kernel, padding=kernel // 2, bias=False),
            norm_layer(norm, dims, width),
            nn.ReLU(inplace=True),
            conv(width, outputs, 1),
        )

    def forward(self, pyramid: list[Tensor], grid: list[int]) -> Tensor:
        maps = pyramid[-len(self.levels) :]
        parts = [
            F.interpolate(level(features), grid, mode=self.mode)
            for level, features in zip(self.levels, maps, strict=True)
        ]
        return self.answer(torch.stack(parts).sum(0) if len(parts) > 1 else parts[0])


def grid_of(view: View, cell: int, task: str) -> list[int]:
    """Places a side of the grid of cells of `cell` pixels.

    Raises:
        UserError: the side is no multiple of the cell.
    """
    if view.size % cell:
        size = max(1, round(view.size / cell)) * cell
        raise UserError(f"cells of {cell} do not divide {view.size} pixels", f"{task}.cell", f"Set --size {size}.")
    return [view.size // cell] * view.spatial_dims
