"""`ingest`: find files, read headers, plan scans, read them in processes, commit each one, then labels and checks.

Each scan's array is on disk before its catalog row is committed, and a scan is known by the sizes and times of its
files: so a run that was killed goes on, and a rerun on an unchanged source reads headers only.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from medssl.cohort import Cohort, catalog
from medssl.cohort.arrays import PARTS, remove_array, remove_unfinished
from medssl.config import LabelColumns
from medssl.errors import MedsslError, SourcePath, UserError
from medssl.ingest import discover, findings, masks, readers
from medssl.ingest import labels as label_tables
from medssl.ingest.fates import Fates
from medssl.ingest.identity import Keys
from medssl.ingest.page import write_page
from medssl.ingest.pool import map_chunks
from medssl.ingest.privacy import about, flags
from medssl.ingest.records import File, Ignore, Job, Probe, Reject
from medssl.ingest.report import IngestReport, make_report
from medssl.ingest.store import store
from medssl.progress import bar
from medssl.workspace import Workspace

OWNED_BY_LABELS = "SELECT scan, patient, grp FROM scans WHERE patient_from='labels'"


def ingest(
    sources: Sequence[str | Path],
    cohort: str | Path,
    *,
    workspace: Workspace,
    labels: LabelColumns | None = None,
    jobs: int | None = None,
) -> IngestReport:
    """Read all scans below `sources` into the cohort at `cohort`, or go on where an earlier run stopped.

    Args:
        sources: folders or files, in any mixture of formats.
        labels: a label table and what its columns mean; its file is looked for below the sources first.
        jobs: processes; default: as many as there are CPUs to use.

    Raises:
        UserError: a source that is missing or empty, a label table that is missing, lacks a column or fits no scan.
    """
    keys = Keys(workspace)
    places = [Path(s).expanduser().resolve() for s in ([sources] if isinstance(sources, (str, Path)) else sources)]
    if not places:
        raise UserError("no source was named", "", "Name a folder of scans.")
    table = None if labels is None else label_tables.read_table(labels, [p if p.is_dir() else p.parent for p in places])
    found = discover.find_files(places, keys)
    if not found:
        where = SourcePath(", ".join(map(str, places)))
        raise UserError("the source holds no files", where, "Name a folder of DICOM, NIfTI, PNG, JPEG or TIFF files.")
    target = Cohort.create(cohort)
    with catalog.only_writer(target.path):
        remove_unfinished(target.path)
        with catalog.writing(target.path) as db:
            db.execute("DELETE FROM meta WHERE key='complete'")
        fates = _read(found, target.path, keys, table, jobs)
        counts = None if table is None or not len(target) else label_tables.apply(target, table, keys)
        with catalog.writing(target.path) as db:
            _close(db, target.path, fates)
            report = make_report(db, target.path, fates, counts)
            if report.scans:
                db.execute("INSERT INTO meta VALUES('complete', '1')")
        write_page(target)
    if not report.scans:
        why = [f["sentence"] for f in report.findings] or [findings.finding(c).sentence for c in report.ignored_as]
        what = f"none of {report.found} files is a scan ({report.rejected} rejected, {report.ignored} ignored)"
        raise UserError(what, SourcePath(", ".join(map(str, places))), f"Most of them: {why[0]}")
    return report


def is_complete(cohort: Path) -> bool:
    """Whether an ingest into this folder has run to its end (one that was killed goes on when it is run again)."""
    return catalog.exists(cohort) and catalog.noted(cohort, "complete")


def _read(found: list[File], folder: Path, keys: Keys, table: label_tables.Table | None, jobs: int | None) -> Fates:
    fates = Fates(found)
    probes: dict[str, list[Probe]] = defaultdict(list)
    with bar("looking at files", len(found)) as progress:
        for file in found:
            progress.advance()
            try:
                if table is not None and file.name.endswith(table.path.name) and table.path.samefile(file.path):
                    raise Ignore("label_table")
                if Path(file.path).is_relative_to(folder):
                    raise Ignore("inside_cohort")
                probe = discover.sniff(file)
                probes[probe.reader].append(probe)
            except Ignore as verdict:
                fates.ignore(file, verdict.code)
            except Reject as verdict:
                fates.reject([file], verdict.code)
    image_probes, mask_probes = masks.split(_read_headers(probes, fates, jobs))
    plan = _plan(image_probes, keys, fates)
    _run_jobs(plan, folder, keys, fates, jobs)
    masks.read_all(mask_probes, plan, folder, keys, fates, jobs)
    return fates


def _read_headers(probes: dict[str, list[Probe]], fates: Fates, jobs: int | None) -> list[Probe]:
    """First pass: headers only, in processes, for the formats that have headers worth reading."""
    ready: list[Probe] = []
    for name, group in probes.items():
        if not hasattr(readers.reader(name), "probe"):
            ready += group
            continue
        with bar("reading headers", len(group)) as progress:
            for chunk in map_chunks(_probe_chunk, group, 64, jobs):
                progress.advance(len(chunk))
                for probe, code in chunk:
                    if code is None:
                        ready.append(probe)
                    elif code.startswith("ignore "):
                        fates.ignore(probe.file, code.removeprefix("ignore "))
                    else:
                        fates.reject([probe.file], code)
    return sorted(ready, key=lambda p: (p.file.root, p.file.name))


def _probe_chunk(probes: Sequence[Probe]) -> list[tuple[Probe, str | None]]:
    out: list[tuple[Probe, str | None]] = []
    for probe in probes:
        try:
            probe.header = readers.reader(probe.reader).probe(probe.file)
            out.append((probe, None))
        except Ignore as verdict:
            out.append((probe, f"ignore {verdict.code}"))
        except Reject as verdict:
            out.append((probe, verdict.code))
        except Exception:  # whatever a parser stumbles over in a damaged file
            out.append((probe, "unreadable"))
    return out


def _plan(probes: list[Probe], keys: Keys, fates: Fates) -> list[Job]:
    by_reader: dict[str, list[Probe]] = defaultdict(list)
    for probe in probes:
        by_reader[probe.reader].append(probe)
    jobs: list[Job] = []
    for name, group in by_reader.items():
        plan = readers.reader(name).plan(group, keys)
        for file, code in plan.rejected:
            fates.reject([file], code)
        for file, code in plan.ignored:
            fates.ignore(file, code)
        jobs += plan.jobs
    for job in jobs:
        state = [f"{f.id} {f.size} {f.mtime_ns}" for f in sorted(job.files, key=lambda f: f.id)]
        job.source = keys.source(*state)
    return jobs


def _run_jobs(plan: list[Job], folder: Path, keys: Keys, fates: Fates, jobs: int | None) -> None:
    with catalog.writing(folder) as db:
        known = dict(db.execute("SELECT scan, source FROM scans"))
        owners = {scan: (p, g) for scan, p, g in db.execute(OWNED_BY_LABELS)}
    todo = []
    for job in plan:
        if known.get(job.scan) == job.source:
            fates.accept(job.files, job.scan)
        else:
            todo.append(job)
    by_scan = {job.scan: job for job in todo}
    files = max(1, sum(len(job.files) for job in todo))
    size = max(1, min(256, len(todo) // 16, 1 + 64 * len(todo) // files))  # about 64 files a chunk
    with bar("reading scans", len(plan), len(plan) - len(todo)) as progress:
        for chunk in map_chunks(partial(_job_chunk, str(folder)), todo, size, jobs):
            with catalog.writing(folder) as db:
                for scan, row, codes in chunk:
                    job = by_scan[scan]
                    if row is None:
                        fates.reject(job.files, codes[0])
                        catalog.remove_scans(db, [scan])
                        continue
                    if scan in owners and row["patient_from"] != "id":  # a label table knows the patient better
                        row["attributes"] = about.moved(row["attributes"], keys, row["patient"], owners[scan][0])
                        row["patient"], row["grp"], row["patient_from"] = *owners[scan], "labels"
                    rows = [findings.row(code) for code in dict.fromkeys(job.findings + codes)]
                    catalog.put_scan(db, row, job.names, rows, job.labels)
                    fates.accept(job.files, scan)
            progress.advance(len(chunk))


def _job_chunk(folder: str, jobs: Sequence[Job]) -> list[tuple[str, dict[str, Any] | None, list[str]]]:
    """(scan, catalog row, codes of findings) of each job; without a row where it was rejected."""
    out: list[tuple[str, dict[str, Any] | None, list[str]]] = []
    for job in jobs:
        try:
            scan = readers.reader(job.reader).read(job)
            out.append((job.scan, store(Path(folder), job, scan), scan.findings + flags.of_scan(scan)))
        except Reject as verdict:
            out.append((job.scan, None, [verdict.code]))
        except MedsslError:  # the cohort cannot be written: no fault of the file
            raise
        except Exception:  # whatever a decoder stumbles over in a damaged file
            out.append((job.scan, None, ["unreadable"]))
    return out


def _close(db: sqlite3.Connection, folder: Path, fates: Fates) -> None:
    """Enter the verdict on every file, drop what its files no longer are, and note what needs all scans to be known."""
    before = {scan for file, scan in db.execute("SELECT file, scan FROM files WHERE scan != ''") if file in fates.files}
    stale = before - {scan for _, _, scan in fates.status.values()}
    catalog.remove_scans(db, stale)
    for scan in stale:
        for part in PARTS:
            remove_array(folder, scan, part)
    for file_id, (status, code, scan) in fates.status.items():
        file = fates.files[file_id]
        catalog.put_file(db, file_id, status, code, scan, file.size, file.mtime_ns)
        if status == "rejected":
            _, severity, sentence, todo = findings.row(code)
            db.execute("INSERT INTO findings VALUES(?,?,NULL,?,?,?)", (code, severity, file_id, sentence, todo))
    global_codes = {
        "exact_duplicate": "SELECT scan FROM scans WHERE content_hash IN "
        "(SELECT content_hash FROM scans GROUP BY content_hash HAVING count(*) > 1)",
        "no_patient_id": "SELECT scan FROM scans WHERE patient_from='file'",
        "generic_patient_id": "SELECT scan FROM scans WHERE patient_from='exam'",
    }
    for code, query in global_codes.items():
        _, severity, sentence, todo = findings.row(code)
        db.execute("DELETE FROM findings WHERE code=?", (code,))
        rows = [(code, severity, scan, sentence, todo) for (scan,) in db.execute(query).fetchall()]
        db.executemany("INSERT INTO findings VALUES(?,?,?,NULL,?,?)", rows)
