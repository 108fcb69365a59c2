"""The second pass: scans are planned from headers, read in processes, and committed one by one.

A scan is known by the sizes and times of its files: what was read, or refused, of files in the same state is not read
again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from medssl.cohort import catalog
from medssl.errors import MedsslError
from medssl.ingest import closing, estimate, findings, readers
from medssl.ingest.ahead import decode_ahead, forget
from medssl.ingest.fates import Fates
from medssl.ingest.identity import Keys
from medssl.ingest.pool import map_chunks
from medssl.ingest.privacy import about, flags
from medssl.ingest.records import Job, Probe, Reject
from medssl.ingest.store import store
from medssl.progress import bar

OWNED_BY_LABELS = "SELECT scan, patient, grp FROM scans WHERE patient_from='labels'"
FILES_A_CHUNK = 64
BY_CIRCUMSTANCE = frozenset({"crashed", "timed_out", "out_of_memory"})  # another day may end otherwise
Result = tuple[str, dict[str, Any] | None, list[str]]  # scan, catalog row or None where it is rejected, codes


def make_plan(probes: list[Probe], keys: Keys, fates: Fates) -> list[Job]:
    """One job a scan, and a verdict on every file that is in none of them."""
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


def read_scans(plan: list[Job], folder: Path, keys: Keys, fates: Fates, jobs: int) -> None:
    """Read and commit what is not known yet, and enter the verdict on all files of the plan.

    Raises:
        UserError: the disk cannot hold the scans.
        MedsslError: the cohort cannot be written.
    """
    with catalog.reading(folder) as db:
        known = dict(db.execute("SELECT scan, source FROM scans"))
        refused = {scan: (source, code) for scan, source, code in db.execute("SELECT scan, source, code FROM refused")}
        owners = {scan: (p, g) for scan, p, g in db.execute(OWNED_BY_LABELS)}
    todo = []
    for job in plan:
        source, code = refused.get(job.scan, ("", ""))
        if known.get(job.scan) == job.source:
            fates.accept(job.files, job.scan)
        elif source == job.source and code not in BY_CIRCUMSTANCE:
            fates.reject(job.files, code)
        else:
            todo.append(job)
    estimate.say_scans(todo, folder, jobs)
    decode_ahead(todo, folder, jobs)
    by_scan = {job.scan: job for job in todo}
    files = max(1, sum(len(job.files) for job in todo))
    size = max(1, min(256, len(todo) // 16, 1 + FILES_A_CHUNK * len(todo) // files))
    work = partial(_read_chunk, str(folder))
    with bar("reading scans", len(plan), len(plan) - len(todo)) as progress:
        for results in map_chunks(work, todo, size, jobs, _lost, _bytes):
            with catalog.writing(folder) as db:
                for scan, row, codes in results:
                    job = by_scan[scan]
                    if row is None:
                        fates.reject(job.files, codes[0])
                        catalog.refuse(db, scan, job.source, codes[0])
                        continue
                    if scan in owners and row["patient_from"] != "id":  # a label table knows the patient better
                        row["attributes"] = about.moved(row["attributes"], keys, row["patient"], owners[scan][0])
                        row["patient"], row["grp"], row["patient_from"] = *owners[scan], "labels"
                    rows = [findings.row(code) for code in dict.fromkeys(job.findings + codes)]
                    catalog.put_scan(db, row, job.names, rows, job.labels)
                    fates.accept(job.files, scan)
            progress.advance(len(results))
    with catalog.writing(folder) as db:
        closing.drop_stale(db, fates)


def _read_chunk(folder: str, jobs: Sequence[Job]) -> list[Result]:
    out: list[Result] = []
    for job in jobs:
        try:
            scan = readers.reader(job.reader).read(job)
            out.append((job.scan, store(Path(folder), job, scan), scan.findings + flags.of_scan(scan)))
        except Reject as verdict:
            out.append((job.scan, None, [verdict.code]))
        except MedsslError:  # the cohort cannot be written: no fault of the file
            raise
        except MemoryError:
            out.append((job.scan, None, ["out_of_memory"]))
        except Exception:  # whatever a decoder stumbles over in a damaged file
            out.append((job.scan, None, ["unreadable"]))
        forget(job)
    return out


def _lost(job: Job, code: str) -> list[Result]:
    return [(job.scan, None, [code])]


def _bytes(jobs: Sequence[Job]) -> int:
    return sum(file.size for job in jobs for file in job.files)
