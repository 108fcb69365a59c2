"""One split a cohort, by patient: pool, validation and test.

Patients who are tied (one group, an identical image under two keys, near duplicates) move together. The test part is
frozen: a cohort that grows sends its new patients to the pool, and to another part only where they are tied to a
patient there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from medssl.cohort.cohort import Cohort
from medssl.cohort.outliers import blank_pictures
from medssl.config import Fractions
from medssl.errors import UserError
from medssl.progress import say
from medssl.workspace import digest, write_json

PARTS = ("pool", "validation", "test")
OF_FOLDS = {"folds", "repeats", "labels"}  # no part of a split's name, which is older than they are
OFFICIAL = {
    **dict.fromkeys(("train", "training", "pool"), "pool"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


@dataclass(frozen=True)
class Split:
    """Patient keys of each part, sorted. Pretraining uses pool and validation; budgets are drawn from the pool."""

    pool: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    fractions: Fractions

    @property
    def hash(self) -> str:
        return digest({part: getattr(self, part) for part in PARTS})

    def part_of(self) -> dict[str, str]:
        """Patient key -> name of its part."""
        return {patient: part for part in PARTS for patient in getattr(self, part)}

    def save(self, path: Path) -> None:
        parts = {part: list(getattr(self, part)) for part in PARTS}
        write_json(path, {**parts, "hash": self.hash, "fractions": self.fractions.model_dump()})

    @classmethod
    def of(cls, parts: dict[str, list[str]], fractions: Fractions) -> Split:
        pool, validation, test = (tuple(sorted(parts[part])) for part in PARTS)
        return cls(pool, validation, test, fractions)

    @classmethod
    def load(cls, path: Path) -> Split:
        """Raises UserError where the file was edited: its hash no longer fits its patients."""
        raw = json.loads(path.read_text())
        split = cls.of({part: raw[part] for part in PARTS}, Fractions(**raw["fractions"]))
        if split.hash != raw["hash"]:
            raise UserError("the split does not fit its hash: it was changed by hand", path.name, "Restore the file.")
        return split


def split_patients(patients: pd.DataFrame, fractions: Fractions) -> Split:
    """Draw a split, stratified by label.

    Args:
        patients: one row per (patient, label); columns `patient`, `label` (missing for unlabeled), and `ties`, a
            list of keys (group, content hashes), and where it is there `near`, a list of keys of near duplicates:
            patients who share any key stay together. The order of rows decides what is drawn, and the keys do not: in
            the cohort's own order, the same scans give the same split under any secret.
        fractions: shares of test and validation among labeled patients. Unlabeled patients go to the pool, where
            pretraining can use them: in the test part they would be of no use to anybody.
    """
    component = components(patients)
    labels = (
        patients.dropna(subset=["label"]).groupby("patient")["label"].agg(lambda v: "|".join(sorted({*map(str, v)})))
    )
    members: dict[int, list[str]] = {}
    for patient, number in component.items():
        members.setdefault(number, []).append(patient)
    strata: dict[str, list[list[str]]] = {}
    for group in members.values():
        signature = "|".join(sorted({labels[p] for p in group if p in labels.index}))
        strata.setdefault(signature, []).append(group)
    rng = np.random.default_rng(fractions.seed)
    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    parts["pool"] += [p for group in strata.pop("", []) for p in group]
    owed = {
        "test": 0.0,
        "validation": 0.0,
    }  # carries the rounding from stratum to stratum, so that small strata add up
    for signature in sorted(strata):
        groups = [strata[signature][i] for i in rng.permutation(len(strata[signature]))]
        for part, share in (("test", fractions.test), ("validation", fractions.validation)):
            owed[part] += share * sum(map(len, strata[signature]))
            while groups and owed[part] >= len(groups[-1]) / 2:
                chosen = groups.pop()
                parts[part] += chosen
                owed[part] -= len(chosen)
        parts["pool"] += [p for group in groups for p in group]
    return Split.of(parts, fractions)


def tied_patients(cohort: Cohort, near: pd.DataFrame | None = None) -> pd.DataFrame:
    """patient, ties, near: one row a patient in the order of the cohort's scans, with the keys that tie it to others.

    Args:
        near: pairs of near duplicates, if not those of `Cohort.near_duplicates`.
    """
    scans, near = cohort.scans(), cohort.near_duplicates() if near is None else near
    shared = scans[scans.groupby("content_hash")["patient"].transform("nunique") > 1]
    pictures = scans["content_hash"].mask(scans["content_hash"].isin(blank_pictures(cohort, shared)))
    keys = scans[["patient", "group"]].assign(picture=pictures).melt(id_vars="patient").dropna()
    frame = keys.groupby("patient", sort=False)["value"].agg(lambda v: sorted(set(v))).rename("ties").reset_index()
    owner = dict(zip(scans["scan"], scans["patient"], strict=True))
    pairs: dict[str, list[str]] = {}
    for number, (first, second) in enumerate(zip(near["first"], near["second"], strict=True)):
        for scan in (first, second):
            pairs.setdefault(owner[scan], []).append(f"near {number}")
    return frame.assign(near=frame["patient"].map(lambda patient: pairs.get(patient, [])))


def grow(split: Split, patients: pd.DataFrame) -> Split:
    """The same split for a cohort that changed: new patients join the pool, or the part that they are tied to.

    Patients who are no longer in the cohort keep their place: a test patient who comes back is a test patient.

    A split that was drawn before near duplicates were known stays as it is; `torn` counts what it tears.

    Raises:
        UserError: a new tie joins patients of different parts, or a new patient has near duplicates in two of them.
    """
    part = split.part_of()
    new = set(patients["patient"]) - part.keys()
    apart = [parts for parts, _ in _across(patients[["patient", "ties"]], part) if len(parts) > 1]
    apart += [parts for parts, members in _across(patients, part) if len(parts) > 1 and members & new]
    if apart:
        raise UserError(
            f"{len(apart)} group(s) of duplicates or tied patients now lie across pool, validation and test",
            "split.json",
            "Remove the duplicates from the source, or start a new cohort (its results will not be comparable).",
        )
    away = part.keys() - set(patients["patient"])  # they may come back, and not into another part
    parts: dict[str, list[str]] = {p: [patient for patient in away if part[patient] == p] for p in PARTS}
    for where, members in _across(patients, part):
        home = next(iter(where), "pool")
        for patient in members:
            parts[part.get(patient, home)].append(patient)
    return Split.of(parts, split.fractions)


def torn(split: Split, patients: pd.DataFrame) -> int:
    """Groups of tied patients and near duplicates that lie across the parts of a split."""
    return sum(len(parts) > 1 for parts, _ in _across(patients, split.part_of()))


def _across(patients: pd.DataFrame, part: dict[str, str]) -> list[tuple[set[str], set[str]]]:
    """(parts, patients) of each connected component; a patient without a part adds none."""
    found: dict[int, tuple[set[str], set[str]]] = {}
    for patient, number in components(patients).items():
        parts, members = found.setdefault(number, (set(), set()))
        members.add(patient)
        parts |= {part[patient]} if patient in part else set()
    return list(found.values())


def components(patients: pd.DataFrame) -> dict[str, int]:
    """Patient key -> number of its connected component, by shared `ties` and `near` (union-find)."""
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while parent.setdefault(key, key) != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for column in ("ties", "near"):
        if column in patients:
            for patient, ties in zip(patients["patient"], patients[column], strict=True):
                for tie in ties:
                    parent[root(f"patient {patient}")] = root(f"tie {tie}")
    numbers: dict[str, int] = {}
    names = patients["patient"].unique()
    return {p: numbers.setdefault(root(f"patient {p}"), len(numbers)) for p in names}


def official_split(patients: pd.DataFrame, official: pd.DataFrame, fractions: Fractions) -> Split:
    """The parts that a data set came with. Patients without one go to the pool.

    Args:
        patients: as for `split_patients`; ties do not move anybody here, and `torn` counts those that are torn.
        official: columns `patient` and `value` (train, val or test, in the words of `OFFICIAL`), a row a scan.
        fractions: with the column's name.

    Raises:
        UserError: another word, no test patient, or a patient in two parts.
    """
    words = official["value"].str.strip().str.lower()
    if strange := sorted(set(words) - set(OFFICIAL)):
        known = "Known words: " + ", ".join(sorted(OFFICIAL)) + "."
        raise UserError(f"'{strange[0]}' is no part of a split", f"split.column={fractions.column}", known)
    parts = words.map(OFFICIAL).groupby(official["patient"]).agg(set)
    if torn_apart := int((parts.map(len) > 1).sum()):
        raise UserError(
            f"'{fractions.column}' puts scans of {torn_apart} patient(s) into more than one part",
            f"split.column={fractions.column}",
            "Leave split.column out: the cohort is then split by patient.",
        )
    found: dict[str, list[str]] = {part: [] for part in PARTS}
    for patient in patients["patient"].unique():
        found[next(iter(parts[patient])) if patient in parts.index else "pool"].append(patient)
    if not found["test"]:
        raise UserError("the official split has no test patient", f"split.column={fractions.column}")
    return Split.of(found, fractions)


def cohort_split(
    folder: Path, patients: pd.DataFrame, fractions: Fractions, official: pd.DataFrame | None = None
) -> Split:
    """The cohort's one split: read from `folder/split.json`, or drawn and stored there on first use.

    Args:
        official: of `official_split`, where the config names a column. With a value to hold out, the split is one of
            several of this cohort, each in a file of its own, since each site is the test part once.

    Raises:
        UserError: other fractions than those of the stored split; a second split would let test patients into training.
    """
    own = digest(fractions.model_dump(exclude=OF_FOLDS), 8)
    path = folder / ("split.json" if fractions.hold_out is None else f"split-{own}.json")
    if not path.exists():
        split = (
            split_patients(patients, fractions) if official is None else official_split(patients, official, fractions)
        )
        split.save(path)
        return _with_note(split, patients)
    stored = Split.load(path)
    if stored.fractions != fractions:
        raise UserError(
            f"this cohort was split with {_words(stored.fractions)}, the config asks for {_words(fractions)}",
            "split",
            "A cohort has one split, shared by its experiments. Use its values, or another cohort name.",
        )
    grown = grow(stored, patients) if official is None else official_split(patients, official, fractions)
    before, now = stored.part_of(), grown.part_of()
    if any(now.get(patient, part) != part for patient, part in before.items()):
        raise UserError(
            "the official split of this cohort has changed since it was first used",
            f"split.column={fractions.column}",
            "Start a new cohort: results on the old test patients would not be comparable.",
        )
    if grown != stored:
        grown.save(path)
    return _with_note(grown, patients)


def _with_note(split: Split, patients: pd.DataFrame) -> Split:
    if count := torn(split, patients):
        why = "was drawn before they were known"
        if split.fractions.column:
            why = "follows a column" if split.fractions.hold_out else "is the official one"
        say(
            f"Note: {count} group(s) of exact or near duplicates lie across this cohort's split, which {why}; "
            "`medssl audit` will say so. A new cohort that is split by patient keeps them together."
        )
    return split


def _words(fractions: Fractions) -> str:
    if fractions.hold_out:
        return f"'{fractions.hold_out}' of '{fractions.column}' held out"
    if fractions.column:
        return f"the official parts in column '{fractions.column}'"
    return f"test {fractions.test:g}, validation {fractions.validation:g}, seed {fractions.seed}"
