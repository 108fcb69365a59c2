"""`ingest_report.html` and `ingest_report.csv` in the cohort: what became of every file, for people to read.

The page stands alone (no script, no request) and stays small whatever the cohort: pictures and lists are cut off at the
numbers below, and say so. The table has every file. Files and scans go by their keyed ids, and no text of a file is
anywhere in them; the pictures are made from the cohort's own arrays.
"""

from __future__ import annotations

import base64
import csv
import io
import sqlite3
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np

from medssl.cohort import Cohort, catalog, rendering
from medssl.cohort.arrays import read_array
from medssl.cohort.summary import Summary, listed, product, summarize
from medssl.config import View
from medssl.errors import UserError
from medssl.ingest import findings
from medssl.workspace import atomic, write_text

PICTURES = 6  # of each finding
ALL_PICTURES = 120  # on the page: about 1 MB
FILES = 12  # keys of rejected files that a finding names
THUMBNAIL = 96  # pixels a side
BLURRED = 24  # the same, of scans with burned-in text: too few for a letter


def write_page(cohort: Cohort) -> None:
    """Write both files, each whole or not at all."""
    write_text(cohort.path / "ingest_report.html", render_page(cohort))
    with atomic(cohort.path / "ingest_report.csv") as path, path.open("w", newline="", encoding="utf-8") as file:
        _write_table(cohort, csv.writer(file))


def render_page(cohort: Cohort) -> str:
    """The page as HTML text."""
    from markupsafe import Markup

    summary = summarize(cohort)
    pictures = _Pictures(cohort)
    with catalog.reading(cohort.path) as db:
        notes = [_note(db, finding, pictures) for finding in summary.findings]
        examples = [pictures.show(scan) for scan in _examples(db)]
    return _template().render(
        style=Markup(resources.files("medssl").joinpath("page.css").read_text(encoding="utf-8")),
        s=summary,
        parts=[_part(part) for part in summary.parts],
        rejected=[n for n in notes if n["severity"] == "error"],
        noticed=[n for n in notes if n["severity"] != "error"],
        ignored=[{"sentence": _sentence(code), "count": n} for code, n in summary.ignored.items()],
        examples=[e for e in examples if e],
        patients_from=_patients_from(summary),
        pictures_left=pictures.left,
    )


def _write_table(cohort: Cohort, table: Any) -> None:
    """One row a file: its key, status, why, the scans that it belongs to, and the codes of their findings."""
    table.writerow(["file", "status", "code", "sentence", "todo", "scans", "scan_findings"])
    with catalog.reading(cohort.path) as db:
        codes = dict(
            db.execute("SELECT scan, group_concat(code, ' ') FROM findings WHERE scan IS NOT NULL GROUP BY scan")
        )
        several = dict(db.execute("SELECT file, group_concat(scan, ' ') FROM parts GROUP BY file"))
        for file, status, code, scan in db.execute("SELECT file, status, code, scan FROM files ORDER BY file"):
            todo = findings.FINDINGS[code].todo if code in findings.FINDINGS else ""
            scans = several.get(file, scan)  # one file may hold many
            noticed = dict.fromkeys(c for s in scans.split() for c in codes.get(s, "").split())
            table.writerow([file, status, code, _sentence(code) if code else "", todo, scans, " ".join(noticed)])


def _sentence(code: str) -> str:
    return findings.FINDINGS[code].sentence if code in findings.FINDINGS else code.replace("_", " ")


def _part(part: Any) -> dict[str, Any]:
    names = ("vendors", "body_parts", "units")
    return {
        "name": part.name,
        "scans": part.scans,
        "patients": part.patients,
        "shape": product(part.shape),
        "spacing": product(part.spacing),
        **{name: listed(getattr(part, name)) for name in names},
    }


PATIENT_FROM = {
    "id": "by the patient id in their files",
    "labels": "by the label table",
    "exam": "only by their exam, for want of a usable patient id",
    "file": "not at all: each file counts as a patient",
}


def _patients_from(summary: Summary) -> str:
    return "; ".join(f"{n:,} {PATIENT_FROM.get(kind, kind)}" for kind, n in summary.patient_from.items())


def _note(db: sqlite3.Connection, finding: dict[str, Any], pictures: _Pictures) -> dict[str, Any]:
    """A finding with pictures of its scans, or the keys of its files."""
    scans = db.execute(
        "SELECT scan, exam FROM findings JOIN scans USING(scan) WHERE code=? AND severity=? ORDER BY scan LIMIT ?",
        (finding["code"], finding["severity"], 10 * PICTURES),
    ).fetchall()
    firsts = {exam: scan for scan, exam in reversed(scans)}  # one of each exam comes first: those look less alike
    chosen = list(dict.fromkeys([*sorted(firsts.values()), *(scan for scan, _ in scans)]))[:PICTURES]
    files = db.execute(
        "SELECT DISTINCT file FROM findings WHERE code=? AND severity=? AND file IS NOT NULL ORDER BY 1 LIMIT ?",
        (finding["code"], finding["severity"], FILES),
    ).fetchall()
    shown = [picture for scan in chosen if (picture := pictures.show(scan))]
    return finding | {
        "pictures": shown,
        "files_shown": [file for (file,) in files],
        "scans_left": finding["scans"] - len(shown),
        "files_left": finding["files"] - len(files),
    }


def _examples(db: sqlite3.Connection) -> list[str]:
    """Two scans of each modality, vendor and kind, from different patients."""
    kinds = db.execute("SELECT modality, vendor, kind FROM scans GROUP BY 1, 2, 3 ORDER BY count(*) DESC LIMIT 12")
    query = (
        "SELECT min(scan) FROM scans WHERE modality IS ? AND vendor IS ? AND kind=? GROUP BY patient ORDER BY 1 LIMIT 2"
    )
    return [scan for kind in kinds.fetchall() for (scan,) in db.execute(query, kind)]


class _Pictures:
    """Thumbnails as `data:` addresses; each is made once, and no more than ALL_PICTURES are shown."""

    def __init__(self, cohort: Cohort) -> None:
        self.cohort, self.left, self._made = cohort, ALL_PICTURES, dict[str, dict[str, str] | None]()
        with catalog.reading(cohort.path) as db:
            self._written_on = {s for (s,) in db.execute("SELECT scan FROM findings WHERE code LIKE 'burned_in%'")}

    def show(self, scan: str) -> dict[str, str] | None:
        """{"scan", "source", "words"}, or None where nothing can be shown."""
        if self.left <= 0:
            return None
        if scan not in self._made:
            self._made[scan] = self._make(scan)
        self.left -= self._made[scan] is not None
        return self._made[scan]

    def _make(self, scan: str) -> dict[str, str] | None:
        row = self.cohort.scan(scan)
        image = thumbnail(self.cohort, row, BLURRED if scan in self._written_on else THUMBNAIL)
        if image is None:
            return None
        words = (
            f"{'' if row['modality'] in (None, 'unknown') else row['modality']} {row['kind'].replace('_', ' ')}".strip()
        )
        return {"scan": scan, "source": "data:image/png;base64," + _png(image), "words": words}


def thumbnail(cohort: Cohort, row: dict[str, Any], size: int = THUMBNAIL) -> np.ndarray | None:
    """(1 or 3, size, size) uint8: the image, or a volume's middle slice; None where the array is gone.

    Volumes are cut across their shortest axis, in pixels: in the plane in which they were acquired, as a rule.
    """
    array, padding = read_array(cohort.path, row["scan"]), read_array(cohort.path, row["scan"], "padding")
    if array is None:
        return None
    channels = 3 if row["kind"].startswith("colour") else 1
    sides = array.shape[channels == 3 :]
    plane = min(rendering.AXIS, key=lambda name: sides[rendering.AXIS[name]] if len(sides) == 3 else 0)
    view = View(size=size, fit="pad", channels=channels, plane=plane)
    try:
        if len(sides) == 2:
            return rendering.render_image(array, row, padding, view)
        return rendering.render_slice(array, row, padding, sides[rendering.AXIS[plane]] // 2, view)
    except UserError:  # a catalog from elsewhere, without the percentiles
        return None


def _png(image: np.ndarray) -> str:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(image[0] if len(image) == 1 else np.moveaxis(image, 0, -1)).save(stream, "PNG", optimize=True)
    return base64.b64encode(stream.getvalue()).decode()


@lru_cache(1)
def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    source = resources.files("medssl.ingest").joinpath("page.html").read_text(encoding="utf-8")
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(
        source
    )
