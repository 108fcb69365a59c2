"""Label tables as files: read as text, and known again."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

from medssl.cohort import catalog
from medssl.config import LabelColumns
from medssl.errors import SourcePath, UserError, unknown
from medssl.ingest.identity import Keys


@dataclass
class Table:
    """A label file as text, and which of its columns is what."""

    path: Path
    rows: list[dict[str, str]]
    scan: str | None
    patient: str | None
    group: str | None
    targets: list[str]
    named_targets: bool
    left_out: list[str] | None = None  # columns; None: the table was named by the user, who chose


def find_table(columns: LabelColumns, folders: list[Path]) -> Path | None:
    """Where the table lies, in `folders` or at its own path; None where it is not there."""
    named = Path(columns.file).expanduser()
    return next((p for p in (*(folder / named for folder in folders), named) if p.is_file()), None)


def is_applied(cohort: Path, table: Table, keys: Keys) -> bool:
    """Whether the labels of a cohort are those of this table as it stands. True as well where that is not known: it was
    never applied with these targets, or by an earlier medssl."""
    asked, content = state(table, keys)
    return applied(cohort).get(asked, content) == content


def applied(cohort: Path) -> dict[str, str]:
    """By the targets that were asked for, the state of the table that was applied last."""
    return json.loads(catalog.noted(cohort, "label tables") or "{}")


def state(table: Table, keys: Keys) -> tuple[str, str]:
    """Which targets are asked of it, and a keyed name of all that decides what it says."""
    asked = ",".join(sorted(table.targets)) if table.named_targets else "all"
    return asked, keys.name("label table", repr((table.scan, table.patient, table.group, table.rows)))


def read_table(columns: LabelColumns, folders: list[Path]) -> Table:
    """Read a CSV or TSV, in `folders` or at its own path.

    Raises:
        UserError: no such file, not a table, a column that does not exist (with the nearest that does).
    """
    path = find_table(columns, folders)
    if path is None:
        fix = "Name it relative to the source or to this folder, or in full."
        raise UserError("the label file does not exist", SourcePath(Path(columns.file).expanduser()), fix)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (UnicodeDecodeError, OSError):
        fix = "Save it as CSV in UTF-8 (in Excel: 'CSV UTF-8')."
        raise UserError("the label file is not readable text in UTF-8", SourcePath(path), fix) from None
    first = text.partition("\n")[0]
    separator = max(",\t;", key=first.count)
    reader = csv.DictReader(text.splitlines(), delimiter=separator, skipinitialspace=True)
    known = [name.strip() for name in reader.fieldnames or [] if name and name.strip()]
    rows = [{k.strip(): (v or "").strip() for k, v in row.items() if k and isinstance(v, str | None)} for row in reader]
    if not rows:
        raise UserError("the label file has no rows", SourcePath(path), "It needs column names and a line a scan.")
    roles = [(role, getattr(columns, role)) for role in ("scan", "patient", "group")]
    for role, name in [*roles, *(("target", t) for t in columns.targets)]:
        if name is not None and name not in known:
            raise unknown(f"column ({role})", name, known, SourcePath(path))
    taken = {name for _, name in roles}
    targets = columns.targets or [name for name in known if name not in taken]
    return Table(path.resolve(), rows, columns.scan, columns.patient, columns.group, targets, bool(columns.targets))
