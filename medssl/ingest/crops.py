"""Photographs with boxes (Pascal VOC) -> one picture an object, with a label table: cells of a smear, for instance.

OUT/NAME_000.png   squares of the same number of pixels about each box's centre
OUT/labels.csv     file, photograph (what must stay on one side of a split), label

Squares of one size, not boxes scaled to one: an object's size stays visible, and nothing is resampled. At the border of
a photograph the square moves inwards. Neighbours are seen too and may be labeled in their own crops, so one
photograph's crops belong together as one patient's scans do.
"""

from __future__ import annotations

import csv
import io
import shutil
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from medssl.errors import SourcePath, UserError
from medssl.progress import bar
from medssl.workspace import write_text

LABELS, COLUMNS = "labels.csv", ("file", "photograph", "label")
LEAST = 8  # pixels: what is flatter is no object but a slip of the mouse
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
FIX = "Name a folder with annotations in VOC XML and the pictures beside them or in JPEGImages."


def cut_crops(folder: Path, out: Path, size: int = 128) -> dict[str, Any]:
    """Cut every box out of every photograph. A second call writes the same files again.

    Args:
        folder: holds VOC XML files, in `Annotations` or anywhere below.
        out: new, empty, or left by an earlier call.
        size: pixels a side of a crop.

    Returns:
        {"folder", "photographs", "crops", "left_out", "labels": {label: crops}}; left out are boxes that are flatter
        than 8 pixels.

    Raises:
        UserError: no annotations, one that cannot be read or has no picture, a photograph smaller than a crop, or an
            `out` that holds something else.
    """
    folder, out = Path(folder), Path(out)
    notes = sorted(folder.rglob("*.xml"))
    if not notes:
        raise UserError("no annotations (VOC XML) in this folder", SourcePath(folder), FIX)
    if out.exists() and not _is_ours(out):
        raise UserError("the folder for crops holds something else", SourcePath(out), "Name a new or empty one.")
    fresh = out.with_name(f"{out.name}.partial")  # becomes `out` when it is whole
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        rows, left_out = _cut(folder, notes, fresh, size)
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([COLUMNS, *rows])
        write_text(fresh / LABELS, text.getvalue())
        shutil.rmtree(out, ignore_errors=True)
        fresh.rename(out)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    counts = dict(sorted(Counter(label for *_, label in rows).items()))
    return {"folder": str(out), "photographs": len(notes), "crops": len(rows), "left_out": left_out, "labels": counts}


def _cut(folder: Path, notes: list[Path], out: Path, size: int) -> tuple[list[tuple[str, str, str]], int]:
    """Rows of the label table, and how many boxes were left out."""
    from PIL import Image

    known = {path.stem: path for path in sorted(folder.rglob("*")) if path.suffix.lower() in PICTURES}
    rows, left_out = [], 0
    with bar("photographs", len(notes)) as progress:
        for note in notes:
            if note.stem not in known:
                raise UserError("an annotation has no picture of its name", SourcePath(note), FIX)
            with Image.open(known[note.stem]) as picture:
                photograph = picture.convert("RGB")
            if min(photograph.size) < size:
                what = f"a photograph with a side of {min(photograph.size)} pixels is smaller than a crop of {size}"
                raise UserError(what, SourcePath(note), f"Set --size {min(photograph.size)} or less.")
            for number, (label, box) in enumerate(boxes(note)):
                if min(box[2] - box[0], box[3] - box[1]) < LEAST:
                    left_out += 1
                    continue
                name = f"{note.stem}_{number:03d}.png"
                photograph.crop(square(box, photograph.size, size)).save(out / name, "PNG")
                rows.append((name, note.stem, label))
            progress.advance()
    return rows, left_out


def _is_ours(out: Path) -> bool:
    """Empty, or nothing but what an earlier call wrote: what is there will be replaced."""
    names = {path.name for path in out.iterdir()}
    if not names:
        return True
    if LABELS not in names:
        return False
    with (out / LABELS).open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    return rows[:1] == [list(COLUMNS)] and names <= {LABELS, *(row[0] for row in rows[1:])}


def boxes(note: Path) -> list[tuple[str, tuple[int, int, int, int]]]:
    """Label and (left, top, right, bottom) in pixels of each object in a VOC XML file.

    Raises:
        UserError: it cannot be read as such.
    """
    found = []
    try:
        for one in ElementTree.parse(note).getroot().findall("object"):
            left, top, right, bottom = (
                round(float(one.findtext(f"bndbox/{side}", ""))) for side in ("xmin", "ymin", "xmax", "ymax")
            )
            found.append((one.findtext("name", "").strip(), (left, top, right, bottom)))
        return found
    except (ElementTree.ParseError, ValueError):
        raise UserError("an annotation is no VOC XML", SourcePath(note), FIX) from None


def square(box: tuple[int, int, int, int], photograph: tuple[int, int], size: int) -> tuple[int, int, int, int]:
    """The square of `size` about the box's centre, moved inwards where it would leave the photograph."""
    left, top = (
        min(max(0, (low + high - size) // 2), whole - size)
        for low, high, whole in zip(box[:2], box[2:], photograph, strict=True)
    )
    return left, top, left + size, top + size
