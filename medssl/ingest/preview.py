"""Looks before an ingest or a labelling: what it will cost, and which rows would fit. Nothing is stored in a cohort.

What is returned may be shown: counts, names of columns, and names of classes. Values that could name a patient are not
among them.
"""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from medssl.cohort import Cohort
from medssl.config import LabelColumns
from medssl.errors import SourcePath, UserError
from medssl.ingest import labels
from medssl.ingest.discover import find_files, sniff
from medssl.ingest.estimate import BYTES_A_SECOND, SECONDS_A_FILE, UNPACKED, amount, duration, useful_jobs
from medssl.ingest.harmless import is_harmless
from medssl.ingest.identity import Keys
from medssl.ingest.records import Ignore, Reject
from medssl.workspace import Workspace

LOOKED_AT = 100  # files of a source that are opened to see what they are
LARGEST_TABLE = 20 << 20  # bytes of a label table
TABLE_ENDINGS = (".csv", ".tsv", ".txt")
MOST_CLASSES = 30  # of a target, that are shown
START_S = 6.0  # of the program and its processes
WORDS = {"dicom": "DICOM", "nifti": "NIfTI", "image": "images", "medmnist": "MedMNIST", "archive": "archives"}


@dataclass(frozen=True)
class SourcePreview:
    """What lies below a source; bytes.

    Attributes:
        kinds: files by what they are, of the `looked_at` that were opened.
        need: of the cohort, roughly; `free` on its disk.
        seconds: that reading will take, roughly.
    """

    files: int
    size: int
    looked_at: int
    kinds: dict[str, int]
    need: int
    free: int
    seconds: float

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {WORDS.get(kind, kind)}" for kind, count in self.kinds.items())
        what = f"{self.files:,} files, {amount(self.size)}"
        looked = "" if self.looked_at == self.files else f"Of {self.looked_at} that were looked at: "
        room = f"about {amount(self.need)} on a disk with {amount(self.free)} free"
        return f"{what}. {looked}{kinds or 'nothing that is a scan'}. To read them: {duration(self.seconds)}, {room}."


@dataclass(frozen=True)
class LabelPreview:
    """Which rows of a label table fit which scans.

    Attributes:
        rows, table_rows: that fit, of so many.
        scans, all_scans: that get a label, of so many in the cohort.
        matched_by: the column that names the scans.
        patients: that the table names, 0 without such a column.
        classes: {target: {value: scans}}; of a target whose values could name a patient, or are too many, none.
        values: different values of each target.
        odd: columns that look like ids or free text and were left out.
    """

    rows: int
    table_rows: int
    scans: int
    all_scans: int
    matched_by: str
    patients: int
    classes: dict[str, dict[str, int]] = field(default_factory=dict)
    values: dict[str, int] = field(default_factory=dict)
    odd: list[str] = field(default_factory=list)


def preview_source(source: str | Path, workspace: Workspace) -> SourcePreview:
    """Count the files below a source and open a few of them.

    Raises:
        UserError: it is missing, empty, or a folder of it cannot be read.
    """
    place = Path(source)
    found = find_files([place], Keys(workspace))
    if not found:
        raise UserError("the folder holds no files", SourcePath(place), "Name a folder with DICOM, NIfTI or images.")
    kinds: Counter[str] = Counter()
    unpacked = size_looked_at = 0
    few = found[:: max(1, len(found) // LOOKED_AT)][:LOOKED_AT]
    for file in few:
        try:
            kind = sniff(file).reader
        except (Ignore, Reject):
            kind = "other"
        kinds[kind] += 1
        size_looked_at += file.size
        unpacked += 0 if kind == "other" else file.size * UNPACKED.get(kind, 2 if file.name.endswith(".gz") else 1)
    size = sum(file.size for file in found)
    need = int(size * unpacked / max(1, size_looked_at))
    seconds = START_S + (SECONDS_A_FILE * len(found) + need / BYTES_A_SECOND) / useful_jobs(found)
    there = next(folder for folder in (workspace.path, *workspace.path.parents) if folder.exists())
    ordered = dict(sorted(kinds.items(), key=lambda pair: (pair[0] == "other", -pair[1])))
    return SourcePreview(len(found), size, len(few), ordered, need, shutil.disk_usage(there).free, seconds)


def column_names(file: str | Path) -> list[str]:
    """Names of the columns of a label table.

    Raises:
        UserError: no table, or its first line holds values instead of names.
    """
    refuse_no_table(file)
    table = labels.read_table(LabelColumns(file=str(file)), [])
    names = [name for name in table.rows[0] if name]
    if any(name.replace(".", "").replace("-", "").isdigit() for name in names):
        what = "the first line of the label file holds values, not the names of columns"
        raise UserError(what, SourcePath(file), "Put a line with the names of the columns above the values.")
    return names


def preview_labels(cohort: Cohort, columns: LabelColumns, workspace: Workspace) -> LabelPreview:
    """Match a label table with a cohort as `add_labels` would.

    Raises:
        UserError: as `add_labels`.
    """
    refuse_no_table(columns.file)
    table = labels.read_table(columns, [])
    fitted = labels.fit(cohort, table, Keys(workspace))
    classes: dict[str, dict[str, int]] = {}
    values: dict[str, int] = {}
    for target in sorted({target for _, target, _ in fitted.values}):
        counts = Counter(value for _, name, value in fitted.values if name == target)
        values[target] = len(counts)
        column = [row.get(target, "") for row in table.rows]
        again = len(counts) <= 2 or 2 * len(counts) <= counts.total()  # most values stand at several scans
        few = len(counts) <= MOST_CLASSES and again and is_harmless(target, column)
        classes[target] = dict(counts.most_common()) if few else {}
    return LabelPreview(
        rows=sum(bool(m) for m in fitted.matches),
        table_rows=len(table.rows),
        scans=len({scan for m in fitted.matches for scan in m}),
        all_scans=len(cohort),
        matched_by=fitted.matched_by,
        patients=len(set(fitted.patients.values())),
        classes=classes,
        values=values,
        odd=fitted.odd,
    )


def refuse_no_table(file: str | Path) -> None:
    """Told by name, size and content, before anything is read as a table.

    Raises:
        UserError: it is missing, of another type, or too large.
    """
    place = Path(file)
    if not place.is_file():
        raise UserError("the label file does not exist", SourcePath(place), "Check its name.")
    with place.open("rb") as stream:
        refuse_no_text(place.name, place.stat().st_size, stream.read(4096))


def refuse_no_text(name: str, size: int, head: bytes) -> None:
    """See `refuse_no_table`; `head` are the file's first bytes."""
    fix = "Save the table as CSV (in UTF-8) and take that file."
    if head.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise UserError("this is a spreadsheet or an archive, not a text table", "", fix)
    if not name.lower().endswith(TABLE_ENDINGS):
        raise UserError(f"a label file ends in {', '.join(TABLE_ENDINGS)}", "", fix)
    if size > LARGEST_TABLE:
        raise UserError(f"the label file has {amount(size)}, and {amount(LARGEST_TABLE)} are allowed", "", fix)
    if not head.strip():
        raise UserError("the label file is empty", "", fix)
    if b"\0" in head:
        raise UserError("the label file is not text", "", fix)
