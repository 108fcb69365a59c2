"""Cutting tiles out of images, for the tasks that ask how tiles lie to each other."""

from __future__ import annotations

import itertools
from functools import lru_cache

import torch
from torch import Tensor

from medssl.augment import RowGenerator


def tile_size(side: int, grid: int, gap: float) -> int:
    """Pixels of a tile: a cell of the grid less the share of it that stays free for gap and jitter."""
    return max(1, round(side / grid * (1 - gap)))


def cut(images: Tensor, cells: Tensor, grid: int, size: int, generator: RowGenerator) -> Tensor:
    """Cut one tile out of each named cell, at a random place inside the cell.

    Since a tile is smaller than its cell, neighbours do not touch (so lines do not run on from one into the next), and
    where they lie does not say which they are.

    Args:
        images: (N, C, *spatial), all sides equal.
        cells: (N, T) numbers of cells in C-order of a grid of `grid` cells a side.
        grid: cells a side.
        size: pixels a side of a tile.
        generator: of the same N rows.

    Returns:
        (N, T, C, size, ...).
    """
    rows, tiles = cells.shape
    dims, side = images.ndim - 2, images.shape[-1]
    cell = side // grid
    jitter = generator.integers(cell - size + 1, tiles * dims).view(rows, tiles, dims)
    places = torch.arange(size, device=images.device)
    out = images.unsqueeze(1)
    for axis in range(dims):
        number = cells // grid ** (dims - 1 - axis) % grid
        index = (number * cell + jitter[..., axis])[..., None] + places  # (N, T, size)
        shape = [rows, tiles, 1, *[1] * dims]
        shape[3 + axis] = size
        target = [rows, tiles, *out.shape[2:]]
        target[3 + axis] = size
        out = out.expand(rows, tiles, *out.shape[2:]).gather(3 + axis, index.view(shape).expand(target))
    return out


def standardised(tiles: Tensor) -> Tensor:
    """Each tile with mean .5 and deviation .25, so that brightness, which falls off towards the border of many scans
    (vignetting, coil profile, collimation), does not tell where a tile was (Noroozi and Favaro 2016, section 4.2)."""
    flat = tiles.flatten(3)
    mean, deviation = flat.mean((2, 3), keepdim=True), flat.std((2, 3), keepdim=True).clamp_min(1e-3)
    return ((flat - mean) / deviation * 0.25 + 0.5).view(tiles.shape)


@lru_cache(maxsize=8)
def permutations(tiles: int, count: int) -> Tensor:
    """(count, tiles): permutations far apart in Hamming distance, chosen greedily (Noroozi and Favaro 2016,
    algorithm 1): the first at random, then always the one that is farthest from those chosen. With few tiles out of all
    permutations, with many out of 20,000 random ones; the same ones in every run."""
    draw = torch.Generator().manual_seed(0)
    if tiles <= 7:
        pool = torch.tensor(list(itertools.permutations(range(tiles))))
    else:
        pool = torch.stack([torch.randperm(tiles, generator=draw) for _ in range(20_000)])
    if count > len(pool):
        raise ValueError(f"{tiles} tiles have only {len(pool)} permutations")
    chosen = [int(torch.randint(len(pool), (1,), generator=draw))]
    nearest = (pool != pool[chosen[0]]).sum(1)
    for _ in range(count - 1):
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, (pool != pool[chosen[-1]]).sum(1))
    return pool[chosen]
