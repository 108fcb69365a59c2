"""What a cohort is made of, in figures: for the ingest report, the data card, and whoever asks.

Only numbers and words of controlled vocabularies: nothing here names a patient, a file or a date.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from medssl.cohort import catalog
from medssl.cohort.cohort import Cohort

MOST_CLASSES, LONGEST_CLASS = 30, 40  # values of a target, and characters of one, that are taken for classes
SEVERITIES = ("error", "warning", "info")
KIND_WORDS = {"volume": "volumes", "image": "images", "colour": "colour images", "colour_volume": "colour volumes"}


@dataclass
class Part:
    """The scans of one modality and kind.

    Attributes:
        modality, kind: as in the catalog.
        vendors, body_parts, units, dtypes: scans by name, the most frequent first.
        shape: (smallest, largest) along each spatial axis of the array, (z, y, x) or (y, x), in pixels.
        spacing: (smallest, largest) in mm along the same axes; empty where no scan has one.
        without_spacing: scans whose pixels have no size in mm.
    """

    modality: str
    kind: str
    scans: int
    patients: int
    vendors: dict[str, int]
    body_parts: dict[str, int]
    units: dict[str, int]
    dtypes: dict[str, int]
    shape: list[tuple[int, int]]
    spacing: list[tuple[float, float]]
    without_spacing: int

    @property
    def name(self) -> str:
        """As in `CT volumes`."""
        words = KIND_WORDS.get(self.kind, self.kind)
        return f"{words} of unknown modality" if self.modality == "unknown" else f"{self.modality} {words}"


@dataclass
class Summary:
    """Everything about a cohort that can be counted.

    Attributes:
        files: by status; `found` is their sum.
        rejected, ignored: files by code, the most frequent first.
        patient_from: scans by where their patient is known from (id, labels, exam, file).
        scans_per_patient: (fewest, median, most).
        findings: {"code", "severity", "sentence", "todo", "scans", "files"}, the most serious first.
        classes: {target: [{"value", "scans", "patients"}]}; a target whose values look like free text, dates or ids
            has an empty list, so that none of them is repeated anywhere.
        values: different values of each target.
        masks: scans with a mask of labels.
        exact: (groups, scans) of scans with equal pixels.
    """

    name: str
    files: dict[str, int]
    rejected: dict[str, int]
    ignored: dict[str, int]
    scans: int
    patients: int
    exams: int
    series: int
    patient_from: dict[str, int]
    scans_per_patient: tuple[int, float, int]
    parts: list[Part] = field(default_factory=list)
    findings: list[dict[str, Any]] = field(default_factory=list)
    classes: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    values: dict[str, int] = field(default_factory=dict)
    masks: int = 0
    exact: tuple[int, int] = (0, 0)


def summarize(cohort: Cohort) -> Summary:
    """Count what the catalog holds."""
    with catalog.reading(cohort.path) as db:
        status = {"accepted": 0, "rejected": 0, "ignored": 0}
        status |= _counts(db, "SELECT status, count(*) FROM files GROUP BY 1")
        scans, patients, exams, series = db.execute(
            "SELECT count(*), count(DISTINCT patient), count(DISTINCT exam), count(DISTINCT series) FROM scans"
        ).fetchone()
        per = [n for (n,) in db.execute("SELECT count(*) FROM scans GROUP BY patient")] or [0]
        groups = [n for (n,) in db.execute("SELECT count(*) FROM scans GROUP BY content_hash HAVING count(*) > 1")]
        classes = _classes(db)
        return Summary(
            name=cohort.name,
            files={"found": sum(status.values()), **status},
            rejected=_counts(db, "SELECT code, count(*) FROM files WHERE status='rejected' GROUP BY 1"),
            ignored=_counts(db, "SELECT code, count(*) FROM files WHERE status='ignored' GROUP BY 1"),
            scans=scans,
            patients=patients,
            exams=exams,
            series=series,
            patient_from=_counts(db, "SELECT patient_from, count(*) FROM scans GROUP BY 1"),
            scans_per_patient=(min(per), median(per), max(per)),
            parts=_parts(db),
            findings=_findings(db),
            classes={target: rows if _are_classes(rows) else [] for target, rows in classes.items()},
            values={target: len(rows) for target, rows in classes.items()},
            masks=sum(1 for _ in (cohort.path / "arrays").glob("*/s*.mask.npy")),
            exact=(len(groups), sum(groups)),
        )


def span(low: float, high: float) -> str:
    """`512` or `35–43`; numbers with at most three digits behind the point."""
    first, last = f"{round(low, 3):g}", f"{round(high, 3):g}"
    return first if first == last else f"{first}–{last}"


def product(ranges: Sequence[tuple[float, float]]) -> str:
    """`4–256 × 512 × 512`; empty without axes."""
    return " × ".join(span(*axis) for axis in ranges)


def listed(counts: dict[str, int], most: int = 6) -> str:
    """`Siemens 25, GE 16`; names only where there is but one."""
    if len(counts) == 1:
        return next(iter(counts))
    shown = [f"{name} {n:,}" for name, n in list(counts.items())[:most]]
    return ", ".join(shown + [f"{len(counts) - most} others"] * (len(counts) > most))


def _counts(db: sqlite3.Connection, query: str) -> dict[str, int]:
    return _most_first({name or "unknown": n for name, n in db.execute(query)})


def _parts(db: sqlite3.Connection) -> list[Part]:
    groups: dict[tuple[str, str], list[tuple]] = defaultdict(list)
    columns = "modality, kind, patient, vendor, body_part, unit, dtype, shape, spacing"
    for modality, kind, *rest in db.execute(f"SELECT {columns} FROM scans ORDER BY scan"):
        groups[modality or "unknown", kind].append(tuple(rest))
    parts = []
    for (modality, kind), rows in groups.items():
        patients, vendors, body_parts, units, dtypes, shapes, spacings = zip(*rows, strict=True)
        first = 1 if kind.startswith("colour") else 0  # the channels are no axis of space
        part = Part(
            modality=modality,
            kind=kind,
            scans=len(rows),
            patients=len(set(patients)),
            vendors=_named(vendors),
            body_parts=_named(body_parts),
            units=_named(units),
            dtypes=_named(dtypes),
            shape=_ranges([json.loads(text)[first:] for text in set(shapes)]),
            spacing=_ranges([json.loads(text) for text in {s for s in spacings if s}]),
            without_spacing=spacings.count(None),
        )
        parts.append(part)
    return sorted(parts, key=lambda p: (-p.scans, p.modality, p.kind))


def _named(values: tuple[str | None, ...]) -> dict[str, int]:
    return _most_first(Counter(v or "unknown" for v in values))


def _ranges(rows: list[list]) -> list[tuple]:
    return [(min(axis), max(axis)) for axis in zip(*rows, strict=False)]


def _findings(db: sqlite3.Connection) -> list[dict[str, Any]]:
    rows = db.execute(
        "SELECT code, severity, min(sentence), min(todo), count(DISTINCT scan), count(DISTINCT file) "
        "FROM findings GROUP BY code, severity"
    )
    names = ("code", "severity", "sentence", "todo", "scans", "files")
    found = [dict(zip(names, row, strict=True)) for row in rows]
    return sorted(found, key=lambda f: (SEVERITIES.index(f["severity"]), -f["scans"] - f["files"], f["code"]))


def _classes(db: sqlite3.Connection) -> dict[str, list[dict[str, Any]]]:
    classes: dict[str, list[dict[str, Any]]] = defaultdict(list)
    query = (
        "SELECT target, value, count(*), count(DISTINCT patient) FROM labels JOIN scans USING(scan) "
        "GROUP BY target, value ORDER BY target, count(*) DESC, value"
    )
    for target, value, scans, patients in db.execute(query):
        classes[target].append({"value": value, "scans": scans, "patients": patients})
    return dict(classes)


def _are_classes(rows: list[dict[str, Any]]) -> bool:
    """Whether these are names of classes: few, short, most of them used again, and none like a date or a long id."""
    values = [str(row["value"]) for row in rows]
    repeated = sum(row["scans"] for row in rows) >= 2 * len(rows) or len(rows) <= 2
    return (
        len(values) <= MOST_CLASSES
        and repeated
        and all(len(v) <= LONGEST_CLASS and not re.search(r"\d{5}|\d[-./]\d+[-./]\d", v) for v in values)
    )


def _most_first(counts: Mapping[str, int]) -> dict[str, int]:
    """Ties by name, so that the same scans give the same card in every workspace."""
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
