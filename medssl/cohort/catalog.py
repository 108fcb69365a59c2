"""The catalog of a cohort: one SQLite file of scans, files, findings, labels and keyed names.

Readers open it read-only, any number of processes at once. Only `ingest` and `medssl label` write, in short
transactions, and the array of a scan is on disk before its row is committed: a process killed at any moment leaves a
catalog that is true.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medssl.errors import MedsslError, UserError

SCHEMA_VERSION = "2"
FILE_NAME = "catalog.sqlite"

SCHEMA = """
CREATE TABLE IF NOT EXISTS scans(
    scan TEXT PRIMARY KEY, patient TEXT NOT NULL, grp TEXT, exam TEXT NOT NULL, series TEXT NOT NULL,
    modality TEXT, vendor TEXT, body_part TEXT, kind TEXT NOT NULL, shape TEXT NOT NULL, dtype TEXT NOT NULL,
    spacing TEXT, affine TEXT, unit TEXT NOT NULL, percentiles TEXT, content_hash TEXT NOT NULL, source TEXT,
    patient_from TEXT NOT NULL, attributes TEXT);
CREATE INDEX IF NOT EXISTS scans_by_content ON scans(content_hash, scan);
CREATE INDEX IF NOT EXISTS scans_by_patient ON scans(patient);
CREATE INDEX IF NOT EXISTS scans_by_kind ON scans(modality, vendor, body_part, kind, unit);
CREATE TABLE IF NOT EXISTS files(
    file TEXT PRIMARY KEY, status TEXT NOT NULL, code TEXT, scan TEXT, size INT, mtime_ns INT);
CREATE TABLE IF NOT EXISTS findings(
    code TEXT NOT NULL, severity TEXT NOT NULL, scan TEXT, file TEXT, sentence TEXT NOT NULL, todo TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS findings_by_scan ON findings(scan);
CREATE INDEX IF NOT EXISTS findings_by_file ON findings(file);
CREATE TABLE IF NOT EXISTS labels(scan TEXT, target TEXT, value TEXT NOT NULL, PRIMARY KEY(scan, target));
CREATE TABLE IF NOT EXISTS names(key TEXT, kind TEXT, scan TEXT, PRIMARY KEY(key, scan, kind)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS names_by_scan ON names(scan);
CREATE TABLE IF NOT EXISTS masks(scan TEXT PRIMARY KEY, file TEXT NOT NULL, source TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS masks_by_file ON masks(file);
CREATE TABLE IF NOT EXISTS parts(file TEXT, scan TEXT, PRIMARY KEY(file, scan)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS refused(
    scan TEXT PRIMARY KEY, source TEXT NOT NULL, code TEXT NOT NULL, strict INT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value TEXT);
"""

SCAN_COLUMNS = (
    "scan", "patient", "grp", "exam", "series", "modality", "vendor", "body_part", "kind", "shape", "dtype",
    "spacing", "affine", "unit", "percentiles", "content_hash", "source", "patient_from", "attributes",
)  # fmt: skip
JSON_COLUMNS = ("shape", "spacing", "affine", "percentiles", "attributes")


def create(folder: Path) -> None:
    """Make an empty catalog in `folder`, or leave the one that is there as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    with writing(folder) as db:
        db.executescript(f"BEGIN; {SCHEMA} INSERT OR IGNORE INTO meta VALUES('schema', '{SCHEMA_VERSION}'); COMMIT;")
    with reading(folder):  # says so where another version made it
        pass


def exists(folder: Path) -> bool:
    return (folder / FILE_NAME).is_file()


def noted(folder: Path, key: str) -> str | None:
    """This entry of `meta`, or None; so too where a killed process left a file without any table."""
    db = sqlite3.connect(f"{(folder / FILE_NAME).resolve().as_uri()}?mode=ro", uri=True, timeout=60)
    try:
        row = db.execute("SELECT value FROM meta WHERE key=?", (key,)).fetchone()
        return None if row is None else row[0]
    except sqlite3.OperationalError:
        return None
    finally:
        db.close()


@contextmanager
def reading(folder: Path) -> Iterator[sqlite3.Connection]:
    """A read-only connection.

    Raises:
        UserError: `folder` is not a cohort, or was made by a version of medssl with another schema.
    """
    if not exists(folder):
        raise UserError("this folder is not a cohort", str(folder), "Make one with: medssl ingest SOURCE --cohort DIR")
    db = sqlite3.connect(f"{(folder / FILE_NAME).resolve().as_uri()}?mode=ro", uri=True, timeout=60)
    try:
        version = db.execute("SELECT value FROM meta WHERE key='schema'").fetchone()
        if version is None or version[0] != SCHEMA_VERSION:
            raise UserError("the cohort was made by another version of medssl", str(folder), "Ingest its source again.")
        yield db
    except sqlite3.DatabaseError as error:
        raise UserError(f"the catalog cannot be read ({error})", str(folder), "Ingest the source again.") from None
    finally:
        db.close()


@contextmanager
def writing(folder: Path) -> Iterator[sqlite3.Connection]:
    """A connection and one transaction on it, committed when the block ends well.

    Raises:
        MedsslError: the disk is full, or another process holds the catalog for a minute.
    """
    db = sqlite3.connect(folder / FILE_NAME, timeout=60)
    try:
        with db:
            yield db
    except sqlite3.OperationalError as error:
        fix = "Make room, then run the same command again: it goes on where it stopped."
        raise MedsslError(f"the catalog cannot be written ({error})", folder.name, fix) from None
    finally:
        db.close()


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold the cohort for one ingest; the lock ends with the process, however that ends.

    Raises:
        UserError: another process is ingesting into this cohort.
    """
    lock = sqlite3.connect(folder / ".lock", timeout=0, isolation_level=None)
    try:
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError:
        lock.close()
        raise UserError("another process is writing into this cohort", str(folder), "Wait until it ends.") from None
    try:
        yield
    finally:
        lock.close()


def put_scan(
    db: sqlite3.Connection,
    row: dict[str, Any],
    names: Iterable[tuple[str, str]] = (),
    findings: Iterable[tuple[str, str, str, str]] = (),
    labels: dict[str, str] | None = None,
) -> None:
    """Insert or replace one scan.

    Args:
        row: values by the names in `SCAN_COLUMNS`; those of `JSON_COLUMNS` as Python objects.
        names: (kind, keyed name) pairs by which label tables may call the scan.
        findings: (code, severity, sentence, todo).
        labels: values that came with the scan itself, by target.
    """
    scan = row["scan"]
    row = {"attributes": {}, **row}
    values = [json.dumps(row[c]) if c in JSON_COLUMNS and row[c] is not None else row[c] for c in SCAN_COLUMNS]
    marks = ",".join("?" * len(SCAN_COLUMNS))
    db.execute(f"INSERT OR REPLACE INTO scans({','.join(SCAN_COLUMNS)}) VALUES({marks})", values)
    db.execute("DELETE FROM refused WHERE scan=?", (scan,))
    db.execute("DELETE FROM names WHERE scan=?", (scan,))
    db.executemany("INSERT OR IGNORE INTO names VALUES(?,?,?)", [(key, kind, scan) for kind, key in names])
    db.execute("DELETE FROM findings WHERE scan=?", (scan,))
    db.executemany("INSERT INTO findings VALUES(?,?,?,NULL,?,?)", [(f[0], f[1], scan, f[2], f[3]) for f in findings])
    if labels:
        put_labels(db, [(scan, target, value) for target, value in labels.items()])


def refuse(db: sqlite3.Connection, scan: str, source: str, code: str, strict: bool = False) -> None:
    """Note that a scan cannot be had of its files in this state, or shall not be (`strict`): nobody tries again.

    Args:
        scan: or what names a mask.
    """
    remove_scans(db, [scan])
    db.execute("INSERT OR REPLACE INTO refused VALUES(?,?,?,?)", (scan, source, code, strict))


def put_file(
    db: sqlite3.Connection,
    file: str,
    status: str,
    code: str,
    scan: str,
    size: int,
    mtime_ns: int,
    several: Sequence[str] = (),
) -> None:
    """Insert or replace one file; `several`: its scans where it holds more than one (then `scan` is empty)."""
    db.execute("INSERT OR REPLACE INTO files VALUES(?,?,?,?,?,?)", (file, status, code, scan, size, mtime_ns))
    db.execute("DELETE FROM findings WHERE file=?", (file,))
    db.execute("DELETE FROM parts WHERE file=?", (file,))
    db.executemany("INSERT OR IGNORE INTO parts VALUES(?,?)", [(file, scan) for scan in several])


def remove_file(db: sqlite3.Connection, file: str) -> None:
    db.execute("DELETE FROM findings WHERE file=?", (file,))
    db.execute("DELETE FROM parts WHERE file=?", (file,))
    db.execute("DELETE FROM files WHERE file=?", (file,))


def note(db: sqlite3.Connection, key: str, value: str | None) -> None:
    """Set an entry of `meta`, or remove it (None)."""
    db.execute("DELETE FROM meta WHERE key=?", (key,))
    if value is not None:
        db.execute("INSERT INTO meta VALUES(?,?)", (key, value))


def put_labels(db: sqlite3.Connection, rows: Sequence[tuple[str, str, str]]) -> None:
    """Insert or replace labels, given as (scan, target, value)."""
    db.executemany("INSERT OR REPLACE INTO labels VALUES(?,?,?)", rows)


def put_mask(
    db: sqlite3.Connection, scan: str, file: str, source: str, finding: tuple[str, str, str, str] | None
) -> None:
    """Enter which file a scan's mask came from; `source` names the state of file and scan that it was made of.

    Args:
        finding: (code, severity, sentence, todo), or None.
    """
    db.execute("INSERT OR REPLACE INTO masks VALUES(?,?,?)", (scan, file, source))
    if finding is not None:
        code, severity, sentence, todo = finding
        db.execute("DELETE FROM findings WHERE code=? AND scan=?", (code, scan))
        db.execute("INSERT INTO findings VALUES(?,?,?,NULL,?,?)", (code, severity, scan, sentence, todo))


def remove_mask(db: sqlite3.Connection, scan: str) -> None:
    db.execute("DELETE FROM masks WHERE scan=?", (scan,))


def remove_scans(db: sqlite3.Connection, scans: Iterable[str]) -> None:
    for scan in scans:
        for table in ("scans", "names", "findings", "labels", "masks"):
            db.execute(f"DELETE FROM {table} WHERE scan=?", (scan,))
