"""DICOM Segmentation objects (PS3.3 A.51 and C.8.20) -> label masks on the grid of the scans that they refer to.

Binary, fractional and label map objects; segment numbers are the labels. Frames say by their functional groups where
they lie, so they may cover part of the slices, part of a slice, or several stacks; where they miss the scan's grid,
nothing is interpolated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medssl.ingest.opening import open_file
from medssl.ingest.readers.dicom.attributes import number, numbers, text
from medssl.ingest.records import File, Reject

CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")  # Segmentation, Label Map Segmentation
OFF_GRID = 0.05  # of a voxel, by which the corners of a frame may miss voxel centres
TAGS = """
    SOPInstanceUID Rows Columns NumberOfFrames SamplesPerPixel SegmentationType MaximumFractionalValue SegmentSequence
    ReferencedSeriesSequence SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence
    """.split()


@dataclass(slots=True)
class Frame:
    """Which segment a frame shows (0: all, of a label map), and its affine of (column, row) to RAS+ mm or None."""

    segment: int
    affine: np.ndarray | None


@dataclass(slots=True)
class Segmentation:
    """What is known of an object before its pixels are read.

    Attributes:
        kind: BINARY, FRACTIONAL or LABELMAP.
        full: the value of a fractional object that stands for 1.
        instances, series: UIDs of the images that it was drawn on; they stay in memory.
    """

    sop: str
    rows: int
    columns: int
    kind: str
    full: float
    frames: list[Frame]
    instances: frozenset[str]
    series: frozenset[str]


def is_one(sop_class: str) -> bool:
    return sop_class in CLASSES


def probe(source: File) -> Segmentation:
    """Raises Reject: unreadable; bad_frames (functional groups that do not fit); too_large."""
    import pydicom

    with open_file(source) as file:
        try:
            data = pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=TAGS)
            return _segmentation(data, source)
        except Reject:
            raise
        except Exception:  # pydicom raises whatever its parser stumbles over
            raise Reject("unreadable") from None


def frames_on(header: Segmentation, shape: Sequence[int], affine: Any) -> list[int]:
    """The frames that lie on the voxel grid of a scan, by index.

    Args:
        shape: of its grid, (z, y, x) or (y, x).
        affine: 4 x 4, index (x, y, z) to RAS+ mm; None for an image that does not say where it lies, which a frame
            without a place fits if it is as large.
    """
    if affine is None:
        alike = tuple(shape[-2:]) == (header.rows, header.columns)
        return [i for i, frame in enumerate(header.frames) if frame.affine is None and alike]
    counts = np.array([*shape[::-1], 1][:3])
    return [
        i for i, frame in enumerate(header.frames) if _voxels(frame, header, counts, np.asarray(affine)) is not None
    ]


def read(file: File, header: Segmentation, frames: list[int], shape: Sequence[int], affine: Any) -> np.ndarray:
    """Labels of these frames on the grid of a scan, (z, y, x), 0 where there is none.

    Args: as for `frames_on`; a slice (y, x) counts as one of a volume.

    Raises:
        Reject: mask_overlaps where two segments claim one voxel; unreadable.
    """
    import pydicom
    from pydicom.config import disable_value_validation
    from pydicom.pixels import iter_pixels

    counts = np.array([*shape[::-1], 1][:3])
    labels = np.zeros(counts[::-1], np.uint16)
    with open_file(file) as stream, disable_value_validation():
        data = pydicom.dcmread(stream, force=True)
        for i, values in zip(frames, iter_pixels(data, raw=True, indices=frames), strict=True):
            frame = header.frames[i]
            at = None if affine is None else _voxels(frame, header, counts, np.asarray(affine))
            x, y, z = (np.arange(header.columns), np.arange(header.rows)[:, None], 0) if at is None else at
            fresh = _labels(np.asarray(values).reshape(header.rows, header.columns), frame, header)
            old = labels[z, y, x]
            if ((old != 0) & (fresh != 0) & (old != fresh)).any():
                raise Reject("mask_overlaps")
            labels[z, y, x] = np.maximum(old, fresh)
    return labels


def _labels(values: np.ndarray, frame: Frame, header: Segmentation) -> np.ndarray:
    if header.kind == "LABELMAP":
        return values.astype(np.uint16)
    inside = values * 2.0 >= header.full if header.kind == "FRACTIONAL" else values != 0
    return inside * np.uint16(frame.segment)


def _voxels(
    frame: Frame, header: Segmentation, counts: np.ndarray, affine: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Indices x, y, z of the frame's pixels in the scan, each (rows, 1), (1, columns) or (1, 1); None off its grid."""
    if frame.affine is None:
        return None
    to_voxel = np.linalg.inv(affine) @ frame.affine
    corners = np.array([(c, r, 0, 1) for c in (0, header.columns - 1) for r in (0, header.rows - 1)]).T
    start, steps = np.rint(to_voxel[:3, 3]).astype(int), np.rint(to_voxel[:3, :2]).astype(int)
    whole = start[:, None] + steps @ corners[:2]
    if np.abs((to_voxel @ corners)[:3] - whole).max() > OFF_GRID or (np.abs(steps).sum(0) != 1).any():
        return None
    if (whole < 0).any() or (whole >= counts[:, None]).any():
        return None
    columns, rows = np.arange(header.columns)[None, :], np.arange(header.rows)[:, None]
    x, y, z = (start[k] + steps[k, 0] * columns + steps[k, 1] * rows for k in range(3))
    return x, y, z


def _segmentation(data: Any, source: File) -> Segmentation:
    rows, columns, count = int(data.Rows), int(data.Columns), int(data.get("NumberOfFrames") or 1)
    kind = text(data.get("SegmentationType")).upper()
    per_frame = list(data.get("PerFrameFunctionalGroupsSequence") or ())
    if kind not in ("BINARY", "FRACTIONAL", "LABELMAP") or int(data.get("SamplesPerPixel") or 1) != 1:
        raise Reject("unsupported_pixels")
    if len(per_frame) != count or rows < 1 or columns < 1:
        raise Reject("bad_frames")
    if rows * columns > 400_000_000 or (
        rows * columns * count > 64 << 20 and rows * columns * count > 16000 * source.size
    ):
        raise Reject("too_large")
    shared = next(iter(data.get("SharedFunctionalGroupsSequence") or ()), None)
    known = {int(item.SegmentNumber) for item in data.get("SegmentSequence") or () if "SegmentNumber" in item}
    instances: set[str] = set()
    frames = []
    for own in per_frame:
        groups = [group for group in (own, shared) if group is not None]
        segment = 0
        if kind != "LABELMAP":
            segment = int(_first(groups, "SegmentIdentificationSequence", "ReferencedSegmentNumber") or 0)
            if segment not in known or not 0 < segment < 2**16:
                raise Reject("bad_frames")
        frames.append(Frame(segment, _affine(groups)))
        for item in own.get("DerivationImageSequence") or ():
            instances |= {text(i.get("ReferencedSOPInstanceUID")) for i in item.get("SourceImageSequence") or ()}
    series = set()
    for item in data.get("ReferencedSeriesSequence") or ():
        series.add(text(item.get("SeriesInstanceUID")))
        instances |= {text(i.get("ReferencedSOPInstanceUID")) for i in item.get("ReferencedInstanceSequence") or ()}
    return Segmentation(
        text(data.get("SOPInstanceUID")), rows, columns, kind, number(data.get("MaximumFractionalValue")) or 255.0,
        frames, frozenset(instances - {""}), frozenset(series - {""}),
    )  # fmt: skip


def _affine(groups: list[Any]) -> np.ndarray | None:
    position = numbers(_first(groups, "PlanePositionSequence", "ImagePositionPatient"), 3)
    orientation = numbers(_first(groups, "PlaneOrientationSequence", "ImageOrientationPatient"), 6)
    spacing = numbers(_first(groups, "PixelMeasuresSequence", "PixelSpacing"), 2)
    if position is None or orientation is None or spacing is None:
        return None
    affine = np.eye(4)
    affine[:3, 0] = np.array(orientation[:3]) * spacing[1]
    affine[:3, 1] = np.array(orientation[3:]) * spacing[0]
    affine[:3, 2] = np.cross(orientation[:3], orientation[3:])
    affine[:3, 3] = position
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _first(groups: list[Any], sequence: str, name: str) -> Any:
    for group in groups:
        items = group.get(sequence)
        if items and (value := items[0].get(name)) is not None:
            return value
    return None
