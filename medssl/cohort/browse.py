"""A few scans at a time, by filters, straight from the catalog: a page of 24 of 100,000 scans takes milliseconds.

Scans come in the order of `Cohort.scans()`; the whole table is never read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from medssl.cohort import catalog
from medssl.cohort.cohort import Cohort

VEILED = ("burned_in_pixels", "burned_in_tag")  # findings of scans whose pixels may spell out who the patient is


@dataclass(frozen=True)
class Filter:
    """Which scans are wanted; an empty text wants all.

    Attributes:
        modality, vendor: as in the catalog.
        finding: code of something that ingestion noticed in the scan.
        target, value: a label that the scan has; with an empty value any.
    """

    modality: str = ""
    vendor: str = ""
    finding: str = ""
    target: str = ""
    value: str = ""


def count(cohort: Cohort, wanted: Filter = Filter()) -> int:
    """How many scans pass the filter."""
    where, values = _where(wanted)
    with catalog.reading(cohort.path) as db:
        return int(db.execute(f"SELECT count(*) FROM scans WHERE {where}", values).fetchone()[0])


def page(cohort: Cohort, wanted: Filter = Filter(), start: int = 0, size: int = 24) -> list[dict[str, Any]]:
    """Rows `start` to `start + size` of the scans that pass, each as `Cohort.scan` gives it, and `veiled`."""
    where, values = _where(wanted)
    query = f"SELECT scan FROM scans WHERE {where} ORDER BY content_hash, scan LIMIT ? OFFSET ?"
    with catalog.reading(cohort.path) as db:
        keys = [key for (key,) in db.execute(query, (*values, size, start))]
    return rows_of(cohort, keys)


def rows_of(cohort: Cohort, scans: list[str]) -> list[dict[str, Any]]:
    """The rows of these scans, as `page` gives them, in this order; those that are gone are left out."""
    columns, marks = ",".join(catalog.SCAN_COLUMNS), ",".join("?" * len(scans))
    with catalog.reading(cohort.path) as db:
        found = db.execute(f"SELECT {columns} FROM scans WHERE scan IN ({marks})", scans).fetchall()
        hidden = _veiled(db, scans)
    rows = {row[0]: _decoded(row) | {"veiled": row[0] in hidden} for row in found}
    return [rows[scan] for scan in scans if scan in rows]


def said_of(cohort: Cohort, scan: str) -> tuple[dict[str, str], list[dict[str, str]]]:
    """What is known of one scan beside its row.

    Returns:
        (labels by target, findings with `code`, `severity`, `sentence`, `todo`, the most serious first).
    """
    with catalog.reading(cohort.path) as db:
        labels = dict(db.execute("SELECT target, value FROM labels WHERE scan=? ORDER BY target", (scan,)).fetchall())
        names = ("code", "severity", "sentence", "todo")
        query = f"SELECT {','.join(names)} FROM findings WHERE scan=? ORDER BY severity='info', severity, code"
        return labels, [dict(zip(names, row, strict=True)) for row in db.execute(query, (scan,))]


def _where(wanted: Filter) -> tuple[str, list[str]]:
    parts: list[str] = ["1"]
    values: list[str] = []
    for column, value in (("modality", wanted.modality), ("vendor", wanted.vendor)):
        if value:
            parts.append(f"coalesce({column}, 'unknown')=?")
            values.append(value)
    if wanted.finding:
        parts.append("EXISTS(SELECT 1 FROM findings f WHERE f.scan=scans.scan AND f.code=?)")
        values.append(wanted.finding)
    if wanted.target:
        label = "l.scan=scans.scan AND l.target=?" + (" AND l.value=?" if wanted.value else "")
        parts.append(f"EXISTS(SELECT 1 FROM labels l WHERE {label})")
        values += [wanted.target] + ([wanted.value] if wanted.value else [])
    return " AND ".join(parts), values


def _veiled(db: Any, scans: list[str]) -> set[str]:
    codes, marks = ",".join("?" * len(VEILED)), ",".join("?" * len(scans))
    query = f"SELECT DISTINCT scan FROM findings WHERE scan IN ({marks}) AND code IN ({codes})"
    return {scan for (scan,) in db.execute(query, [*scans, *VEILED])}


def _decoded(found: tuple) -> dict[str, Any]:
    row = dict(zip(catalog.SCAN_COLUMNS, found, strict=True))
    row |= {column: row[column] and json.loads(row[column]) for column in catalog.JSON_COLUMNS}
    row["group"] = row.pop("grp") or row["patient"]
    return row
