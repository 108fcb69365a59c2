"""`ingest`: find files, read headers, plan scans, read them in processes, commit each one, then labels and checks.

Each scan's array is on disk before its catalog row is committed, and a scan is known by the sizes and times of its
files: so a run that was killed goes on, and a rerun on an unchanged source reads headers only.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from medssl.cohort import Cohort, catalog
from medssl.cohort.arrays import remove_unfinished
from medssl.config import LabelColumns
from medssl.errors import SourcePath, UserError
from medssl.ingest import closing, discover, estimate, findings, masks, pool
from medssl.ingest import labels as label_tables
from medssl.ingest.disk import ends_cleanly
from medssl.ingest.fates import Fates
from medssl.ingest.headers import read_headers
from medssl.ingest.identity import Keys
from medssl.ingest.page import write_page
from medssl.ingest.records import File
from medssl.ingest.report import IngestReport, make_report
from medssl.ingest.scans import make_plan, read_scans
from medssl.workspace import Workspace, code_revision


def ingest(
    sources: Sequence[str | Path],
    cohort: str | Path,
    *,
    workspace: Workspace,
    labels: LabelColumns | None = None,
    jobs: int | None = None,
    strict: bool = False,
) -> IngestReport:
    """Read all scans below `sources` into the cohort at `cohort`, or go on where an earlier run stopped.

    Args:
        sources: folders or files, in any mixture of formats.
        labels: a label table and what its columns mean; its file is looked for below the sources first.
        jobs: processes; default: as many as there are CPUs to use, and fewer for small sources. 0 reads in this
            process, where nothing protects from a file that crashes or hangs its decoder.
        strict: reject every scan that has a warning. A rerun with the other setting decides anew.

    Raises:
        UserError: a source that is missing or empty, a label table that is missing, lacks a column or fits no scan, a
            disk that cannot hold the cohort.
        MedsslError: the source or the cohort failed in the middle; the same call goes on.
    """
    keys = Keys(workspace)
    places = [Path(s).expanduser().resolve() for s in ([sources] if isinstance(sources, (str, Path)) else sources)]
    if not places:
        raise UserError("no source was named", "", "Name a folder of scans.")
    folders = [p if p.is_dir() else p.parent for p in places]
    table = label_tables.participants(places) if labels is None else label_tables.read_table(labels, folders)
    found = discover.find_files(places, keys)
    if not found:
        where = SourcePath(", ".join(map(str, places)))
        raise UserError("the source holds no files", where, "Name a folder of DICOM, NIfTI, PNG, JPEG or TIFF files.")
    estimate.say_files(found)
    jobs = estimate.useful_jobs(found) if jobs is None else jobs
    pool.warm_up(jobs)
    target = Cohort.create(cohort)
    with catalog.only_writer(target.path):
        remove_unfinished(target.path)
        state = _state(found, table)
        with catalog.writing(target.path) as db:
            _refuse_namesakes(db, places, found, keys)
            closing.begin(db, strict, state, code_revision("ingest"))
        fates = Fates(found)
        with ends_cleanly():
            _read(found, target.path, keys, table, fates, jobs)
        counts = None if table is None or not len(target) else label_tables.apply(target, table, keys)
        with catalog.writing(target.path) as db:
            closing.close(db, target.path, fates, strict, state)
            report = make_report(db, target.path, fates, counts)
        write_page(target)
        if report.scans:
            with catalog.writing(target.path) as db:
                catalog.note(db, "complete", "1")
    if not report.scans:
        why = [f["sentence"] for f in report.findings] or [findings.finding(c).sentence for c in report.ignored_as]
        what = f"none of {report.found} files is a scan ({report.rejected} rejected, {report.ignored} ignored)"
        raise UserError(what, SourcePath(", ".join(map(str, places))), f"Most of them: {why[0]}")
    return report


def _refuse_namesakes(db: sqlite3.Connection, places: list[Path], found: Sequence[File], keys: Keys) -> None:
    """A file is known by its path below a folder of its source's name, wherever that lies: another source of that name
    (as every patient's disc has its DICOM/IM0001) must not take the places of the first one's files.

    Raises:
        UserError: it would.
    """
    noted = db.execute("SELECT value FROM meta WHERE key='sources'").fetchone()
    known: dict[str, list[str]] = json.loads(noted[0]) if noted else {}
    files = {file: state for file, *state in db.execute("SELECT file, size, mtime_ns FROM files")}
    for place in places:
        earlier, here = known.setdefault(keys.source("folder", place.name), []), keys.place(str(place))
        own = [(f.id, [f.size, f.mtime_ns]) for f in found if f.root == place.name]
        others = [file for file, state in own if files.get(file, state) != state]
        if earlier and here not in earlier and others:
            raise UserError(
                f"this cohort has a source of the same folder name from another place, with {len(others)} files of the "
                "same names that are not the same",
                SourcePath(place),
                "Rename this folder. If it is the same source, copy it with the times of its files (cp -p, rsync -t).",
            )
        known[keys.source("folder", place.name)] = sorted({*earlier, here})
    catalog.note(db, "sources", json.dumps(known))


def is_complete(cohort: Path) -> bool:
    """Whether an ingest into this folder has run to its end (one that was killed goes on when it is run again)."""
    return catalog.exists(cohort) and catalog.noted(cohort, "complete") is not None


def _read(
    found: list[File], folder: Path, keys: Keys, table: label_tables.Table | None, fates: Fates, jobs: int
) -> None:
    inside = f"{folder}{os.sep}"
    others = []
    for file in found:
        if table is not None and file.name.endswith(table.path.name) and table.path.samefile(file.path):
            fates.ignore(file, "label_table")
        elif file.path.startswith(inside):
            fates.ignore(file, "inside_cohort")
        else:
            others.append(file)
    image_probes, mask_probes = masks.split(read_headers(others, keys, fates, jobs))
    plan = make_plan(image_probes, keys, fates)
    read_scans(plan, folder, keys, fates, jobs)
    masks.read_all(mask_probes, plan, folder, keys, fates, jobs)


def _state(found: Sequence[File], table: label_tables.Table | None) -> str:
    """Names the state of all files and of the label table."""
    total = hashlib.sha256()
    for file in found:
        total.update(f"{file.id} {file.size} {file.mtime_ns}\n".encode())
    if table is not None:
        total.update(repr((table.scan, table.patient, table.group, table.rows)).encode())
    return total.hexdigest()[:16]
