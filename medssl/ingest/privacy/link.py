"""`medssl link`: the original patients and files behind keyed ids, found by reading the source's headers again.

Nothing in a workspace leads from a keyed id back to a patient; the source and the workspace's secret together do.
"""

from __future__ import annotations

import csv
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from medssl.cohort import catalog
from medssl.errors import SourcePath, UserError
from medssl.ingest import discover, masks, readers
from medssl.ingest.identity import Keys
from medssl.ingest.records import File, Ignore, Job, Probe, Reject
from medssl.progress import bar
from medssl.workspace import Workspace

ID = re.compile(r"\b[sfp][0-9a-f]{16}\b")  # of scans, files and patients
COLUMNS = ("id", "patient_id", "study_instance_uid", "series_instance_uid", "file")


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


def _rows(files: list[File], wanted: Any, keys: Keys) -> Iterator[tuple[str, ...]]:
    probes: dict[str, list[Probe]] = defaultdict(list)
    with bar("reading headers", len(files)) as progress:
        for file in files:
            progress.advance()
            try:
                probe = discover.sniff(file)
                if hasattr(readers.reader(probe.reader), "probe"):
                    probe.header = readers.reader(probe.reader).probe(file)
                probes[probe.reader].append(probe)
            except (Ignore, Reject):
                pass
            except Exception:  # whatever a parser stumbles over in a damaged file
                pass
            if file.id in wanted:
                yield (file.id, *_origin(_header_of(probes, file)), file.path)
    scans, _ = masks.split([p for group in probes.values() for p in group])
    for reader in probes:
        for job in readers.reader(reader).plan([p for p in scans if p.reader == reader], keys).jobs:
            for i in {job.scan, job.patient} & set(wanted):
                yield from ((i, *_origin(_first_header(job)), file.path) for file in job.files)


def _header_of(probes: dict[str, list[Probe]], file: File) -> Any:
    """The first header of the file just probed, or None."""
    last = next((group[-1] for group in probes.values() if group and group[-1].file.id == file.id), None)
    return last.header[0] if last is not None and isinstance(last.header, list) and last.header else None


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
