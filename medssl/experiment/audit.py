"""Prove from the artefacts alone that an experiment kept its protocol: all is read again, and nothing is believed.

Read are the experiment's folder (config, split, budgets, evidence, tables), the cohort (catalog and voxels) and the
folders of the encoders. Evidence is read from its own files and never from a copy.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from medssl.cohort.duplicates import near_between
from medssl.cohort.splits import PARTS
from medssl.config import View
from medssl.errors import MedsslError
from medssl.experiment.computed import read_tables
from medssl.experiment.external import PART
from medssl.experiment.labels import labeled_units, make_target
from medssl.experiment.record import Record
from medssl.experiment.results import Results
from medssl.experiment.weights import known_patients, named_files
from medssl.workspace import digest

TOLERANCE = 1e-9


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: whether it holds, in a sentence."""

    name: str
    passed: bool
    sentence: str


def audit(path: Path | str) -> list[Check]:
    """All checks of an experiment, in the order of the data's way.

    Raises:
        UserError: there is no experiment at `path`.
    """
    record = Record(Results.open(path))
    checks = CHECKS | (OF_FOLDS if record.config.split.folds else {}) | (OF_OTHERS if record.config.others else {})
    return [_guarded(name, check, record) for name, check in checks.items()]


def _guarded(name: str, check: Callable[[Record], Iterator[str]], record: Record) -> Check:
    """A check passes where it finds no fault; an artefact that is missing or damaged proves nothing, so that fails."""
    try:
        faults = list(check(record))
    except MedsslError as error:
        faults = [error.what]
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        faults = [f"an artefact is missing or damaged ({type(error).__name__})"]
    more = f" ({len(faults) - 1} more of this kind)" if len(faults) > 1 else ""
    return Check(name, not faults, faults[0] + more if faults else str(check.__doc__))


def _patients(record: Record) -> Iterator[str]:
    """No patient is in two parts; labels and scores come from patients of the parts that they should come from."""
    raw = record.json("split.json")
    if digest({part: sorted(raw[part]) for part in PARTS}) != raw["hash"]:
        yield "the split was changed after it was drawn: it does not fit its hash"
    for first, second in (("pool", "validation"), ("pool", "test"), ("validation", "test")):
        if shared := record.split[first] & record.split[second]:
            yield f"{len(shared)} patient(s) are in {first} and in {second}"
    home = "test" if record.tested else "pool"  # cross-fitted, who is tested in one fold teaches the others
    if astray := record.trained - record.split[home]:
        yield f"{len(astray)} patient(s) gave labels for training and are not in the {home} part"
    evidence = record.results.evidence()
    far = [PART + name for name in record.external if record.config.evaluate == "test"]
    if set(evidence["split"]) != {record.config.evaluate, *far}:
        yield "evidence was scored on other parts than the config says"
    evidence = evidence[evidence["split"] == record.config.evaluate]
    if astray := set(evidence["patient"]) - record.split[record.config.evaluate]:
        yield f"{len(astray)} scored patient(s) are not in the {record.config.evaluate} part"
    owners = evidence[["unit", "patient"]].drop_duplicates()
    if any(record.patient_of.get(unit) != patient for unit, patient in owners.itertuples(index=False)):
        yield "evidence names other patients for its units than the catalog"
    for name, scans in record.external.items():
        if shared := set(scans["patient"]) & set(record.scans["patient"]):
            yield f"{len(shared)} patient(s) of the external cohort '{name}' are in this one too"
    units = labeled_units(record.cohort, record.config.target)
    target = make_target(record.config.target, units["label"].tolist())
    columns = target.as_columns(target.encode(units["label"].tolist())).astype(np.float32)
    known = pd.DataFrame(columns, units["unit"], target.columns).stack()
    truth = evidence.drop_duplicates(["unit", "cls"]).set_index(["unit", "cls"])["truth"]
    if not np.array_equal(known.reindex(truth.index).to_numpy(), truth.to_numpy()):
        yield "the truth in the evidence is not what the cohort's labels say"


def _exact(record: Record) -> Iterator[str]:
    """No picture lies in two of training, validation and test, under whatever name."""
    owners = record.scans.groupby("actual")["patient"].agg(set)
    for first, mine, second, theirs in record.apart:
        if crossing := sum(bool(p & mine) and bool(p & theirs) for p in owners):
            yield f"{crossing} identical picture(s) lie in {first} and in {second}"
    taught = set(record.scans.loc[record.scans["patient"].isin(record.taught), "actual"])
    for name, scans in record.external.items():
        if shared := taught & set(scans["actual"]):
            yield f"{len(shared)} identical picture(s) lie in training and in the external cohort '{name}'"
    if changed := int((record.scans["actual"] != record.scans["content_hash"]).sum()):
        yield f"{changed} scan(s) hold other voxels than the catalog says"


def _near(record: Record) -> Iterator[str]:
    """No near duplicate (saved again, rescaled, brightened, shifted) crosses training, validation and test."""
    owner = dict(zip(record.scans["scan"], record.scans["patient"], strict=True))
    found = record.cohort.near_duplicates()
    pairs = [{owner[a], owner[b]} for a, b in zip(found["first"], found["second"], strict=True)]
    for first, mine, second, theirs in record.apart:
        if crossing := sum(bool(p & mine) and bool(p & theirs) for p in pairs):
            yield f"{crossing} pair(s) of near duplicates lie across {first} and {second}"
    taught = record.scans[record.scans["patient"].isin(record.taught)]
    for name, scans in record.external.items():
        if near := near_between(record.external_folder(name), scans, record.cohort.path, taught):
            yield f"{len(near)} near duplicate(s) lie across training and the external cohort '{name}'"


def _pretraining(record: Record) -> Iterator[str]:
    """No test patient took part in the pretraining of any encoder, and no file of weights knows one."""
    tested = record.split["test"].union(*(scans["patient"] for scans in record.external.values()))
    for _, path in named_files(record.config):
        if (number := known_patients(path, tested)) is None:
            yield f"'{path.name}' does not say which patients it learned from"
        elif number:
            yield f"'{path.name}' has learned from {number} test patient(s)"
    encoders = record.path.parent.parent / "encoders"
    for name, key in record.json("pretrained.json").items():
        seen = record.pretrained[name]
        if shared := seen & record.split["test"]:
            yield f"{len(shared)} test patient(s) were used to pretrain '{name}'"
        identity = json.loads((encoders / key / "run.json").read_text())["identity"]
        samples = record.cohort.samples(View.model_validate(identity["view"]))
        everyone = set(samples.table["patient"])
        if identity["samples"] == samples.key and identity["excluded"] != digest(sorted(everyone - seen)):
            yield f"who was kept out of the pretraining of '{name}' is not who its folder says"


def _others(record: Record) -> Iterator[str]:
    """Of whoever taught other labels nobody is tested: no patient, no picture and no near duplicate."""
    tested = {*record.split["test"], *record.split["validation"]}
    held = record.scans[record.scans["patient"].isin(tested)]
    sides = [("this cohort", record.cohort.path, held)]
    sides += [(f"external cohort '{n}'", record.external_folder(n), s) for n, s in record.external.items()]
    for name, (cohort, scans) in record.others.items():
        for whose, path, mine in sides:
            if shared := set(scans["patient"]) & set(mine["patient"]):
                yield f"{len(shared)} tested patient(s) of {whose} taught '{name}'"
            if shared := set(scans["actual"]) & set(mine["actual"]):
                yield f"{len(shared)} picture(s) that are tested in {whose} taught '{name}'"
            if near := near_between(path, mine, cohort.path, scans):
                yield f"{len(near)} near duplicate(s) of pictures that are tested in {whose} taught '{name}'"


def _nested(record: Record) -> Iterator[str]:
    """In each draw the smaller budgets lie inside the larger ones, and hold as many units as they say."""
    numbers = sorted(int(b) for b in record.config.budgets if b != "all")
    names = [str(n) for n in numbers] + ["all"] * ("all" in record.config.budgets)
    labels = record.results.facts["classes"]["test" if record.tested else "pool"]
    classes = len(labels) if record.config.per == "class" else 1
    for draw, budgets in record.budgets.items():
        for small, large in pairwise(names):
            if not set(budgets[small]) <= set(budgets[large]):
                yield f"in draw {draw} the {small} are not among the {large}"
        for n in numbers:
            if len(set(budgets[str(n)])) != n * classes:
                yield f"in draw {draw} the budget of {n} does not hold {n * classes} units"


def _draws(record: Record) -> Iterator[str]:
    """All arms met the same draws: the same labels at each budget, and the same number of them."""
    jobs, config = record.jobs, record.config
    wanted = {(str(b), d) for b in config.budgets for d in range(config.draws)}
    for name, arm in config.arms.items():
        own = jobs[jobs["arm"] == name]
        for run in range(arm.pretrain_seeds):
            found = set(zip(own.loc[own["run"] == run, "budget"], own.loc[own["run"] == run, "draw"], strict=True))
            if found != wanted:
                yield f"arm '{name}' has other draws than the config asks for"
    for job in jobs.to_dict("records"):
        if job["labels"] != digest(sorted(record.budgets[job["draw"]][job["budget"]])):
            yield f"arm '{job['arm']}' was trained on other labels than draw {job['draw']} has at {job['budget']}"
    seeds = (
        jobs[jobs["arm"].map(lambda name: config.arms[name].seed == 0)].groupby(["budget", "draw"])["seed"].nunique()
    )
    if (seeds > 1).any():
        yield "arms of one draw had different training seeds"


def _trials(record: Record) -> Iterator[str]:
    """Every arm was scored with the same number of recipes, and where recipes were tuned all arms tried as many, on
    labels of the budget whose patients taught nothing to the trials."""
    scored = record.everything[record.everything["split"] == record.config.evaluate]
    tried = scored[scored["arm"].isin(list(record.config.arms))].groupby("arm")["recipe"].nunique()
    if tried.nunique() > 1:
        yield f"arm '{tried.idxmax()}' was scored with {tried.max()} recipes, arm '{tried.idxmin()}' with {tried.min()}"
    if record.config.tuning:
        yield from _tuning(record, record.config.tuning.trials)


def _tuning(record: Record, trials: int) -> Iterator[str]:
    of, tuned = record.patient_of, set(map(str, record.results.tuned_budgets))
    found = record.results.trials()
    jobs = found.assign(budget=found["budget"].map(str)).groupby(["arm", "budget", "draw", "run"])
    chosen = jobs["chosen"].sum()
    wanted = record.jobs.loc[record.jobs["budget"].isin(tuned), ["arm", "budget", "draw", "run"]]
    everyone = set(wanted.itertuples(index=False, name=None))
    if set(chosen.index) != everyone or (jobs.size() != trials).any() or (chosen != 1).any():
        yield f"some job that should have chosen one of {trials} recipes did not"
    for draw, budgets in record.json("validation.json").items():
        for budget, held in budgets.items():
            taught = record.budgets[int(draw)][budget]
            if not set(held) < set(taught):
                yield f"in draw {draw} the labels that chose the recipes at {budget} are not a part of the budget"
            if {of[unit] for unit in held} & {of[unit] for unit in set(taught) - set(held)}:
                yield f"in draw {draw} labels of one patient at {budget} both taught and chose recipes"


def _tables(record: Record) -> Iterator[str]:
    """The tables follow from the evidence: computed again, they are the same to the last digit shown."""
    results = record.results
    fresh = results.compute(lambda part: results.load(part, kept=False))
    stored = {"tables": read_tables(results.tables_file)}
    for name in ("scores", "differences"):
        if (csv := record.path / f"{name}.csv").exists():
            stored[csv.name] = {name: pd.read_csv(csv, dtype={"budget": object}, keep_default_na=True)}
    for place, tables in stored.items():
        for name, table in (tables or {}).items():
            if not _same(table, fresh[name]):
                yield f"the {name} in {place} are not those that follow from the evidence"


def _folds(record: Record) -> Iterator[str]:
    """Each labeled patient is tested once a repeat, by models that learnt from others, in one fold for all arms."""
    of, size = record.patient_of, record.config.split.folds
    assert size is not None
    if sorted(record.tested) != list(range(size * record.config.split.repeats)):
        yield f"there are not {size} folds in each of {record.config.split.repeats} repeats"
        return
    everyone = sorted({unit for fold in record.tested.values() for unit in fold})
    for start in range(0, len(record.tested), size):
        folds = [record.tested[draw] for draw in range(start, start + size)]
        if sorted(unit for fold in folds for unit in fold) != everyone:
            yield f"repeat {start // size} does not test every unit exactly once"
        if sum(len({of[unit] for unit in fold}) for fold in folds) != len({of[unit] for unit in everyone}):
            yield f"repeat {start // size} has units of one patient in several folds"
    for draw, (taught, fold) in record.folds.items():
        if shared := taught & fold:
            yield f"{len(shared)} patient(s) of draw {draw} gave labels to the model that was tested on them"
    evidence = record.results.evidence()
    for _, job in evidence.groupby("job"):
        arm, number = job["arm"].iloc[0], int(job["draw"].iloc[0])
        if set(job["unit"]) != set(record.tested[number]):
            yield f"arm '{arm}' was tested on other units than the fold of draw {number}"


CHECKS = {
    "patients": _patients,
    "exact duplicates": _exact,
    "near duplicates": _near,
    "pretraining": _pretraining,
    "nested budgets": _nested,
    "same draws": _draws,
    "trials": _trials,
    "tables": _tables,
}
OF_FOLDS = {"folds": _folds}
OF_OTHERS = {"other labels": _others}


def _same(stored: pd.DataFrame, fresh: pd.DataFrame) -> bool:
    if list(stored.columns) != list(fresh.columns) or len(stored) != len(fresh):
        return False
    for column in fresh:
        if pd.api.types.is_numeric_dtype(fresh[column]) and not pd.api.types.is_bool_dtype(fresh[column]):
            if not np.allclose(
                stored[column].astype(float), fresh[column].astype(float), atol=TOLERANCE, equal_nan=True
            ):
                return False
        elif stored[column].map(str).tolist() != fresh[column].map(str).tolist():
            return False
    return True
