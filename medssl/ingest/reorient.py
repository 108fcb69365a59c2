"""Turning a volume to the closest RAS+ axes: only flips and swaps of axes, never interpolation."""

from __future__ import annotations

import numpy as np


def to_ras(volume: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reorient as nibabel's `as_closest_canonical` does.

    Args:
        volume: (k, j, i), so that index (i, j, k) maps to RAS+ mm by `affine`; or (C, k, j, i).

    Returns:
        (z, y, x) or (C, z, y, x) in C-order, and the affine of (x, y, z).
    """
    from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

    turn = io_orientation(affine)
    xyz = apply_orientation(volume.T if volume.ndim == 3 else np.moveaxis(volume.T, -1, 3), turn)
    turned = xyz.T if volume.ndim == 3 else np.moveaxis(xyz, 3, 0).transpose(0, 3, 2, 1)
    return np.ascontiguousarray(turned), affine @ inv_ornt_aff(turn, volume.shape[:-4:-1])


def as_stored(volume: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """The inverse, without a copy: a view (k, j, i) on a RAS+ array (z, y, x), through which slices can be written.

    Args:
        volume: the array, or (C, z, y, x), whose view is (k, j, i, C).
        affine: of index (i, j, k).
    """
    from nibabel.orientations import io_orientation

    turn = io_orientation(affine)
    xyz = np.moveaxis(volume, (-1, -2, -3), (0, 1, 2))  # (x, y, z[, C])
    rest = range(3, volume.ndim)
    ijk = xyz.transpose([*(int(axis) for axis in turn[:, 0]), *rest])
    ijk = ijk[tuple(slice(None, None, int(flip)) for flip in turn[:, 1])]
    return ijk.transpose(2, 1, 0, *rest)


def turned_shape(shape: tuple[int, ...], affine: np.ndarray) -> tuple[tuple[int, ...], np.ndarray]:
    """(z, y, x) of a volume (k, j, i) that will be turned, and its affine then."""
    from nibabel.orientations import inv_ornt_aff, io_orientation

    turn = io_orientation(affine)
    xyz = [0, 0, 0]
    for axis, count in zip(turn[:, 0], shape[::-1], strict=True):
        xyz[int(axis)] = count
    return tuple(xyz[::-1]), affine @ inv_ornt_aff(turn, shape[::-1])


def spacing_of(affine: np.ndarray) -> tuple[float, float, float]:
    """mm between neighbours along (z, y, x); along a sheared axis, the length of its step."""
    x, y, z = np.linalg.norm(affine[:3, :3], axis=0)
    return float(z), float(y), float(x)
