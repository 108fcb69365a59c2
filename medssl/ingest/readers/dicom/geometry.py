"""Slices -> stacks with an exact affine (PS3.3 C.7.6.2.1.1), or the reason why they are none.

All points are in DICOM's LPS mm; `affine_ras` turns them to RAS+ at the very end.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from medssl.ingest.readers.dicom.header import REPEATS, Header
from medssl.ingest.records import Reject

SAME_DIRECTION = 2e-3  # difference of direction cosines within a stack (0.1 degrees)
STEP_TOLERANCE = 0.02  # of the step, and
POSITION_TOLERANCE_MM = 0.02  # how far a slice may lie from where an even stack has it
SAME_PLACE_MM = 1e-3
ENOUGH = 3  # slices in each of the stacks into which a series may be taken apart


def same_plane(a: Header, b: Header) -> bool:
    """Whether two slices may belong to one stack: same matrix, pixel size and direction."""
    if (a.rows, a.columns, a.samples) != (b.rows, b.columns, b.samples):
        return False
    if a.spacing is None or b.spacing is None or not np.allclose(a.spacing, b.spacing, rtol=1e-4):
        return False
    return bool(np.allclose(a.orientation, b.orientation, atol=SAME_DIRECTION))  # type: ignore[arg-type]


def stacks(slices: Sequence[Header]) -> list[list[int]]:
    """Indices of the slices of each even stack, in the order of their projection on the slice normal.

    Slices that repeat positions are told apart by echo, time or b-value; a change of thickness within the series parts
    two stacks. Anything else that is not even is refused: its spacing would be wrong.

    Raises:
        Reject: the code says what is wrong with the positions.
    """
    everything = sort(slices, range(len(slices)))
    problem = uneven(slices, everything)
    if problem is None:
        return [everything]
    keys = REPEATS if problem == "duplicate_slices" else ("SliceThickness",)
    for key in keys:
        parts: dict[str, list[int]] = defaultdict(list)
        for i in everything:
            header = slices[i]
            parts[str(header.thickness) if key == "SliceThickness" else header.repeats[REPEATS.index(key)]].append(i)
        if len(parts) > 1 and all(len(p) >= ENOUGH and uneven(slices, p) is None for p in parts.values()):
            return list(parts.values())
    raise Reject(problem)


def sort(slices: Sequence[Header], indices: Sequence[int]) -> list[int]:
    """By the projection of ImagePositionPatient on the slice normal; ties by instance number."""
    normal = normal_of(slices[indices[0]])
    return sorted(indices, key=lambda i: (float(np.dot(normal, slices[i].position)), slices[i].number))  # type: ignore[arg-type]


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


def uneven(slices: Sequence[Header], order: Sequence[int]) -> str | None:
    """None for an even stack, else the code of what is wrong. One slice is even."""
    if len(order) < 2:
        return None
    positions = np.array([slices[i].position for i in order])
    depths = positions @ normal_of(slices[order[0]])
    gaps = np.diff(depths)
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


def is_tilted(affine: np.ndarray) -> bool:
    """Whether slices are not stacked along their normal (more than 0.5 degrees off)."""
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    step = affine[:3, 2]
    return abs(normal @ step) < np.cos(np.radians(0.5)) * np.linalg.norm(normal) * np.linalg.norm(step)
