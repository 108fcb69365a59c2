"""Pictures of what a pretext task sees and answers: made by `PretextTask.show`, drawn by `medssl show`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

Column: TypeAlias = tuple[Tensor, str | Sequence[str]]


@dataclass(frozen=True)
class Picture:
    """One row of a batch, panels side by side; nothing in it names a patient.

    Attributes:
        panels: (C, H, W) float32 in [0, 1] each, C of 1 or 3; they may differ in size.
        captions: one a panel, of a few words.
    """

    panels: list[Tensor]
    captions: list[str]


def pictures(*columns: Column) -> list[Picture]:
    """One Picture a row.

    Args:
        columns: (N, C, *spatial) each, with one caption for all rows or N of them. Volumes are shown by their middle
            axial slice, upright as the slices of 2-D samples are.
    """
    flat = [(middle(images), [text] * len(images) if isinstance(text, str) else list(text)) for images, text in columns]
    rows = range(len(columns[0][0]))
    return [Picture([x[row] for x, _ in flat], [text[row] for _, text in flat]) for row in rows]


def middle(images: Tensor) -> Tensor:
    """(N, C, *spatial) -> (N, 1 or 3, H, W) float32 in [0, 1] on the CPU: of volumes the middle axial slice, of several
    channels that cannot be colours the first."""
    if images.shape[1] != 3:
        images = images[:, :1]
    if images.ndim == 5:
        images = images[:, :, images.shape[2] // 2].flip(-2, -1)
    return images.detach().float().cpu().clamp(0, 1)


def taken_for_each_other(views: Tensor, embeddings: Tensor) -> list[Column]:
    """Two views, and which second view the network takes for that of the first one's image.

    Args:
        views: (2 * N, C, *spatial), all first ones first.
        embeddings: (2 * N, D) of them.
    """
    first, second = views.chunk(2)
    here, there = F.normalize(embeddings.float(), dim=1).chunk(2)
    found = (here @ there.T).argmax(1)
    words = ["right" if row == at else "wrong" for row, at in enumerate(found.tolist())]
    return [(first, "view 1"), (second, "view 2"), (second[found], [f"taken for view 2: {word}" for word in words])]


def beside(tiles: Tensor, columns: int, gap: int = 2) -> Tensor:
    """Tiles laid out in rows of `columns`, with white gaps: (N, T, C, *tile) -> (N, C, H, W)."""
    rows, count = tiles.shape[:2]
    flat = middle(tiles.flatten(0, 1))
    flat = flat.view(rows, count, *flat.shape[1:])
    channels, height, width = flat.shape[2:]
    lines = -(-count // columns)
    out = torch.ones(rows, channels, lines * (height + gap) - gap, columns * (width + gap) - gap)
    for number in range(count):
        top, left = number // columns * (height + gap), number % columns * (width + gap)
        out[:, :, top : top + height, left : left + width] = flat[:, number]
    return out


def laid(tiles: Tensor, grid: int) -> Tensor:
    """Tiles of a grid, (N, grid^dims, C, *tile) in its C-order, where they belong: (N, C, H, W).

    Of a volume the slabs lie side by side, the uppermost on the left, each turned upright as `middle` turns a slice.
    """
    if tiles.ndim == 5:
        return beside(tiles, grid)
    return beside(tiles.unflatten(1, (grid, grid, grid)).transpose(1, 2).flatten(1, 3).flip(1), grid * grid)


def verdict(said: Tensor, truth: Tensor, words: Sequence[str]) -> list[str]:
    """Captions: what was answered, (N,), and what was right, (N,), in the words for the answers."""
    pairs = zip(said.tolist(), truth.tolist(), strict=True)
    return [f"{words[a]}: right" if a == b else f"{words[a]}: wrong" for a, b in pairs]
