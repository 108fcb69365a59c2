"""Label budgets: which units are labeled at each budget, in each draw; the same for all arms.

Budgets nest (the 5 are among the 10), are stratified by class, and take a second unit of a patient only when every
patient of that class has one. One ordering per draw gives all budgets as its prefixes, as big_vision's few-shot
evaluator does with one permutation per class and seed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from medssl.cohort.several import order_of_several
from medssl.config import Budget
from medssl.errors import UserError

Budgets = dict[int, dict[Budget, list[str]]]


def draw_budgets(units: pd.DataFrame, budgets: Sequence[Budget], per: str, draws: int, seed: int) -> Budgets:
    """Draw the labeled units.

    Args:
        units: the pool; columns `unit`, `patient`, `label`. The order of rows decides what is drawn, not the keys. A
            unit that may have several labels has them in a column `strata`, a tuple; `per` is then `total`.
        budgets: numbers of units (per class, or in total), or `all`.
        per: `class` or `total`.
        draws: how many independent draws. At `all` each draw holds every unit, and stands for a new training seed.
        seed: of the draws.

    Returns:
        `{draw: {budget: [unit, ...]}}`; every list is in the order of drawing.

    Raises:
        UserError: a class with fewer patients than the budget, or a total below the number of classes.
    """
    numbers = sorted(int(b) for b in budgets if b != "all")
    several = "strata" in units
    classes = sorted({label for strata in units["strata"] for label in strata} if several else units["label"].unique())
    _check(units, numbers, per, classes)
    plan: Budgets = {}
    for draw in range(draws):
        rng = np.random.default_rng([seed, draw])
        largest = numbers[-1] if numbers else 0
        order = order_of_several(units, largest, rng) if several else _order(units, classes, per, largest, rng)
        plan[draw] = {}
        for budget in budgets:
            if budget == "all":
                plan[draw][budget] = units["unit"].tolist()
            else:
                plan[draw][budget] = order[: int(budget) * (len(classes) if per == "class" else 1)]
    return plan


def _order(units: pd.DataFrame, classes: list[str], per: str, largest: int, rng: np.random.Generator) -> list[str]:
    """Units in the order in which they are labeled: classes take turns, patients with the fewest labels come first."""
    names, labels = units["unit"].to_numpy(), units["label"].to_numpy()
    codes = pd.factorize(units["patient"])[0]
    taken = np.zeros(codes.max() + 1, dtype=np.int64)  # labeled units of each patient so far
    chance = rng.random(len(units))
    left = {c: np.flatnonzero(labels == c) for c in classes}
    chosen: list[str] = []
    for c in _turns(units, classes, per, largest):
        rows = left[c]
        best = np.lexsort((chance[rows], taken[codes[rows]]))[0]
        taken[codes[rows[best]]] += 1
        chosen.append(str(names[rows[best]]))
        left[c] = np.delete(rows, best)
    return chosen


def _turns(units: pd.DataFrame, classes: list[str], per: str, largest: int) -> list[str]:
    """Whose turn it is. Per class: round robin. In total: one each, then whichever class lags its share the most."""
    if per == "class":
        return classes * largest
    share = units["label"].value_counts(normalize=True)
    size = units["label"].value_counts()
    turns = list(classes)[:largest]
    while len(turns) < min(largest, len(units)):
        lag = {c: share[c] * (len(turns) + 1) - turns.count(c) for c in classes if turns.count(c) < size[c]}
        turns.append(max(sorted(lag), key=lambda c: lag[c]))
    return turns


def _check(units: pd.DataFrame, numbers: list[int], per: str, classes: list[str]) -> None:
    if len(classes) < 2:
        raise UserError(f"the pool has units of {len(classes)} class(es); at least 2 are needed", "target")
    if not numbers:
        return
    if per == "class":
        patients = units.groupby("label")["patient"].nunique()
        fewest = int(patients.min())
        if fewest < numbers[-1]:
            raise UserError(
                f"class '{patients.idxmin()}' has {fewest} patients in the pool, "
                f"fewer than the budget of {numbers[-1]} a class",
                "budgets",
                f"Use budgets of at most {fewest}, or 'all'.",
            )
        return
    if numbers[0] < len(classes):
        raise UserError(f"a budget of {numbers[0]} cannot hold one unit of each of {len(classes)} classes", "budgets")
    if numbers[-1] > len(units):
        raise UserError(
            f"the pool has {len(units)} units, fewer than the budget of {numbers[-1]}",
            "budgets",
            "Use 'all'.",
        )
