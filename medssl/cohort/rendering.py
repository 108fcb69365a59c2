"""From the array of one scan to gray levels in [0, 255] on the grid that a View asks for.

Orientation of slices is constant: axial with anterior up, coronal and sagittal with superior up; the patient's right is
on the viewer's left in axial and coronal slices (radiological convention), anterior on the left in sagittal ones. 2-D
images stay as they were stored.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image

from medssl.config import View
from medssl.errors import UserError

AXIS = {"axial": -3, "coronal": -2, "sagittal": -1}  # of an array (z, y, x) or (C, z, y, x) in RAS+
WORLD = {"axial": 2, "coronal": 1, "sagittal": 0}  # of a point (x, y, z) in RAS+ mm
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


def is_volume(row: dict) -> bool:
    """Whether a scan has slices: `volume` (z, y, x) or `colour_volume` (C, z, y, x)."""
    return row["kind"] in ("volume", "colour_volume")


@dataclass(frozen=True)
class Grid:
    """How one axis is resampled: source interval [low, high) in voxels -> `count` of `size` pixels from `start` on."""

    low: float
    high: float
    start: int
    count: int


def gray_range(row: dict, array: np.ndarray, view: View) -> tuple[float, float]:
    """(black, white) in the scan's own unit.

    `auto`: the View's window for HU, 0 to 255 for 8-bit images, percentiles of the unpadded voxels otherwise.
    """
    mode = view.intensity
    if mode == "auto":
        if row["unit"] == "HU":
            mode = "window"
        elif row["kind"] != "volume" and array.dtype == np.uint8:
            mode = "range"
        else:
            mode = "percentiles"
    if mode == "window":
        return view.window
    if mode == "range":
        return (0.0, 255.0) if array.dtype == np.uint8 else (float(array.min()), float(array.max()))
    known = {float(k): v for k, v in (row["percentiles"] or {}).items()}
    try:
        return known[view.percentiles[0]], known[view.percentiles[1]]
    except KeyError:
        choices = ", ".join(f"{k:g}" for k in sorted(known))
        raise UserError(
            "percentiles that are not in the catalog", "view.percentiles", f"Choose from {choices}."
        ) from None


def to_gray(array: np.ndarray, padding: np.ndarray | None, low: float, high: float) -> np.ndarray:
    """float32 in [0, 255]; uint8 is passed through where the range is its own. Padding is black."""
    if array.dtype == np.uint8 and (low, high) == (0.0, 255.0):
        gray = np.asarray(array)
    else:
        gray = array.astype(np.float32)
        gray -= low
        gray *= 255.0 / (high - low if high > low else 1.0)
        np.clip(gray, 0, 255, out=gray)
    return gray if padding is None else np.where(padding, gray.dtype.type(0), gray)


def grids(shape: tuple[int, ...], spacing: list[float], view: View, centre: np.ndarray | None = None) -> list[Grid]:
    """One Grid an axis for an array of this shape and spacing (mm; 1 for each axis where it is unknown).

    Fields of view are compared in mm, so that thick slices keep their true height. With `view.spacing` a pixel has
    that many mm: what is too large is cut about `centre` (in voxels; default the array's), what is too small gets a
    black margin.
    """
    fields = [n * s for n, s in zip(shape, spacing, strict=True)]
    size, plans = view.size, []
    middle = np.asarray(shape) / 2 if centre is None else centre
    for n, step, field, c in zip(shape, spacing, fields, middle, strict=True):
        if view.spacing is not None:  # whole pixels of exactly that many mm
            pixel = view.spacing
            shown = pixel * max(1, min(size, int(field / pixel + 1e-6)))
        elif view.fit == "crop":
            shown, pixel = min(fields), min(fields) / size
        elif view.fit == "pad":
            shown, pixel = field, max(fields) / size
        else:
            shown, pixel = field, field / size
        count = min(size, max(1, round(shown / pixel)))
        half = shown / step / 2
        plans.append(Grid(max(0.0, c - half), min(float(n), c + half), (size - count) // 2, count))
    return plans


def resample(image: np.ndarray, rows: Grid, columns: Grid) -> np.ndarray:
    """(H, W) uint8 or float32 -> (rows.count, columns.count), averaging over the source pixels that each one covers."""
    shrinks = rows.high - rows.low >= rows.count and columns.high - columns.low >= columns.count
    how = Image.Resampling.HAMMING if shrinks else Image.Resampling.BILINEAR
    box = (columns.low, rows.low, columns.high, rows.high)
    if image.shape == (rows.count, columns.count) and box == (0, 0, image.shape[1], image.shape[0]):
        return image
    return np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize((columns.count, rows.count), how, box))


def render_plane(image: np.ndarray, spacing: list[float], view: View) -> np.ndarray:
    """(H, W) gray levels -> (size, size) uint8."""
    rows, columns = grids(image.shape, spacing, view)
    out = np.zeros((view.size, view.size), np.uint8)
    small = resample(image, rows, columns)
    target = out[rows.start : rows.start + rows.count, columns.start : columns.start + columns.count]
    target[...] = small if small.dtype == np.uint8 else np.rint(small)
    return out


def render_image(array: np.ndarray, row: dict, padding: np.ndarray | None, view: View) -> np.ndarray:
    """A 2-D scan, (y, x) or (C, y, x) -> (channels, size, size) uint8."""
    low, high = gray_range(row, array, view)
    spacing = _spacing(row, 2)
    return _render_channels(to_gray(array, padding, low, high), spacing, view)


def render_slice(volume: np.ndarray, row: dict, padding: np.ndarray | None, index: int, view: View) -> np.ndarray:
    """Slice `index` along `view.plane` of a volume (z, y, x) or (C, z, y, x) -> (channels, size, size) uint8."""
    axis = AXIS[view.plane]
    image = upright(np.take(volume, index, axis))
    hidden = None if padding is None else upright(np.take(padding, index, axis))
    spacing = _spacing(row, 3)
    del spacing[axis]
    return _render_channels(to_gray(image, hidden, *gray_range(row, volume, view)), spacing, view)


def render_volume(
    volume: np.ndarray, row: dict, padding: np.ndarray | None, view: View, centre: np.ndarray | None = None
) -> np.ndarray:
    """A volume (z, y, x) or (C, z, y, x), or its patch about `centre` -> (channels, size, size, size) uint8.

    Axes are in the order of the array.
    """
    low, high = gray_range(row, volume, view)
    spacing = _spacing(row, 3)

    def gray(k: int) -> np.ndarray:  # slice by slice, so that no float copy of the whole volume is made
        return to_gray(volume[..., k, :, :], None if padding is None else padding[k], low, high)

    if volume.ndim == 3:
        out = _render_stack(gray, volume.shape, spacing, view, centre)
        return np.broadcast_to(out, (view.channels, *out.shape))
    if view.channels == 3:
        channels = [partial(lambda c, k: gray(k)[c], c) for c in range(3)]
        return np.stack([_render_stack(channel, volume.shape[1:], spacing, view, centre) for channel in channels])
    return _render_stack(lambda k: _luminance(gray(k)), volume.shape[1:], spacing, view, centre)[None]


def _render_channels(gray: np.ndarray, spacing: list[float], view: View) -> np.ndarray:
    """(H, W) or (C, H, W) gray levels -> (channels, size, size) uint8."""
    if gray.ndim == 2:
        return np.broadcast_to(render_plane(gray, spacing, view), (view.channels, view.size, view.size))
    if view.channels == 3:
        return np.stack([render_plane(channel, spacing, view) for channel in gray[:3]])
    return render_plane(_luminance(gray), spacing, view)[None]


def _luminance(colours: np.ndarray) -> np.ndarray:
    """(C, H, W) -> (H, W) float32."""
    return np.tensordot(LUMINANCE, colours[:3].astype(np.float32), 1)


def _render_stack(
    gray: Callable[[int], np.ndarray],
    shape: tuple[int, ...],
    spacing: list[float],
    view: View,
    centre: np.ndarray | None,
) -> np.ndarray:
    """Slices `gray(k)`, (H, W) each, of a volume of this shape -> (size, size, size) uint8."""
    deep, rows, columns = grids(shape, spacing, view, centre)
    first, last = int(np.floor(deep.low)), int(np.ceil(deep.high))
    planes = [resample(gray(k).astype(np.float32), rows, columns) for k in range(first, last)]
    stack = np.stack(planes).reshape(last - first, -1)
    along = Grid(deep.low - first, deep.high - first, deep.start, deep.count)
    across = Grid(0, stack.shape[1], 0, stack.shape[1])
    small = resample(stack, along, across).reshape(deep.count, rows.count, columns.count)
    out = np.zeros((view.size,) * 3, np.uint8)
    place = tuple(slice(g.start, g.start + g.count) for g in (deep, rows, columns))
    out[place] = np.rint(small)
    return out


def patch_centres(shape: tuple[int, ...], spacing: list[float], view: View) -> np.ndarray:
    """(P, 3): centres, in voxels from the array's corner, of at most `view.patches` patches on an even grid.

    The grid grows along the axis whose patches are furthest apart. Patches lie inside the volume and overlap where more
    are asked for than fit side by side; a volume no larger than a patch has one.
    """
    shown = [g.high - g.low for g in grids(shape, spacing, view)]
    free = [n - s for n, s in zip(shape, shown, strict=True)]
    counts, wanted = [1, 1, 1], view.patches or 1
    while math.prod(counts) < wanted:
        gaps = [f * s / c if c <= f else 0.0 for f, s, c in zip(free, spacing, counts, strict=True)]
        if not max(gaps):
            break
        counts[int(np.argmax(gaps))] += 1
    axes = [np.linspace(s / 2, s / 2 + f, c) if c > 1 else np.array([(s + f) / 2]) for s, f, c in
            zip(shown, free, counts, strict=True)]  # fmt: skip
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    return points[slice_indices(len(points), wanted)]


def upright(plane: np.ndarray) -> np.ndarray:
    """Turn a slice of a RAS+ array to the constant orientation that this module states.

    All three planes need both axes flipped: (y, x) to anterior up and right left, (z, x) to superior up and right left,
    (z, y) to superior up and anterior left.
    """
    return plane[..., ::-1, ::-1]


def slice_indices(count: int, wanted: int | None) -> np.ndarray:
    """At most `wanted` of `count` slices: the centres of equal parts of the scan."""
    if wanted is None or wanted >= count:
        return np.arange(count)
    return ((np.arange(wanted) + 0.5) * count / wanted).astype(int)


def slice_position(row: dict, plane: str, index: np.ndarray) -> np.ndarray:
    """World coordinate (RAS+, mm) along the slice axis of the centre of each slice; NaN without geometry."""
    if row["affine"] is None:
        return np.full(len(index), np.nan)
    affine = np.asarray(row["affine"], float)
    depth, height, width = row["shape"][-3:]
    points = np.tile([(width - 1) / 2, (height - 1) / 2, (depth - 1) / 2, 1.0], (len(index), 1))
    points[:, WORLD[plane]] = index
    return points @ affine[WORLD[plane]]


def _spacing(row: dict, dims: int) -> list[float]:
    return list(row["spacing"]) if row["spacing"] else [1.0] * dims
