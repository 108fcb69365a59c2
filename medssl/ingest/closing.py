"""The end of a run: verdicts on files, what is no longer there, and what can be said only when all scans are known."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from medssl.cohort import catalog
from medssl.cohort.arrays import PARTS, remove_array
from medssl.ingest import findings
from medssl.ingest.fates import Fates

ABOUT_ALL = {  # findings that depend on other scans and on label tables: code -> the scans that have it
    "exact_duplicate": "SELECT scan FROM scans WHERE content_hash IN "
    "(SELECT content_hash FROM scans GROUP BY content_hash HAVING count(*) > 1)",
    "no_patient_id": "SELECT scan FROM scans WHERE patient_from='file'",
    "generic_patient_id": "SELECT scan FROM scans WHERE patient_from='exam'",
}


def begin(db: sqlite3.Connection, strict: bool, state: str, revision: str) -> None:
    """Before scans are read: forget refusals whose grounds are gone.

    Args:
        strict: as this run is.
        state: names the state of all files and of the label table: with it, findings about all scans may change.
        revision: of the readers: a newer one may read what an older one could not.
    """
    meta = dict(db.execute("SELECT key, value FROM meta"))
    if not strict:
        db.execute("DELETE FROM refused WHERE strict")
    elif meta.get("state") != state:
        marks = ",".join("?" * len(ABOUT_ALL))
        db.execute(f"DELETE FROM refused WHERE strict AND code IN ({marks})", [*ABOUT_ALL])
    if meta.get("readers") != revision:
        db.execute("DELETE FROM refused WHERE NOT strict")
    for key, value in (("complete", None), ("state", None), ("readers", revision), ("strict", str(int(strict)))):
        catalog.note(db, key, value)


def drop_stale(db: sqlite3.Connection, fates: Fates) -> None:
    """Remove scans that these files gave in an earlier state and give no longer, before a mask is drawn on them."""
    earlier = [
        *db.execute("SELECT file, scan FROM files WHERE scan != ''"),
        *db.execute("SELECT file, scan FROM parts"),
    ]
    stale = {scan for file_id, scan in earlier if file_id in fates.files} - fates.scans()
    catalog.remove_scans(db, stale)


def close(db: sqlite3.Connection, folder: Path, fates: Fates, strict: bool, state: str) -> None:
    """Enter the verdict on every file, and note what can be said only when all scans are known."""
    for archive in fates.opened:  # it counted as a file as long as it could not be opened
        catalog.remove_file(db, archive)
    for code, query in ABOUT_ALL.items():
        db.execute("DELETE FROM findings WHERE code=? AND scan IS NOT NULL", (code,))
        rows = [(code, *_words(code), scan) for (scan,) in db.execute(query).fetchall()]
        db.executemany("INSERT INTO findings(code, severity, sentence, todo, scan) VALUES(?,?,?,?,?)", rows)
    if strict:
        _be_strict(db, fates)
    for file_id, (status, code, scan) in fates.status.items():
        file = fates.files[file_id]
        several = fates.several.get(file_id, [])
        catalog.put_file(db, file_id, status, code, scan, file.size, file.mtime_ns, several)
        if status == "rejected":
            _, sentence, todo = _words(code)
            row = (code, "error", file_id, sentence, todo)
            db.execute("INSERT INTO findings(code, severity, file, sentence, todo) VALUES(?,?,?,?,?)", row)
    _remove_orphans(db, folder)
    catalog.note(db, "state", state)


def _words(code: str) -> tuple[str, str, str]:
    return findings.row(code)[1:]


def _be_strict(db: sqlite3.Connection, fates: Fates) -> None:
    """Reject every scan that has a warning."""
    query = "SELECT scan, source, min(code) FROM findings JOIN scans USING(scan) WHERE severity='warning' GROUP BY scan"
    flagged = db.execute(query).fetchall()
    for scan, source, code in flagged:
        catalog.refuse(db, scan, source, code, strict=True)
    fates.withdraw({scan: code for scan, _, code in flagged})


def _remove_orphans(db: sqlite3.Connection, folder: Path) -> None:
    """Delete the arrays of scans that the catalog does not know: rejected ones, and what a killed run left."""
    known = {scan for (scan,) in db.execute("SELECT scan FROM scans")}
    there = {path.name.partition(".")[0] for path in (folder / "arrays").glob("*/s*.npy")}
    for scan in there - known:
        for part in PARTS:
            remove_array(folder, scan, part)
