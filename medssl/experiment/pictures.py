"""Pictures of scans for people: what an encoder sees of them, larger, with heat and masks laid over."""

from __future__ import annotations

import io

import numpy as np

from medssl.cohort import Cohort, Samples, viewing
from medssl.cohort import rendering as draw

HEAT = np.array([255, 120, 0], np.float32)  # orange, on gray told apart by every kind of colour sight
OUTLINE = np.array([0, 200, 255], np.uint8)
STRONGEST = 0.65  # opacity of heat 1


def picture(cohort: Cohort, samples: Samples, place: int, size: int = 192, veiled: bool = False) -> np.ndarray:
    """Sample number `place` at `size` pixels: the same field of view, gray levels and slice, drawn from the scan anew.

    Of several contrasts or windows it is the first; of a 3-D sample the middle axial slice.

    Args:
        veiled: blurred, for scans whose pixels may carry a name.

    Returns:
        (size, size) or in colour (size, size, 3) uint8.
    """
    from PIL import Image

    found = _picture(cohort, samples, place, size)
    return np.asarray(viewing.blurred(Image.fromarray(found))) if veiled else found


def _picture(cohort: Cohort, samples: Samples, place: int, size: int) -> np.ndarray:
    if samples.view.spatial_dims == 3:
        return _resized(_middle(samples.images[place][0]), size)
    row, view = cohort.scan(str(samples.table["scan"].iloc[place])), samples.view
    fine = view.model_copy(
        update={
            "size": size,
            "spacing": view.spacing and view.spacing * view.size / size,
            "channels": 3 if view.colour else 1,
            **({"intensity": "window", "window": view.windows[0]} if view.windows else {}),
        }
    )
    array, padding = cohort.array(row["scan"]), cohort.padding(row["scan"])
    if draw.is_volume(row):
        found = draw.render_slice(array, row, padding, int(samples.table["slice"].iloc[place]), fine)
    else:
        found = draw.render_image(array, row, padding, fine)
    return np.moveaxis(found, 0, 2) if len(found) == 3 else found[0]


def outline(cohort: Cohort, samples: Samples, place: int, size: int = 192) -> np.ndarray | None:
    """(size, size) bool: the edge of the scan's mask in `picture`; None where it has none, or the sample is 3-D."""
    scan, view = str(samples.table["scan"].iloc[place]), samples.view
    mask = None if view.spatial_dims == 3 else cohort.mask(scan)
    if mask is None:
        return None
    row, spacing = cohort.scan(scan), None
    spacing = list(row["spacing"] or [1.0] * mask.ndim)
    if draw.is_volume(row):
        axis = draw.AXIS[view.plane]
        mask = draw.upright(np.take(mask, int(samples.table["slice"].iloc[place]), axis))
        del spacing[axis]
    fine = view.model_copy(update={"size": size, "spacing": view.spacing and view.spacing * view.size / size})
    inside = draw.render_plane((np.asarray(mask) > 0).astype(np.uint8) * 255, spacing, fine) > 127
    within = inside.copy()
    for axis in (0, 1):
        for shift in (-2, 2):
            within &= np.roll(inside, shift, axis)
    return inside & ~within


def overlaid(image: np.ndarray, heat: np.ndarray | None = None, edge: np.ndarray | None = None) -> np.ndarray:
    """(H, W, 3) uint8: a picture with heat over it, and an outline.

    Args:
        image: (H, W) or (H, W, 3) uint8.
        heat: in [0, 1]; (h, w), or (d, h, w) of a 3-D sample, of which the middle slice is shown as `picture` does.
        edge: (H, W) bool.
    """
    shown = np.repeat(image[..., None], 3, 2) if image.ndim == 2 else image.copy()
    if heat is not None:
        flat = _middle(heat) if heat.ndim == 3 else heat
        strength = STRONGEST * _resized((255 * flat).astype(np.uint8), len(shown))[..., None].astype(np.float32) / 255
        shown = np.rint(shown * (1 - strength) + HEAT * strength).astype(np.uint8)
    if edge is not None:
        shown[edge] = OUTLINE
    return shown


def to_png(image: np.ndarray) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    return out.getvalue()


def _middle(volume: np.ndarray) -> np.ndarray:
    return draw.upright(volume[len(volume) // 2])


def _resized(image: np.ndarray, size: int) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize((size, size), Image.Resampling.BILINEAR))
