"""Where slices lie (PS3.3 C.7.6.2.1.1): their order, whether they are an even stack, and its exact affine.

All points are in DICOM's LPS mm; `affine_ras` turns them to RAS+ at the very end.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medssl.ingest.readers.dicom.header import Header
from medssl.ingest.records import Reject

SAME_DIRECTION = 2e-3  # difference of direction cosines within a stack (0.1 degrees)
SAME_SPACING = 1e-4  # of the pixel spacing
STEP_TOLERANCE = 0.02  # of the step, and
POSITION_TOLERANCE_MM = 0.02  # how far a slice may lie from where an even stack has it
SAME_PLACE_MM = 1e-3


def same_plane(a: Header, b: Header) -> bool:
    """Whether two slices may belong to one stack: same matrix, pixel size and direction, and the same kind of value."""
    if (a.rows, a.columns, a.samples, a.container) != (b.rows, b.columns, b.samples, b.container):
        return False
    if (a.rescale_type, a.table) != (b.rescale_type, b.table):
        return False
    if a.orientation == b.orientation and a.spacing == b.spacing:
        return True
    assert a.spacing is not None and b.spacing is not None
    near = all(abs(p - q) <= SAME_SPACING * q for p, q in zip(a.spacing, b.spacing, strict=True))
    return near and same_direction(a, b)


def same_direction(a: Header, b: Header) -> bool:
    assert a.orientation is not None and b.orientation is not None
    return all(abs(p - q) <= SAME_DIRECTION for p, q in zip(a.orientation, b.orientation, strict=True))


class Plane:
    """Slices of one plane, by index: `positions` (N, 3) and `depths` (N,) along the normal, in mm.

    Raises:
        Reject: the two directions of the first slice are not of unit length or not perpendicular.
    """

    def __init__(self, slices: Sequence[Header]) -> None:
        self.slices = slices
        self.positions = np.array([s.position for s in slices], float)
        self.depths = self.positions @ normal_of(slices[0])
        self.numbers = np.array([s.number for s in slices])

    def sort(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """By depth; ties by instance number."""
        indices = np.asarray(indices, int)
        return indices[np.lexsort((indices, self.numbers[indices], self.depths[indices]))]

    def places(self, order: np.ndarray) -> np.ndarray:
        """0, 1, 2, ...: the how-manieth distinct depth each slice of a sorted list lies at."""
        return np.concatenate([[0], np.cumsum(np.diff(self.depths[order]) >= SAME_PLACE_MM)])

    def problem(self, order: np.ndarray) -> str | None:
        """None for an even stack in this order, else the code of what is wrong. One slice is even."""
        if len(order) < 2:
            return None
        positions, depths = self.positions[order], self.depths[order]
        gaps = np.diff(depths)
        if depths[-1] - depths[0] < SAME_PLACE_MM:
            return "not_a_volume"
        if gaps.min() < SAME_PLACE_MM:
            return "duplicate_slices"
        step = (positions[-1] - positions[0]) / (len(order) - 1)
        tolerance = POSITION_TOLERANCE_MM + STEP_TOLERANCE * float(np.median(gaps))
        off = positions - (positions[0] + np.arange(len(order))[:, None] * step)
        if np.linalg.norm(off, axis=1).max() <= tolerance:
            return None
        along = np.abs(depths - (depths[0] + np.arange(len(order)) * gaps.mean()))
        if along.max() <= tolerance:
            return "shifted_slices"
        multiples = gaps / gaps.min()
        whole = np.abs(multiples - np.rint(multiples)).max() < 0.1
        return "missing_slices" if whole and np.rint(multiples).max() >= 2 else "uneven_slices"


def normal_of(header: Header) -> np.ndarray:
    """Unit normal of the slice.

    Raises:
        Reject: the two directions are not of unit length or not perpendicular.
    """
    row, column = np.array(header.orientation[:3]), np.array(header.orientation[3:])  # type: ignore[index]
    if abs(row @ row - 1) > 0.01 or abs(column @ column - 1) > 0.01 or abs(row @ column) > 0.01:
        raise Reject("bad_geometry")
    normal = np.cross(row, column)
    return normal / np.linalg.norm(normal)


def affine_ras(slices: Sequence[Header]) -> np.ndarray:
    """4 x 4 from (column, row, slice) indices of a sorted stack to RAS+ mm; a tilted gantry stays as a shear.

    One slice gets its thickness (or 1 mm) along the normal, so that the matrix can be inverted.
    """
    first, last = slices[0], slices[-1]
    row, column = np.array(first.orientation[:3]), np.array(first.orientation[3:])  # type: ignore[index]
    affine = np.eye(4)
    affine[:3, 0] = row * first.spacing[1]  # type: ignore[index]
    affine[:3, 1] = column * first.spacing[0]  # type: ignore[index]
    if len(slices) > 1:
        affine[:3, 2] = (np.array(last.position) - np.array(first.position)) / (len(slices) - 1)
    else:
        affine[:3, 2] = normal_of(first) * (first.thickness or 1.0)
    affine[:3, 3] = first.position
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def tilt_degrees(affine: np.ndarray) -> float:
    """Between the direction in which slices are stacked and their normal; 0 for a box."""
    normal, step = np.cross(affine[:3, 0], affine[:3, 1]), affine[:3, 2]
    cosine = abs(normal @ step) / (np.linalg.norm(normal) * np.linalg.norm(step))
    return float(np.degrees(np.arccos(min(1.0, cosine))))
