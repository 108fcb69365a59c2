"""Cross-fitting, for a few dozen labels in total: folds take the place of the one test part.

A draw is the training set that leaves one fold of one repeat out; draw = repeat x folds + fold. So jobs, index and
evidence know nothing but draws, each of which has units of its own to be tested.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from medssl.cohort import Cohort
from medssl.cohort.budgets import Budgets, draw_budgets
from medssl.cohort.cohort import UNIT_COLUMN
from medssl.cohort.folds import draw_folds
from medssl.cohort.splits import Split, components
from medssl.config import Experiment
from medssl.errors import UserError
from medssl.experiment.labels import by_strata
from medssl.metrics import FAMILIES
from medssl.transfer import TargetKind
from medssl.workspace import write_json

UNLABELED = 2000  # units of the pool that strategies see at most; more do not change a mean or a graph much
Tested = dict[int, list[str]]  # draw -> the units of its fold


def cross_fit(
    config: Experiment, cohort: Cohort, units: pd.DataFrame, ties: pd.DataFrame, target: TargetKind
) -> tuple[Split, pd.DataFrame, Budgets, Tested]:
    """Split, units, budgets and folds of a cross-fitted experiment.

    The `test` part are the labeled patients and whoever is tied to them, and nobody in it is pretrained on: an encoder
    that saw a patient who is tested in some fold would be transductive there. The `pool` are all others.

    Args:
        units: all that are labeled.
        ties: of all patients, as for `split_patients`.
        target: of these labels.

    Returns:
        split; units with columns `unit, patient, label, part`, those of the pool without label; labeled units of
        each draw and budget; units that each draw tests.

    Raises:
        UserError: the cohort has a test part, a unit may have several labels, a metric needs one model for all units,
            nobody is left to pretrain on, and all of `draw_folds` and `draw_budgets`.
    """
    wanted = config.split
    assert wanted.folds is not None
    if any(cohort.path.glob("split*.json")):
        fix = "Ingest the scans under another cohort name, or leave split.folds out."
        raise UserError("this cohort has a test part, and cross-fitting would train on it", "split.folds", fix)
    if target.joined:
        fix = "Leave split.folds out, or predict one label at a time."
        raise UserError("folds are drawn by class, and these units may have several labels", "split.folds", fix)
    known = FAMILIES[target.family].cross_fitted
    if other := sorted(set(config.metrics) - known):
        fix = f"Known here: {', '.join(sorted(known))}."
        raise UserError(f"'{other[0]}' needs one model for all units, and folds have one each", "metrics", fix)
    if wanted.labels is not None:
        units = _some(units, wanted.labels, config, target)
    found = draw_folds(by_strata(units, target), ties, wanted.folds, wanted.repeats, wanted.seed)
    tested = dict(enumerate(fold for repeat in found for fold in repeat))
    number = components(ties)
    labeled = {number[patient] for patient in units["patient"]}
    parts: dict[str, list[str]] = {"pool": [], "validation": [], "test": []}
    for patient, own in number.items():
        parts["test" if own in labeled else "pool"].append(patient)
    here = {name for name, run in config.pretraining.items() if run.other is None}
    if not parts["pool"] and any(arm.pretrain in here for arm in config.arms.values()):
        fix = "Add scans without labels, or leave the pretrained arms out."
        raise UserError("every patient is labeled or tied to one who is: nobody is left to pretrain on", "arms", fix)
    drawn = by_strata(units, target)
    budgets = {draw: _taught(drawn, test, config, draw) for draw, test in tested.items()}
    pool = unlabeled_units(cohort, parts["pool"], config)
    everything = pd.concat([units.assign(part="test")[["unit", "patient", "label", "part"]], pool], ignore_index=True)
    return Split.of(parts, wanted), everything, budgets, tested


def write_folds(tested: Tested, folder: Path) -> None:
    write_json(folder / "folds.json", {str(draw): units for draw, units in tested.items()})


def read_folds(folder: Path) -> Tested:
    """Draw -> units that it tested."""
    return {int(draw): units for draw, units in json.loads((folder / "folds.json").read_text()).items()}


def _some(units: pd.DataFrame, number: int, config: Experiment, target: TargetKind) -> pd.DataFrame:
    """So many of the labeled units; the others are treated as if nobody had labeled them."""
    try:
        chosen = draw_budgets(by_strata(units, target), [number], config.per, 1, config.split.seed)[0][number]
    except UserError as error:
        raise UserError(error.what, "split.labels", "Take fewer labels.") from None
    return units[units["unit"].isin(chosen)].reset_index(drop=True)


def _taught(units: pd.DataFrame, test: list[str], config: Experiment, draw: int) -> dict:
    """Labeled units at each budget: of all folds but the tested one, ordered as in any draw."""
    others = units[~units["unit"].isin(test)]
    chance = int(np.random.SeedSequence([config.seed, draw]).generate_state(1)[0])
    return draw_budgets(others, config.budgets, config.per, 1, chance)[0]


def unlabeled_units(
    cohort: Cohort, patients: Iterable[str], config: Experiment, labeled: Iterable[str] = ()
) -> pd.DataFrame:
    """Units of the pool, at most `UNLABELED` by chance, in the cohort's order; nobody knows their labels.

    Args:
        patients: of the pool.
        labeled: units that are not asked for.
    """
    scans = cohort.scans()
    scans = scans[scans["patient"].isin(set(patients))]
    frame = pd.DataFrame({"unit": scans[UNIT_COLUMN[config.target.unit]], "patient": scans["patient"]})
    frame = frame[~frame["unit"].isin(set(labeled))].drop_duplicates("unit").reset_index(drop=True)
    if len(frame) > UNLABELED:
        some = np.random.default_rng(config.seed).choice(len(frame), UNLABELED, replace=False)
        frame = frame.iloc[np.sort(some)]
    return frame.assign(label=None, part="pool")
