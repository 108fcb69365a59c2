"""One scan for a person to look at: a slice with window and mask as a PNG, and small pictures that are made once.

Small pictures lie in `thumbnails/` of the cohort under the scan's id and the beginning of its content hash, so that a
scan that was replaced gets a new one.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from medssl.cohort.cohort import Cohort
from medssl.cohort.rendering import AXIS, is_volume, render_image, render_plane, render_slice, upright
from medssl.config import View
from medssl.errors import UserError
from medssl.workspace import atomic

SIDE, LARGE = 160, 640  # pixels of a small and of a large picture
BLUR = 7  # pixels of the blur that makes burned-in text in a small picture illegible
HU_WINDOWS = {  # usual windows, (low, high) in HU
    "Soft tissue": (-160.0, 240.0),
    "Lung": (-1350.0, 150.0),
    "Bone": (-450.0, 1050.0),
    "Brain": (0.0, 80.0),
    "Mediastinum": (-125.0, 225.0),
    "Liver": (-15.0, 135.0),
}
PERCENTILES = {  # of the scan's own values, where they have no absolute scale
    "All values": ("0.5", "99.5"),
    "More contrast": ("5", "95"),
    "Dark parts": ("0.5", "50"),
    "Bright parts": ("50", "99.5"),
}
# of the values of a mask: Okabe and Ito's, which the colour-blind can tell apart, those that show on gray first
MASK_COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (204, 121, 167), (213, 94, 0))


def windows(row: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Window presets of a scan: name -> (black, white) in its unit. The first one is the usual one."""
    if row["unit"] == "HU":
        return dict(HU_WINDOWS)
    stored = {"As stored": (0.0, 255.0)} if row["dtype"] == "uint8" and row["kind"] != "volume" else {}
    known = row["percentiles"] or {}
    found = {
        name: (float(known[low]), float(known[high]))
        for name, (low, high) in PERCENTILES.items()
        if low in known and high in known and known[low] < known[high]
    }
    return stored | found or {"As stored": (0.0, 255.0)}


def slices(row: dict[str, Any], plane: str) -> int:
    """Slices of a scan along this plane's axis; an image has one."""
    return int(row["shape"][AXIS[plane]]) if is_volume(row) else 1


def picture(
    cohort: Cohort,
    row: dict[str, Any],
    index: int = 0,
    plane: str = "axial",
    window: tuple[float, float] | None = None,
    mask: bool = False,
    size: int = LARGE,
) -> Image.Image:
    """A slice of a volume or a whole image, with black bars to a square, and true in its proportions.

    Args:
        row: as `Cohort.scan` gives it.
        index: of the slice along `plane`, counted from the patient's feet, back, or left.
        window: what becomes black and white, in the scan's unit; default the first of `windows`.
        mask: lay the scan's mask over it.

    Raises:
        UserError: no such slice, or the array is gone.
    """
    if not 0 <= index < slices(row, plane):
        raise UserError(f"the scan has {slices(row, plane)} {plane} slices, and no slice {index}", row["scan"])
    low, high = window or next(iter(windows(row).values()))
    view = _view(row, size, plane, (low, high))
    array, padding = cohort.array(row["scan"]), cohort.padding(row["scan"])
    if is_volume(row):
        drawn = render_slice(array, row, padding, index, view)
    else:
        drawn = render_image(array, row, padding, view)
    image = Image.fromarray(np.moveaxis(drawn, 0, -1) if len(drawn) == 3 else drawn[0]).convert("RGB")
    found = cohort.mask(row["scan"]) if mask else None
    return image if found is None else _overlaid(image, found, row, index, view)


def mask_values(cohort: Cohort, row: dict[str, Any], index: int, plane: str) -> dict[int, tuple[int, int, int]]:
    """The values other than 0 that a scan's mask has in this slice, and the colours in which they are drawn."""
    mask = cohort.mask(row["scan"])
    if mask is None:
        return {}
    return {int(v): _colour(int(v)) for v in np.unique(_plane(mask, row, index, plane)) if v}


def thumbnail(cohort: Cohort, row: dict[str, Any], veiled: bool = False, side: int = SIDE) -> bytes:
    """A PNG of the middle axial slice, or of the image; made once, then read from `thumbnails/`.

    Args:
        veiled: blurred, for scans whose pixels may carry a name.

    Raises:
        UserError: the array is gone.
    """
    scan = row["scan"]
    folder = cohort.path / "thumbnails" / scan[1:3]
    file = folder / f"{scan}-{row['content_hash'][:12]}-{side}{'-veiled' * veiled}.png"
    try:
        return file.read_bytes()
    except FileNotFoundError:
        pass
    image = picture(cohort, row, slices(row, "axial") // 2, size=side)
    content = png(blurred(image) if veiled else image)
    try:
        with atomic(file) as fresh:
            fresh.write_bytes(content)
    except OSError:  # a cohort on a disk that may only be read, or is full: the picture is shown all the same
        pass
    return content


def blurred(image: Image.Image) -> Image.Image:
    """Text in it is illegible: as much, for its size, as in a small picture."""
    return image.filter(ImageFilter.GaussianBlur(BLUR * max(image.size) / SIDE))


def png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def _view(row: dict[str, Any], size: int, plane: str, window: tuple[float, float]) -> View:
    colour = row["kind"].startswith("colour") and row["shape"][0] >= 3
    settings = {"size": size, "plane": plane, "fit": "pad", "channels": 3 if colour else 1}
    return View.model_validate({**settings, "intensity": "window", "window": window})


def _overlaid(image: Image.Image, mask: np.ndarray, row: dict[str, Any], index: int, view: View) -> Image.Image:
    """Each value of the mask as a tint with a full rim, on the very grid of the picture."""
    plane = _plane(mask, row, index, view.plane)
    spacing = list(row["spacing"]) if row["spacing"] else [1.0] * mask.ndim
    if is_volume(row):
        del spacing[AXIS[view.plane]]
    out = np.asarray(image).copy()
    for value in (int(v) for v in np.unique(plane) if v):
        inside = render_plane(np.where(plane == value, np.float32(255), np.float32(0)), spacing, view) >= 128
        padded = np.pad(inside, 1)
        core = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        colour = np.array(_colour(value))
        out[inside] = np.rint(0.72 * out[inside] + 0.28 * colour)
        out[inside & ~core] = colour
    return Image.fromarray(out)


def _plane(mask: np.ndarray, row: dict[str, Any], index: int, plane: str) -> np.ndarray:
    return upright(np.take(mask, index, AXIS[plane])) if is_volume(row) else np.asarray(mask)


def _colour(value: int) -> tuple[int, int, int]:
    return MASK_COLOURS[(value - 1) % len(MASK_COLOURS)]
