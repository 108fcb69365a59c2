"""Turning a volume to the closest RAS+ axes: only flips and swaps of axes, never interpolation."""

from __future__ import annotations

import numpy as np


def to_ras(volume: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reorient as nibabel's `as_closest_canonical` does.

    Args:
        volume: (k, j, i), so that index (i, j, k) maps to RAS+ mm by `affine`.

    Returns:
        (z, y, x) in C-order, and the affine of (x, y, z).
    """
    from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

    turn = io_orientation(affine)
    xyz = apply_orientation(volume.transpose(2, 1, 0), turn)
    return np.ascontiguousarray(xyz.transpose(2, 1, 0)), affine @ inv_ornt_aff(turn, volume.shape[::-1])


def spacing_of(affine: np.ndarray) -> tuple[float, float, float]:
    """mm between neighbours along (z, y, x); along a sheared axis, the length of its step."""
    x, y, z = np.linalg.norm(affine[:3, :3], axis=0)
    return float(z), float(y), float(x)
