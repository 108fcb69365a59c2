"""Whether an image holds a line of text, without reading it.

Letters are thin strokes that stand out from what is around them, all of one height, side by side on one line. So: the
image less its opening leaves what is thin and bright; connected pieces of it that have a letter's shape are put
into rows by their upper and lower edges. Three in a row are text. Anatomy has thin bright lines as well, but hardly
ever three of one height at one level with small gaps. Handwriting, single letters (side markers), faint and vertical
text are missed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

LETTERS = 3  # in a row
SMALLEST = 96  # pixels a side, below which no text is legible
SIDE = 1024  # pixels to which larger images are shrunk first
STROKE = 9  # pixels: what is at least this wide is no stroke
CONTRAST = 0.3  # of the image's range, by which a stroke stands out
HEIGHTS = (5, 40)  # pixels
WIDEST = 1.6  # a letter's width in its height
FILLED = 0.2  # of the box around a letter, at least
SPACE = 1.2  # the widest gap within a line, in heights
UNEVEN = 0.15  # in heights, by which edges on a line may differ
CROWD = 0.01  # pieces a pixel: so many are texture and not text


def has_text(image: np.ndarray) -> bool:
    """Args: image: (y, x) or (C, y, x), of any type."""
    gray = image.max(0) if image.ndim == 3 else image
    if min(gray.shape) < SMALLEST:
        return False
    gray = _shrunk(gray, -(-max(gray.shape) // SIDE))
    low, high = float(gray.min()), float(gray.max())
    if not high > low:
        return False
    levels = ((gray - low) * (255 / (high - low))).astype(np.uint8)
    for _ in range(2):  # large letters have strokes that count as thin at half the size
        if any(_longest_line(_letters(side)) >= LETTERS for side in (levels, 255 - levels)):
            return True
        levels = _shrunk(levels, 2).astype(np.uint8)
    return False


def _shrunk(gray: np.ndarray, factor: int) -> np.ndarray:
    """Means of blocks, as float32; what does not fill a block at the far edges is cut off."""
    if factor == 1:
        return gray.astype(np.float32)
    rows, columns = (n // factor for n in gray.shape)
    blocks = gray[: rows * factor, : columns * factor].reshape(rows, factor, columns, factor)
    return blocks.mean((1, 3), dtype=np.float32)


def _letters(levels: np.ndarray) -> np.ndarray:
    """Boxes (top, bottom, left, right) of the pieces that have a letter's shape, from left to right."""
    from scipy import ndimage

    thin = levels - ndimage.grey_opening(levels, (STROKE, STROKE))
    pieces, count = ndimage.label((thin > 255 * CONTRAST) & (levels > 140), np.ones((3, 3)))
    if not 0 < count < CROWD * levels.size:
        return np.zeros((0, 4), int)
    sizes = np.bincount(pieces.ravel())[1:]
    slices: Any = ndimage.find_objects(pieces)
    boxes = np.array([(y.start, y.stop, x.start, x.stop) for y, x in slices])
    height, width = boxes[:, 1] - boxes[:, 0], boxes[:, 3] - boxes[:, 2]
    fits = (height >= HEIGHTS[0]) & (height <= HEIGHTS[1]) & (width <= WIDEST * height)
    boxes = boxes[fits & (sizes >= FILLED * height * width)]
    return boxes[np.argsort(boxes[:, 2], kind="stable")]


def _longest_line(boxes: np.ndarray) -> int:
    """The most letters that follow each other on one line."""
    best = np.ones(len(boxes), int)
    for i in range(len(boxes) - 1, -1, -1):
        top, bottom, _, right = boxes[i]
        height = bottom - top
        edge = max(1, UNEVEN * height)
        gaps = boxes[i + 1 :, 2] - right
        near = (gaps >= -1) & (gaps <= SPACE * height + 1)
        level = (abs(boxes[i + 1 :, 0] - top) <= edge) & (abs(boxes[i + 1 :, 1] - bottom) <= edge)
        best[i] += max(best[i + 1 :][near & level], default=0)
    return int(max(best, default=0))
