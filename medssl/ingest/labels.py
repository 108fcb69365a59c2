"""Labels of a table: find the scans that its rows mean, store values, patients and groups.

Rows and scans meet under keyed names only (table `names` of the catalog), so that labels can be added long after the
source is gone.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from medssl.cohort import Cohort, catalog
from medssl.config import LabelColumns
from medssl.errors import SourcePath, UserError
from medssl.ingest.harmless import MISSING, is_harmless
from medssl.ingest.identity import Keys, without_ending
from medssl.ingest.privacy import about
from medssl.ingest.tables import Table, applied, read_table, state
from medssl.workspace import Workspace

SCAN_KINDS = ("path", "name", "uid", "folder")  # what a scan column may name, the surest first
PARTICIPANTS = "participants.tsv"
ODD_COLUMNS = "{} columns of the label table look like ids or free text and were left out; --target takes them"

SEVERAL_PATIENTS = (
    "{} rows fit scans of more than one patient (of different institutions, or files without a patient in folders of "
    "one name), and all got the same labels: check that, or name patients, or scans by their paths"
)


class Fitted(NamedTuple):
    """The rows of a table and the scans that they mean: (scan, target, value), patient and group of each scan."""

    matched_by: str
    matches: list[list[str]]  # scans of each row
    values: list[tuple[str, str, str]]
    patients: dict[str, str]
    groups: dict[str, str]
    odd: list[str]  # columns that look like ids or free text
    known: _Index


def add_labels(cohort: Cohort | str | Path, columns: LabelColumns, workspace: Workspace) -> dict[str, Any]:
    """Add the labels of a table to a cohort (`medssl label`); values of the same scan and target are replaced.

    Returns:
        {"rows", "table_rows", "scans", "targets", "matched_by"}: rows that fitted, of how many, and how; and a "note"
        where columns that nobody named were left out, since they look like ids or free text.

    Raises:
        UserError: no such table or column, rows that fit no scan or several, rows of one scan that disagree.
    """
    cohort = cohort if isinstance(cohort, Cohort) else Cohort.open(cohort)
    table = read_table(columns, [Path.cwd()])
    with catalog.only_writer(cohort.path):
        return apply(cohort, table, Keys(workspace))


def participants(sources: list[Path]) -> Table | None:
    """`participants.tsv` of a BIDS data set that is the only source, for when no label table was named.

    Nobody looked at its columns, so only those are taken whose values cannot name a patient: usual ones, numbers below
    1,000, and words that many patients share. Ages over 89 count as 90.
    """
    if len(sources) != 1 or not (sources[0] / PARTICIPANTS).is_file() or not any(sources[0].glob("sub-*/")):
        return None
    try:
        table = read_table(LabelColumns(file=PARTICIPANTS, patient="participant_id"), sources)
    except UserError:  # no table of BIDS, whatever it is called
        return None
    columns = {name: [row.get(name, "") for row in table.rows] for name in table.targets}
    kept = [name for name, values in columns.items() if is_harmless(name, values)]
    for name in kept:
        for row in table.rows if name.lower() == "age" else ():
            if row.get(name, "").lower() not in MISSING and float(row[name]) > 89:
                row[name] = "90"
    return replace(table, targets=kept, named_targets=True, left_out=[name for name in columns if name not in kept])


def apply(cohort: Cohort, table: Table, keys: Keys) -> dict[str, Any]:
    """Match rows to scans, and store labels, patients and groups in one transaction."""
    if table.left_out is None:
        return _apply(cohort, table, keys)
    try:
        counts = _apply(cohort, table, keys)
    except UserError:  # nobody asked for this table: where its rows fit nothing or disagree, there are no labels
        counts = {"rows": 0, "table_rows": len(table.rows), "scans": 0, "targets": [], "matched_by": ""}
    left = f"; {len(table.left_out)} of its columns were left out, --labels takes all" if table.left_out else ""
    return counts | {"note": f"{PARTICIPANTS} was used, since no label table was named{left}"}


def _apply(cohort: Cohort, table: Table, keys: Keys) -> dict[str, Any]:
    asked, content = state(table, keys)
    fitted = fit(cohort, table, keys)
    patients = _patient_keys(fitted.patients, fitted.groups, fitted.known, keys)
    with catalog.writing(cohort.path) as db:
        _move_dates(db, patients, fitted.known, keys)
        catalog.put_labels(db, fitted.values)
        catalog.note(db, "label tables", json.dumps({**applied(cohort.path), asked: content}))
        groups = [(keys.group(g), scan) for scan, g in fitted.groups.items()]
        db.executemany("UPDATE scans SET grp=? WHERE scan=?", groups)
        db.executemany(
            "UPDATE scans SET patient=?, patient_from='labels' WHERE scan=?", [(p, s) for s, p in patients.items()]
        )
        db.execute(
            "DELETE FROM findings WHERE code IN ('no_patient_id', 'generic_patient_id') "
            "AND scan IN (SELECT scan FROM scans WHERE patient_from='labels')"
        )
    notes = [ODD_COLUMNS.format(len(fitted.odd))] if fitted.odd else []
    owners = [{patients.get(scan, fitted.known.owner[scan][0]) for scan in scans} for scans in fitted.matches]
    if shared := sum(len(several) > 1 for several in owners):
        notes += [SEVERAL_PATIENTS.format(shared)]
    return {
        "rows": sum(bool(m) for m in fitted.matches),
        "table_rows": len(table.rows),
        "scans": len({scan for m in fitted.matches for scan in m}),
        "targets": sorted({target for _, target, _ in fitted.values}),
        "matched_by": fitted.matched_by,
    } | ({"note": "; ".join(notes)} if notes else {})


def fit(cohort: Cohort, table: Table, keys: Keys) -> Fitted:
    """Find the scans that the rows mean, and store nothing.

    Raises:
        UserError: rows that fit no scan or several, rows of one scan that disagree.
    """
    with catalog.reading(cohort.path) as db:
        index = _Index(db, keys)
    how, matches = _match(table, index)
    odd: list[str] = []
    if not table.named_targets:  # all columns that are left, but for names of scans and what may name a patient
        odd = [t for t in table.targets if t != how and not is_harmless(t, [row.get(t, "") for row in table.rows])]
        table.targets = [t for t in table.targets if t not in (how, *odd)]
    return Fitted(how, matches, *_collect(table, matches), odd, index)


def _move_dates(db: Any, new_patients: dict[str, str], index: _Index, keys: Keys) -> None:
    """Dates are shifted by patient: who gets another key gets another shift."""
    for scan, new in new_patients.items():
        (text,) = db.execute("SELECT attributes FROM scans WHERE scan=?", (scan,)).fetchone()
        kept = about.moved(json.loads(text or "{}"), keys, index.owner[scan][0], new)
        db.execute("UPDATE scans SET attributes=? WHERE scan=?", (json.dumps(kept), scan))


class _Index:
    """Keyed names of all scans."""

    def __init__(self, db: Any, keys: Keys) -> None:
        self.keys = keys
        self.scans_of: dict[str, list[str]] = defaultdict(list)
        for key, scan in db.execute("SELECT key, scan FROM names"):
            self.scans_of[key].append(scan)
        self.owner = {s: (p, origin) for s, p, origin in db.execute("SELECT scan, patient, patient_from FROM scans")}

    def find_scan(self, text: str) -> tuple[str, list[str]]:
        """(kind, scans) of the surest kind of name under which any scan is known by `text`."""
        if text in self.owner:
            return "id", [text]
        for form in dict.fromkeys((text, without_ending(text), text.rpartition("/")[2])):
            for kind in SCAN_KINDS:
                if scans := self.scans_of.get(self.keys.name(kind, form)):
                    return kind, scans
        return "", []

    def find_patient(self, text: str) -> tuple[str, list[str]]:
        """All scans with this PatientID, and those without one of their own whose file or folder is called so."""
        scans = list(self.scans_of.get(self.keys.name("patient", text), []))
        for form in dict.fromkeys((text, without_ending(text))):
            for kind in ("name", "folder"):
                scans += [s for s in self.scans_of.get(self.keys.name(kind, form), []) if self.owner[s][1] != "id"]
        return "patient", list(dict.fromkeys(scans))


def _match(table: Table, index: _Index) -> tuple[str, list[list[str]]]:
    """The column by which rows were matched (the one that fits most scans, if none is named), and each row's scans."""
    if table.scan is not None:
        candidates = [(table.scan, index.find_scan)]
    else:
        candidates = [] if table.patient is None else [(table.patient, index.find_patient)]
        if table.left_out is None:
            candidates += [(c, index.find_scan) for c in table.rows[0] if c not in (table.patient, table.group)]
    best: tuple[int, str | None, list[list[str]], int] = (0, None, [], 0)
    for column, find in candidates:
        found = [find(_plain(row.get(column, ""))) for row in table.rows]
        ambiguous = sum(kind in ("path", "name") and len(scans) > 1 for kind, scans in found)
        matches = [scans for _, scans in found]
        count = len({scan for scans in matches for scan in scans})
        if count > best[0]:
            best = (count, column, matches, ambiguous)
    _, winner, matches, ambiguous = best
    if winner is None:
        tried = f"column '{candidates[0][0]}'" if len(candidates) == 1 else f"any of {len(candidates)} columns"
        raise UserError(
            f"none of {len(table.rows)} rows fits any of {len(index.owner)} scans by {tried}",
            SourcePath(table.path),
            "The scan column holds file names or paths below the source (with or without ending) or folders of series; "
            "a patient column holds PatientIDs. Name the columns with --scan-column and --patient-column.",
        )
    if ambiguous:
        raise UserError(
            f"{ambiguous} rows name files that exist in several folders (column '{winner}')",
            SourcePath(table.path),
            "Write paths below the source instead of bare file names.",
        )
    return winner, matches


def _plain(text: str) -> str:
    return text.replace("\\", "/").removeprefix("./").strip("/")


def _collect(table: Table, matches: list[list[str]]) -> tuple[list, dict[str, str], dict[str, str]]:
    """(scan, target, value) rows, and patient and group by scan; empty values count as unlabeled."""
    values: dict[tuple[str, str], str] = {}
    owners: dict[str, dict[str, str]] = {"patient": {}, "group": {}}
    conflicts: set[tuple[str, str]] = set()
    for row, scans in zip(table.rows, matches, strict=True):
        for scan in scans:
            for target in table.targets:
                value = row.get(target, "")
                if value.lower() not in MISSING and values.setdefault((scan, target), value) != value:
                    conflicts.add((scan, target))
            for role, column in (("patient", table.patient), ("group", table.group)):
                name = row.get(column, "") if column else ""
                if name and owners[role].setdefault(scan, name) != name:
                    conflicts.add((scan, role))
    if conflicts:
        names = ", ".join(sorted({name for _, name in conflicts}))
        raise UserError(
            f"{len({scan for scan, _ in conflicts})} scans have rows that disagree about: {names}",
            SourcePath(table.path),
            "Keep one row a scan, or rows that agree.",
        )
    return [(s, t, v) for (s, t), v in values.items()], owners["patient"], owners["group"]


def _patient_keys(patients: dict[str, str], groups: dict[str, str], index: _Index, keys: Keys) -> dict[str, str]:
    """New patient keys of scans whose files carry no patient of their own.

    A patient whom the table names and who has scans with that PatientID keeps the key of those; where only groups are
    known, the group stands for the patient.
    """
    named: dict[str, set[str]] = defaultdict(set)
    for scan, name in patients.items():
        key, origin = index.owner[scan]
        if origin == "id":
            named[name].add(key)
    new = {}
    for scan in patients.keys() | groups.keys():
        if index.owner[scan][1] == "id":
            continue
        if scan in patients:
            own = named.get(patients[scan], set())
            new[scan] = next(iter(own)) if len(own) == 1 else keys.patient("", patients[scan])
        else:
            new[scan] = keys.patient_of("group", groups[scan])
    return new
