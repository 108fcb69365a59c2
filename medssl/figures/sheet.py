"""Pictures of pretext tasks on one sheet: a title and rows of panels with captions, as a PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from medssl.errors import UserError
from medssl.workspace import atomic

HEIGHT, GAP, TITLE, CAPTION = 128, 10, 16, 12  # pixels
INK, PAPER, QUIET = "black", "white", "#555555"


class Section(NamedTuple):
    """A title, what stands under it, and rows: anything with `panels`, (C, H, W) in [0, 1] each, and `captions`."""

    title: str
    line: str
    rows: Sequence[Any]


def save_sheet(sections: Sequence[Section], path: Path | str) -> Path:
    """Draw the sections one under the other and write them as `.png`; whole or not at all.

    Raises:
        UserError: another ending.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise UserError("pictures are saved as .png", path.name, "Give the file that ending.")
    drawn = [_section(section) for section in sections]
    sheet = Image.new("RGB", (max(i.width for i in drawn), sum(i.height for i in drawn)), PAPER)
    top = 0
    for image in drawn:
        sheet.paste(image, (0, top))
        top += image.height
    with atomic(path) as fresh:
        sheet.save(fresh, "PNG")
    return path


def panel_png(panel: Any) -> bytes:
    """A panel, (C, H, W) in [0, 1], as a PNG of its own pixels; nothing but these is in it."""
    buffer = io.BytesIO()
    _pixels(panel).save(buffer, "PNG")
    return buffer.getvalue()


def _section(section: Section) -> Image.Image:
    small, large = ImageFont.load_default(CAPTION), ImageFont.load_default(TITLE)
    rows = [[(_panel(panel), text) for panel, text in zip(r.panels, r.captions, strict=True)] for r in section.rows]
    columns = max(len(row) for row in rows)
    widths = [
        max(max(i.width, int(small.getlength(t))) for row in rows for i, t in row[k : k + 1]) for k in range(columns)
    ]
    lefts = [GAP + sum(widths[:k]) + k * GAP for k in range(columns)]
    head = 2 * GAP + TITLE + CAPTION
    each = HEIGHT + CAPTION + 2 * GAP
    width = max(lefts[-1] + widths[-1], GAP + int(max(large.getlength(section.title), small.getlength(section.line))))
    sheet = Image.new("RGB", (width + GAP, head + len(rows) * each + GAP), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((GAP, GAP), section.title, INK, large)
    pen.text((GAP, GAP + TITLE + 4), section.line, QUIET, small)
    for number, row in enumerate(rows):
        top = head + GAP + number * each
        for left, (image, caption) in zip(lefts, row, strict=False):
            sheet.paste(image, (left, top))
            pen.text((left, top + HEIGHT + 2), caption, QUIET, small)
    return sheet


def _panel(panel: Any) -> Image.Image:
    """(C, H, W) in [0, 1] as an image of `HEIGHT` pixels; its own stay sharp, since they are what the network saw."""
    image = _pixels(panel)
    return image.resize((max(1, round(image.width * HEIGHT / image.height)), HEIGHT), Image.Resampling.NEAREST)


def _pixels(panel: Any) -> Image.Image:
    pixels = np.rint(np.asarray(panel) * 255).astype(np.uint8)
    return Image.fromarray(pixels[0] if len(pixels) == 1 else np.moveaxis(pixels[:3], 0, -1)).convert("RGB")
