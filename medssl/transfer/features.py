"""Features of units: the handcrafted ones, and means over the samples of a unit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from medssl.errors import UserError
from medssl.transfer.radiomics import radiomics_features

PIXELS = "pixels"  # stands for an encoder's name in an arm
SIDE = 16


def pixel_features(images: np.ndarray) -> np.ndarray:
    """16 x 16 block means of each sample: what position and brightness alone tell.

    Args:
        images: (N, C, H, W) uint8, H and W multiples of 16.

    Returns:
        (N, C * 256) float32 in [0, 1].
    """
    if images.ndim != 4:
        fix = "Take the encoder radiomics, which measures volumes too."
        raise UserError("raw pixels are those of images, and these are volumes", "arms", fix)
    n, channels, height, width = images.shape
    if height % SIDE or width % SIDE:
        raise UserError(f"raw pixels need a size that {SIDE} divides, not {height} x {width}", "view.size")
    out = np.empty((n, channels * SIDE * SIDE), dtype=np.float32)
    for start in range(0, n, 1024):  # the samples are memory-mapped and may be large
        block = images[start : start + 1024].astype(np.float32)
        grid = block.reshape(len(block), channels, SIDE, height // SIDE, SIDE, width // SIDE)
        out[start : start + 1024] = grid.mean((3, 5)).reshape(len(block), -1) / 255
    return out


# what may stand for an encoder's name in an arm: images (N, C, *spatial) uint8 -> (N, D) float32, without learning
HANDCRAFTED: dict[str, Callable[[np.ndarray], np.ndarray]] = {PIXELS: pixel_features, "radiomics": radiomics_features}


def pool_scale(features: np.ndarray, pool: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and spread (D,) of features (units, D) over the units `pool` (P,), whose labels that does not need.

    With a handful of labels the labeled units alone would give a poor estimate of either.
    """
    known = features[pool]
    return known.mean(0), known.std(0) + 1e-6


def unit_means(features: np.ndarray, unit_of: np.ndarray, units: int) -> np.ndarray:
    """Mean over the samples of each unit: (N, D) -> (units, D). Samples with unit -1 are left out."""
    used = unit_of >= 0
    counts = np.bincount(unit_of[used], minlength=units)
    if (counts == 0).any():
        raise UserError(f"{int((counts == 0).sum())} labeled unit(s) have no image in this view", "view")
    total = np.zeros((units, features.shape[1]), dtype=np.float64)
    np.add.at(total, unit_of[used], features[used])
    return (total / counts[:, None]).astype(np.float32)
