"""Scans and labels that arms learn from beside the budget's: of another cohort, another target, or both.

Nobody who is tested teaches. Of another cohort those are kept out who are test or validation patients of this one, or
patients of an external test cohort: by patient key, by an identical picture, by a near duplicate, and whoever is tied
to them there. Of the experiment's own cohort only the pool teaches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from medssl.cohort import Cohort
from medssl.cohort.cohort import UNIT_COLUMN
from medssl.cohort.duplicates import near_between
from medssl.cohort.outliers import blank_pictures
from medssl.cohort.samples import planned
from medssl.cohort.splits import Split, components, tied_patients
from medssl.config import SUPERVISED, Arm, Experiment, Other, Target, View
from medssl.errors import UserError, unknown
from medssl.experiment.groups import attribute_names, attribute_values
from medssl.experiment.labels import by_strata, joined, labeled_units, make_target
from medssl.transfer import Strategy, TargetKind
from medssl.transfer.target import NOTHING
from medssl.workspace import digest

FEWEST = 20  # units with both labels, below which nothing is said of how much one tells of the other


@dataclass(frozen=True)
class OtherData:
    """An entry under `others:` with its scans and labels.

    Attributes:
        name: of the entry.
        cohort: whose scans they are; `own`: whether it is the experiment's.
        target: what the labels say; `same_task`: whether in the classes of the experiment's target.
        units: columns `unit, patient, label`, all labels that may teach; empty where only its scans are wanted.
        kept_out: patients of the cohort who may not teach.
        tells: share of the pool's units whose own label (of numbers the third) follows from this one; None where that
            is not known.
    """

    name: str
    cohort: Cohort
    own: bool
    target: Target
    same_task: bool
    units: pd.DataFrame
    kept_out: frozenset[str]
    tells: float | None = None

    @cached_property
    def patients(self) -> list[str]:
        """Who may teach."""
        return sorted(set(self.cohort.scans()["patient"]) - self.kept_out)

    @cached_property
    def scans_key(self) -> str:
        """Names all that decides what is learnt from its scans, but for the view."""
        return digest([self.cohort.hash, sorted(self.kept_out)])

    @cached_property
    def labels_key(self) -> str:
        """The same of its labels."""
        labels = self.units[["unit", "label"]].to_dict("list")
        return digest([self.scans_key, labels, self.target.model_dump(), self.same_task])

    def facts(self) -> dict[str, Any]:
        return {
            "cohort": self.cohort.name,
            "hash": self.cohort.hash,
            "own": self.own,
            "target": self.target.name if len(self.units) else None,
            "labels": len(self.units),
            "unit": self.target.unit,
            "patients": self.units["patient"].nunique() if len(self.units) else len(self.patients),
            "kept_out": 0 if self.own else len(self.kept_out),
            "tells": self.tells,
        }


def used_others(config: Experiment) -> dict[str, bool]:
    """Entries that an arm uses, itself or by its pretraining run -> whether their labels are learnt."""
    runs = [config.pretraining[arm.pretrain] for arm in config.arms.values() if arm.pretrain]
    learnt = {run.other for run in runs if run.other and run.task == SUPERVISED}
    learnt |= {arm.jointly for arm in config.arms.values() if arm.jointly}
    seen = {run.other for run in runs if run.other}
    return {name: name in learnt for name in config.others if name in learnt | seen}


def check_arm(name: str, arm: Arm, method: Strategy) -> None:
    """Raises UserError where an arm names other labels and its strategy has no use for them, or the other way round."""
    if method.takes_others and arm.jointly is None:
        fix = "Add jointly: NAME, an entry under others."
        raise UserError(f"'{arm.strategy_name}' learns other labels too, and the arm names none", f"arms.{name}", fix)
    if arm.jointly is not None and not method.takes_others:
        fix = "Take strategy: joint, or learn the other labels first (pretraining with task: supervised)."
        raise UserError(f"'{arm.strategy_name}' does not learn other labels jointly", f"arms.{name}.jointly", fix)


def find_others(
    config: Experiment,
    cohort: Cohort,
    split: Split,
    units: pd.DataFrame,
    own_target: TargetKind,
    external: tuple[Cohort, ...],
    cohorts: Mapping[str, Cohort],
) -> dict[str, OtherData]:
    """What each used entry holds, and who is kept out of it.

    Args:
        cohort, split, units, own_target: the experiment's own; columns `unit, patient, label, part`.
        external: test cohorts.
        cohorts: by entry, those of other cohorts.

    Raises:
        UserError: no such target, labels that are no classes, scans that do not fit the view, nobody left to teach.
    """
    tested = [(cohort, {*split.test, *split.validation}), *((far, set(far.scans()["patient"])) for far in external)]
    found: dict[str, OtherData] = {}
    for name, labeled in used_others(config).items():
        other = config.others[name]
        theirs = cohorts[name] if other.cohort is not None else cohort
        own = other.cohort is None
        if own:
            kept_out = frozenset(set(theirs.scans()["patient"]) - set(split.pool))
        else:
            _refuse_misfit(name, theirs, config.view)
            kept_out = _kept_out(theirs, tested)
        if not set(theirs.scans()["patient"]) - kept_out:
            fix = "Name a cohort of other patients."
            raise UserError(f"everybody in '{theirs.name}' is tested in this experiment", f"others.{name}", fix)
        target = other.target or config.target
        learnt, tells = pd.DataFrame({"unit": [], "patient": [], "label": []}, dtype=object), None
        if labeled:
            learnt = _labels(name, other, theirs, target)
            learnt = learnt[~learnt["patient"].isin(kept_out)].reset_index(drop=True)
            kind = own_target
            if other.same_task:
                learnt = mapped(name, other, learnt, config.target, own_target)
            else:
                kind = _other_kind(name, target, learnt)
            if own and target.unit == config.target.unit:
                tells = _tells(by_strata(learnt, kind), units[units["part"] == "pool"], own_target)
        found[name] = OtherData(name, theirs, own, target, other.same_task, learnt, kept_out, tells)
    return found


def _kept_out(other: Cohort, tested: list[tuple[Cohort, set[str]]]) -> frozenset[str]:
    """Patients of another cohort who are tested, whose pictures are, or who are tied to such a patient."""
    scans = other.scans()
    hit: set[str] = set()
    for cohort, patients in tested:
        held = cohort.scans()
        held = held[held["patient"].isin(patients)]
        same = scans[scans["content_hash"].isin(held["content_hash"])]
        pictures = {*same["content_hash"]} - blank_pictures(other, same)
        pictures |= near_between(cohort.path, held, other.path, scans)
        hit |= patients & set(scans["patient"]) | set(scans.loc[scans["content_hash"].isin(pictures), "patient"])
    number = components(tied_patients(other))
    numbers = {number[patient] for patient in hit}
    return frozenset(patient for patient, own in number.items() if own in numbers)


def _refuse_misfit(name: str, other: Cohort, view: View) -> None:
    try:
        planned(other.scans(), view, other.name)
    except UserError as error:
        fix = "Name a cohort whose scans fit, or change the experiment's view so that it fits both."
        what = f"the scans of '{other.name}' do not fit the experiment's view: {error.what}"
        raise UserError(what, f"others.{name}.cohort", fix) from None


def _labels(name: str, other: Other, cohort: Cohort, target: Target) -> pd.DataFrame:
    """unit, patient, label of a label of the cohort, or of an attribute of its scans."""
    if other.target is None or target.columns or target.name in cohort.targets():
        return labeled_units(cohort, target)[["unit", "patient", "label"]]
    scans = cohort.scans()
    if target.name not in attribute_names(scans):
        known = [*cohort.targets(), *attribute_names(scans)]
        raise unknown(f"label or attribute in '{cohort.name}'", target.name, known, f"others.{name}.target")
    values = attribute_values(scans, target.name)
    scans = scans.assign(unit=scans[UNIT_COLUMN[target.unit]], label=values.where(values.isna(), values.map(str)))
    frame = scans.dropna(subset=["label"])[["unit", "patient", "label"]].drop_duplicates()
    if twice := int(frame["unit"].duplicated().sum()):
        what = f"{twice} {target.unit}s have scans with different values of '{target.name}'"
        raise UserError(what, f"others.{name}.target", "Choose a smaller unit.")
    return frame


def mapped(name: str, other: Other, units: pd.DataFrame, target: Target, own: TargetKind) -> pd.DataFrame:
    """With labels as those of the experiment's target, which they mean.

    Args:
        own: the experiment's `target`, made of its labels.

    Raises:
        UserError: another kind of target, a label that is no class, a class that does not exist, fewer than two
            classes: where one class comes from elsewhere alone, the hospital is learnt and not the class. Of several
            labels all must be known there: a unit would be taught not to have what nobody looked for.
    """
    where = f"others.{name}.classes"
    if other.target is not None:
        _refuse_other_kind(name, other.target, target)
    labels = units["label"].tolist()
    named = own.strata(labels) if own.joined else [(label,) for label in labels]
    held = sorted({one for several in named for one in several})
    classes = [*own.classes, NOTHING] if own.joined else own.classes  # numbers have none
    for label, meant in other.classes.items():
        if label not in held:
            raise unknown("label", label, held, where)
        if classes and meant is not None and meant not in classes:
            raise unknown(f"class of '{target.name}'", meant, classes, where)
    known = [[word for one in several if (word := other.classes.get(one, one)) is not None] for several in named]
    found = {word for several in known for word in several}
    if classes and (strange := sorted(found - set(classes))):
        raise UserError(
            f"'{name}' has a label '{strange[0]}' that is no class of '{target.name}' ({', '.join(own.classes)})",
            where,
            f"Say which class it is ({strange[0]}: {own.classes[0]}), or leave it out ({strange[0]}: ~). Labels that "
            "mean something else are another task: give this entry a target and no classes.",
        )
    if own.joined and (lacking := sorted(set(own.classes) - found)):
        raise UserError(
            f"'{name}' never has the label '{lacking[0]}' of '{target.name}', and would teach that nobody has it",
            f"others.{name}",
            "Name a cohort that has all of them, or make it another task: give this entry a target and no classes.",
        )
    texts = [joined(words) if own.joined else (words[0] if words else None) for words in known]
    units = units.assign(label=pd.Series(texts, units.index, dtype=object)).dropna(subset=["label"])
    if (number := units["label"].nunique()) < 2:
        raise _useless(name, target, f"the labels hold {number} class(es) or value(s); at least 2 are needed")
    try:
        own.encode(units["label"].tolist())
    except UserError as error:
        raise _useless(name, target, error.what) from None
    return units.reset_index(drop=True)


def _refuse_other_kind(name: str, theirs: Target, own: Target) -> None:
    """Labels that mean the same are learnt as the experiment's target is."""
    if theirs.kind_name != own.kind_name or theirs.kind_settings not in ({}, own.kind_settings):
        raise UserError(
            f"the labels of '{name}' are said to mean those of '{own.name}', which is of kind {own.kind_name}, and to "
            "be of another kind, or to be learnt with other settings",
            f"others.{name}.target.kind",
            f"Write kind: {own.kind_name} without settings: they are those of the experiment. Labels of another kind "
            "are another task: leave classes out.",
        )


def _other_kind(name: str, target: Target, units: pd.DataFrame) -> TargetKind:
    """A target of these labels alone."""
    if units.empty:
        raise _useless(name, target, "nobody who may teach has such a label")
    try:
        return make_target(target, units["label"].tolist())
    except UserError as error:
        raise _useless(name, target, error.what) from None


def _useless(name: str, target: Target, what: str) -> UserError:
    fix = "Take labels that tell patients of this cohort apart, or leave the entry out."
    return UserError(f"'{target.name}' of '{name}': {what}", f"others.{name}", fix)


def _tells(learnt: pd.DataFrame, pool: pd.DataFrame, own: TargetKind) -> float | None:
    """See `OtherData`; of numbers their range. Of several labels at once it is not known.

    Args:
        learnt: as `by_strata` gives it.
    """
    both = learnt.merge(by_strata(pool.dropna(subset=["label"]), own), on="unit", suffixes=("_other", ""))
    if own.joined or "strata" in learnt or len(both) < FEWEST:
        return None
    counts = pd.crosstab(both["label_other"], both["label"])
    return round(float(counts.max(axis=1).sum() / len(both)), 3)
