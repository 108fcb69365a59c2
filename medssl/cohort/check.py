"""What a person should look at before a cohort is trusted: duplicates, patients under two keys, labels that disagree,
outliers, and what would leak through a careless split.

Nothing is changed and no split is drawn. What was found is written to `check.json` in the cohort.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from medssl.cohort import outliers
from medssl.cohort.cohort import Cohort
from medssl.cohort.splits import Split, tied_patients, torn
from medssl.progress import say
from medssl.workspace import write_json

if TYPE_CHECKING:
    import pandas as pd

TEST_SHARE = 0.2  # of the careless splits whose leaks are reckoned
EXAMPLES = 3  # cases of each concern that are printed; check.json has all


@dataclass
class Concern:
    """One kind of thing that was found.

    Attributes:
        decide: whether a person has to decide something before the cohort is used.
        cases: what it was found in, one dict each, with keyed ids only.
    """

    code: str
    decide: bool
    sentence: str
    todo: str
    cases: list[dict[str, Any]]

    @property
    def count(self) -> int:
        return len(self.cases)


@dataclass
class Check:
    """All that `check` found.

    Attributes:
        leaks: see `_leaks`.
    """

    cohort: str
    scans: int
    patients: int
    concerns: list[Concern] = field(default_factory=list)
    leaks: dict[str, float] = field(default_factory=dict)

    @property
    def to_decide(self) -> list[Concern]:
        return [c for c in self.concerns if c.decide]

    def as_json(self) -> dict[str, Any]:
        concerns = [asdict(c) | {"count": c.count} for c in self.concerns]
        return asdict(self) | {"concerns": concerns, "to_decide": [c.code for c in self.to_decide]}

    def lines(self) -> list[str]:
        """For a person to read."""
        text = [f"{self.cohort}: {self.scans:,} scans of {self.patients:,} patients"]
        for concern in sorted(self.concerns, key=lambda c: not c.decide):
            text.append(f"  {'DECIDE' if concern.decide else 'note'}: {concern.sentence} ({concern.count:,})")
            text += [f"    To do: {concern.todo}"] if concern.todo else []
            text += [f"    {_words(case)}" for case in concern.cases[:EXAMPLES]]
            text += [f"    and {concern.count - EXAMPLES:,} more"] if concern.count > EXAMPLES else []
        text += [f"  {line}" for line in self._leak_lines()]
        if self.to_decide:
            text.append(f"For a person to decide: {len(self.to_decide)} of these. check.json lists all cases.")
        else:
            text.append("Nothing has to be decided.")
        return text

    def _leak_lines(self) -> list[str]:
        leaks = self.leaks
        test = f"{TEST_SHARE:.0%} of scans in the test part"
        lines = [
            f"What would leak with {test}: of about {leaks['test_scans']:,.0f} test scans, a split by scan leaves "
            f"{leaks['same_patient_by_scan']:,.0f} with a scan of the same patient in training, and "
            f"{leaks['same_picture_by_scan']:,.0f} with the same picture.",
            f"A split by patient that ignores duplicates tears {leaks['pairs_torn_by_patient']:,.0f} of "
            f"{leaks['pairs_across_patients']:,.0f} pairs of pictures that patients share.",
        ]
        if "torn_by_split" in leaks:
            return [*lines, f"This cohort's own split tears {leaks['torn_by_split']:,.0f} groups of them."]
        return [*lines, "medssl's own split, not drawn yet, keeps patients who share a picture on one side."]


def check(cohort: Cohort) -> Check:
    """Look at a whole cohort; near duplicates take some seconds a thousand scans the first time."""
    scans, near = cohort.scans(), cohort.near_duplicates()
    blank = outliers.constant(cohort, scans)
    twins = _Twins(scans[~scans["scan"].isin(blank)], near)  # blank scans are equal, and no picture of anybody
    found = Check(cohort.name, len(scans), scans["patient"].nunique())
    found.concerns += _duplicates(twins)
    found.concerns += _patients(scans, twins)
    found.concerns += _labels(cohort, scans, twins)
    found.concerns += _masks(cohort, twins)
    flat = [{"scan": scan} for scan in blank]
    found.concerns.append(Concern("constant", False, "All values of the scan are the same.", "Leave it out.", flat))
    found.concerns += [Concern(code, False, what, todo, cases) for code, what, todo, cases in outliers.find(scans)]
    found.leaks = _leaks(cohort, scans, near, twins)
    if found.leaks.get("torn_by_split"):
        sentence = "The cohort's split was drawn before these duplicates were known, and tears groups of them."
        cases = [{"groups": int(found.leaks["torn_by_split"])}]
        found.concerns.append(
            Concern("torn_split", True, sentence, "Start a new cohort, or state it in results.", cases)
        )
    found.concerns = [c for c in found.concerns if c.cases]
    try:
        write_json(cohort.path / "check.json", found.as_json())
    except OSError as error:  # a cohort on a disk that may only be read
        say(f"check.json was not written ({error.strerror}).")
    return found


class _Twins:
    """Groups of scans that show the same picture: equal pixels, near duplicates, and chains of both."""

    def __init__(self, scans: pd.DataFrame, near: pd.DataFrame) -> None:
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import connected_components

        self.patient = dict(zip(scans["scan"], scans["patient"], strict=True))
        self.content = dict(zip(scans["scan"], scans["content_hash"], strict=True))
        self.origin = dict(zip(scans["patient"], scans["patient_from"], strict=True))
        self.detail = list(near[["first", "second", "detail"]].itertuples(index=False, name=None))
        contents = list(dict.fromkeys(scans["content_hash"]))
        place = {c: n for n, c in enumerate(contents)}
        first, second = ([place[self.content[scan]] for scan in near[name]] for name in ("first", "second"))
        links = coo_matrix((np.ones(len(near)), (first, second)), shape=(len(contents), len(contents)))
        component = connected_components(links, directed=False)[1]
        numbers = [component[place[c]] for c in scans["content_hash"]]
        self.groups = _several(scans["scan"], numbers)
        self.exact = _several(scans["scan"], scans["content_hash"])

    def owners(self, group: Iterable[str]) -> list[str]:
        return sorted({self.patient[scan] for scan in group})


def _several(members: Iterable[str], keys: Iterable[Any]) -> list[list[str]]:
    """Members by key, where a key has several."""
    groups: dict[Any, list[str]] = {}
    for member, key in zip(members, keys, strict=True):
        groups.setdefault(key, []).append(member)
    return [group for group in groups.values() if len(group) > 1]


def _duplicates(twins: _Twins) -> list[Concern]:
    exact = [{"scans": g, "patients": len(twins.owners(g))} for g in twins.exact]
    near = [{"scans": [a, b], "patients": len(twins.owners((a, b))), "alike": round(r, 2)} for a, b, r in twins.detail]
    keep = "Keep one of each, unless the copies are meant; splits keep them on one side."
    what = "Two scans show the same picture, saved again, rescaled or taken twice"
    return [
        Concern("exact_duplicates", False, f"Scans have exactly the same pixels{_shares(exact)}.", keep, exact),
        Concern("near_duplicates", False, f"{what}{_shares(near)}.", keep, near),
    ]


def _shares(cases: list[dict[str, Any]]) -> str:
    across = sum(case["patients"] > 1 for case in cases)
    return f": {len(cases) - across:,} times within a patient, {across:,} times across patient keys"


def _patients(scans: pd.DataFrame, twins: _Twins) -> list[Concern]:
    """Patients who are probably one. A key that stands for a file or an exam claims no identity, so only keys from ids
    or label tables ask for a decision."""
    known: list[dict[str, Any]] = []
    unknown: list[dict[str, Any]] = []
    for group in twins.groups:
        owners = twins.owners(group)
        if len(owners) > 1:
            claims = any(twins.origin[p] in ("id", "labels") for p in owners)
            (known if claims else unknown).append({"patients": owners, "scans": group})
    exams = scans.groupby("exam")["patient"].agg(lambda p: sorted(set(p)))
    shared = [{"exam": exam, "patients": p} for exam, p in exams.items() if len(p) > 1]
    return [
        Concern(
            "one_patient_two_keys", True, "Patients share a picture: one patient under several keys, or a mix-up.",
            "Map one patient or group id to them in a label table, or leave the copies out.", known,
        ),
        Concern(
            "exam_of_two_patients", True, "An exam belongs to several patients.",
            "Correct the patient id of its files, or map one in a label table.", shared,
        ),
        Concern(
            "unknown_patients_alike", False, "Files of unknown patients show the same picture.",
            "Map a patient or group column of a label table where patients are known.", unknown,
        ),
    ]  # fmt: skip


def _labels(cohort: Cohort, scans: pd.DataFrame, twins: _Twins) -> list[Concern]:
    conflicts, mixed = [], []
    for target in cohort.targets():
        value = dict(cohort.labels(target).itertuples(index=False, name=None))
        for group in twins.groups:
            values = sorted({value[scan] for scan in group if scan in value})
            if len(values) > 1:
                conflicts.append({"target": target, "values": values, "scans": [s for s in group if s in value]})
        labels = scans[["scan", "patient"]].assign(value=scans["scan"].map(value)).dropna()
        several = labels.groupby("patient")["value"].nunique() > 1
        if several.any():
            mixed.append({"target": target, "patients": int(several.sum()), "of": len(several)})
    return [
        Concern(
            "label_conflicts", True, "Scans that show the same picture have different labels.",
            "Decide which label is right, or leave them out.", conflicts,
        ),
        Concern(
            "labels_within_patients", False, "Patients have scans with different labels.",
            "Use the image or exam as the unit of this target, unless it should be one value a patient.", mixed,
        ),
    ]  # fmt: skip


def _masks(cohort: Cohort, twins: _Twins) -> list[Concern]:
    cases = []
    for group in twins.exact:
        masks = [(scan, mask) for scan in group if (mask := cohort.mask(scan)) is not None]
        if any(not np.array_equal(masks[0][1], mask) for _, mask in masks[1:]):
            cases.append({"scans": [scan for scan, _ in masks]})
    sentence = "Scans with exactly the same pixels have different masks."
    return [Concern("mask_conflicts", True, sentence, "Decide which mask is right, or leave them out.", cases)]


def _leaks(cohort: Cohort, scans: pd.DataFrame, near: pd.DataFrame, twins: _Twins) -> dict[str, float]:
    """What splits that know less would let through, as expected numbers, and what the cohort's own split does.

    Returns:
        test_scans: scans in a test part of TEST_SHARE.
        same_patient_by_scan, same_picture_by_scan: of those, after a split by scan, how many have a scan of the same
            patient, or the same picture, in the rest.
        pairs_across_patients: pairs of same pictures (of each chain, all pairs) with different patient keys.
        pairs_torn_by_patient: of those, how many a split by patient tears that ignores duplicates.
        torn_by_split: groups of tied patients that the split in `split.json` tears; missing where none is drawn.
    """
    sizes = scans.groupby("patient").size().to_numpy()
    pictures = np.array([len(g) for g in twins.groups], int)
    across = 0
    for group in twins.groups:
        counts = np.unique([twins.patient[scan] for scan in group], return_counts=True)[1]
        across += (len(group) ** 2 - int((counts**2).sum())) // 2
    leaks: dict[str, float] = {
        "test_scans": TEST_SHARE * len(scans),
        "same_patient_by_scan": _left_behind(sizes),
        "same_picture_by_scan": _left_behind(pictures),
        "pairs_across_patients": across,
        "pairs_torn_by_patient": 2 * TEST_SHARE * (1 - TEST_SHARE) * across,
    }
    path = cohort.path / "split.json"
    if path.is_file():
        leaks["torn_by_split"] = torn(Split.load(path), tied_patients(cohort, near))
    return {name: round(value, 1) for name, value in leaks.items()}


def _left_behind(sizes: np.ndarray) -> float:
    """Expected members in a random test part of TEST_SHARE of whose group something is in the rest."""
    return float((TEST_SHARE * sizes * (1 - TEST_SHARE ** (sizes - 1))).sum())


def _words(case: dict[str, Any]) -> str:
    """A case in one line: at most four ids of each list."""
    parts = []
    for name, value in case.items():
        if isinstance(value, list):
            shown = ", ".join(map(str, value[:4])) + (f" and {len(value) - 4} more" if len(value) > 4 else "")
            parts.append(f"{name} {shown}")
        else:
            parts.append(f"{name} {value}")
    return "; ".join(parts)
