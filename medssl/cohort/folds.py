"""Folds of the labeled patients: each is tested once a repeat, and whoever is tied to whom stays in one fold."""

from __future__ import annotations

import numpy as np
import pandas as pd

from medssl.cohort.splits import components
from medssl.errors import UserError

Folds = list[list[list[str]]]


def draw_folds(units: pd.DataFrame, ties: pd.DataFrame, folds: int, repeats: int, seed: int) -> Folds:
    """Partition the labeled units, stratified by class, `repeats` times.

    Args:
        units: all that are labeled; columns `unit`, `patient`, `label`. The order of rows decides, not the keys.
        ties: as for `split_patients`: patients who share a key are in one fold.
        folds, repeats: how many.
        seed: of the partitions.

    Returns:
        for each repeat and fold the units that are tested there, in the order of `units`.

    Raises:
        UserError: one class, fewer patients of a class than folds, or ties that leave a fold without a class.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    classes = sorted(units["label"].unique())
    if len(classes) < 2:
        raise UserError(f"the labels hold {len(classes)} class(es); at least 2 are needed", "target")
    group = units["patient"].map(components(ties)).to_numpy()
    apart = units.assign(group=group).groupby("label")["group"].nunique()  # tied patients count as one
    rare, fewest = str(apart.idxmin()), int(apart.min())
    if fewest < folds:
        fix = f"Use at most {fewest} folds." if fewest > 1 else "Label more patients of that class."
        raise UserError(f"class '{rare}' has {fewest} patient(s), fewer than {folds} folds", "split.folds", fix)
    label, names = units["label"].to_numpy(), units["unit"].to_numpy()
    found: Folds = []
    for repeat in range(repeats):
        chance = int(np.random.SeedSequence([seed, repeat]).generate_state(1)[0])
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=chance)
        tested = [np.sort(test) for _, test in splitter.split(names, label, pd.factorize(group)[0])]
        if any(set(label[test]) != set(classes) for test in tested):
            fix = "Use fewer folds: patients who are tied stay together."
            raise UserError(f"{folds} folds cannot each hold a unit of every class", "split.folds", fix)
        found.append([names[test].tolist() for test in tested])
    return found
