"""`medssl link`: the original patients and files behind keyed ids, found by reading the source's headers again.

Nothing in a workspace leads from a keyed id back to a patient; the source and the workspace's secret together do.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Sequence, Set
from pathlib import Path
from typing import Any, TextIO

from medssl.cohort import catalog
from medssl.errors import SourcePath, UserError
from medssl.ingest import discover, masks
from medssl.ingest.disk import ends_cleanly
from medssl.ingest.estimate import useful_jobs
from medssl.ingest.fates import Fates
from medssl.ingest.headers import read_headers
from medssl.ingest.identity import Keys
from medssl.ingest.records import File, Job
from medssl.ingest.scans import make_plan
from medssl.workspace import Workspace

ID = re.compile(r"\b[sfp][0-9a-f]{16}\b")  # of scans, files and patients
COLUMNS = ("id", "patient_id", "study_instance_uid", "series_instance_uid", "file")


@ends_cleanly()
def link(ids: str | Path, sources: Sequence[str | Path], out: str | Path, workspace: Workspace) -> dict[str, Any]:
    """Write a CSV (COLUMNS, one row a file) of all ids in a text or CSV file; readable by its owner only.

    Args:
        ids: any text that holds ids of scans, files or patients, as a worklist does.
        sources: what was ingested, under the same folder names.

    Returns:
        {"ids", "found", "missing": ids that nothing in the source has, "rows", "out"}.

    Raises:
        UserError: no such list, no id in it, none of them found, or `out` lies in a workspace or cohort.
    """
    target = _outside(Path(out).expanduser().resolve(), workspace)
    try:
        text = Path(ids).expanduser().read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise UserError("the list of ids cannot be read", str(ids), "Name a text or CSV file (UTF-8).") from None
    wanted = dict.fromkeys(ID.findall(text))
    if not wanted:
        raise UserError("the list holds no id", str(ids), "Ids are s, f or p and 16 hex digits, as in the catalog.")
    keys = Keys(workspace)
    files = discover.find_files([Path(s).expanduser().resolve() for s in sources], keys)
    rows = sorted(set(_rows(files, wanted.keys(), keys)))
    found = {row[0] for row in rows}
    if not found:
        where = SourcePath(", ".join(map(str, sources)))
        fix = "Name the folder that was ingested, and the workspace that was used then."
        raise UserError(f"none of {len(wanted)} ids belongs to this source", where, fix)
    with _private(target) as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    missing = [i for i in wanted if i not in found]
    return {"ids": len(wanted), "found": len(found), "missing": missing, "rows": len(rows), "out": str(target)}


def _rows(files: list[File], wanted: Set[str], keys: Keys) -> Iterator[tuple[str, ...]]:
    fates = Fates(files)
    probes = read_headers(files, keys, fates, useful_jobs(files))
    headers = {p.file.id: p.header[0] for p in probes if isinstance(p.header, list) and p.header}
    for file in fates.files.values():  # with those in archives
        if file.id in wanted:
            yield (file.id, *_origin(headers.get(file.id)), _place(file))
    for job in make_plan(masks.split(probes)[0], keys, fates):
        for i in {job.scan, job.patient} & wanted:
            yield from ((i, *_origin(_first_header(job)), _place(file)) for file in job.files)


def _place(file: File) -> str:
    return file.path if file.member is None else f"{file.path}: {file.name}"


def _first_header(job: Job) -> Any:
    headers = getattr(job.payload, "headers", None)
    return headers[0] if headers else None


def _origin(header: Any) -> tuple[str, str, str]:
    """(PatientID, StudyInstanceUID, SeriesInstanceUID); empty where the format has none."""
    return (header.patient_id, header.study, header.series) if header is not None else ("", "", "")


def _outside(target: Path, workspace: Workspace) -> Path:
    """Raises UserError: names of patients would lie in a workspace or a cohort."""
    if target.is_relative_to(workspace.path) or any(catalog.exists(folder) for folder in target.parents):
        fix = "Write it outside, where names of patients may be."
        raise UserError("the list of patients would lie in the workspace or a cohort", str(target), fix)
    return target


def _private(path: Path) -> TextIO:
    """Opened for writing with mode 0600; a file that is there is replaced, so that its own mode does not count."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    return os.fdopen(handle, "w", newline="", encoding="utf-8")
