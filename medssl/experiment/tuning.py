"""Recipes that are chosen inside a label budget: which are tried, on which labels, and what came of it.

With 20 units of every class or more, a part of the budget's own labels scores the recipes of an arm, and the best one
is fitted again on the whole budget. Below that the arm's own recipe is used as it stands: a handful of held-out labels
would choose by chance, and be missed in training. Every arm tries as many recipes as the others, on the same labels.

Grades are such classes, and so are the ranges of a number (thirds of the cohort's values). Where a unit may have
several labels, 20 units must have each of them and 20 must not.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from medssl.cohort.budgets import Budgets
from medssl.config import LOWER_IS_BETTER, Arm, Budget, Experiment, Tuning
from medssl.errors import MedsslError, UserError
from medssl.metrics import CALIBRATED, score_metric
from medssl.transfer import Problem, Strategy, TargetKind, strategy

if TYPE_CHECKING:  # 0.2 s to import
    import pyarrow as pa

LEAST = 20  # units of each class in a budget whose recipes are chosen
KEY = b"medssl.trials"  # in the metadata of an evidence file
COLUMNS = ["arm", "budget", "draw", "run", "trial", "settings", "metric", "validation", "score", "chosen"]

Changes = dict[str, Any]  # settings of a recipe that differ from the arm's own
Classes = Mapping[str, tuple[str, ...]]  # unit -> its classes
Held = dict[int, dict[Budget, tuple[str, ...]]]  # draw -> budget -> units that score the recipes


@dataclass(frozen=True)
class Trial:
    """A recipe that was tried. `score` is None where its training diverged."""

    settings: Changes
    score: float | None
    chosen: bool


def recipes(name: str, arm: Arm, tuning: Tuning | None) -> list[Changes]:
    """What each recipe of an arm changes in its strategy's settings; the first is the arm's own and changes nothing.

    Raises:
        UserError: fewer recipes than trials, or one that the strategy does not take.
    """
    own = strategy(arm.strategy_name, arm.strategy_settings, f"arms.{name}.strategy")
    if tuning is None:
        return [{}]
    found: list[tuple[Changes, Any]] = [({}, own.settings)]
    for changes in own.grid if arm.grid is None else arm.grid:
        other = strategy(arm.strategy_name, arm.strategy_settings | changes, f"arms.{name}.grid")
        if other.frozen != own.frozen:
            what = "a recipe of the grid trains the encoder and the arm's own does not, or the reverse"
            raise UserError(what, f"arms.{name}.grid", "Make two arms of them.")
        if all(other.settings != settings for _, settings in found):
            found.append((dict(changes), other.settings))
    if len(found) < tuning.trials:
        fewer = f"set tuning.trials to {len(found)} for all arms" if len(found) > 1 else "leave tuning out"
        raise UserError(
            f"arm '{name}' has {len(found)} recipe(s), and every arm gets {tuning.trials} trials",
            f"arms.{name}.grid",
            f"Give the arm a grid of at least {tuning.trials - 1} recipes that differ from its own, such as "
            f"grid: [{{SETTING: VALUE}}, ...], or {fewer}.",
        )
    return [changes for changes, _ in found[: tuning.trials]]


def held_out(
    config: Experiment, units: pd.DataFrame, budgets: Budgets, tied: Mapping[str, int], target: TargetKind
) -> Held:
    """The units that score recipes, of every draw and of each budget that is large enough in all draws.

    Args:
        units: columns `unit, patient, label`.
        budgets: labeled units of each draw and budget.
        tied: patient -> number of the group of patients that must stay together.
        target: of these labels.

    Raises:
        UserError: all labels of a class come from one patient.
    """
    if config.tuning is None:
        return {}
    known = units.dropna(subset=["label"]).set_index("unit")
    of = dict(zip(map(str, known.index), _sides(target, known["label"].tolist()), strict=True))
    owner = {str(unit): tied[patient] for unit, patient in known["patient"].items()}
    share = config.tuning.validation
    names = {name for several in of.values() for name in several}
    large = [b for b in config.budgets if all(fewest(draw[b], of, names) >= LEAST for draw in budgets.values())]
    return {
        draw: {budget: hold_out(of_draw[budget], of, owner, share, tuning_seed(config, draw)) for budget in large}
        for draw, of_draw in budgets.items()
    }


def every(target: TargetKind | type[TargetKind]) -> str:
    """What it is that a budget needs `LEAST` units of."""
    return "with and without every label" if target.joined else f"of every {target.word}"


def _sides(target: TargetKind, labels: list[str]) -> list[tuple[str, ...]]:
    """The classes of each unit, or what stands for them; each of several labels is there or not."""
    found = target.strata(labels)
    if not target.joined:
        return found
    return [tuple(name if name in mine else f"not {name}" for name in target.classes) for mine in found]


def tuning_seed(config: Experiment, draw: int) -> int:
    """Of who is held out in a draw: the same for all arms."""
    return int(np.random.SeedSequence([config.seed, draw, LEAST]).generate_state(1)[0])


def hold_out(
    train: Sequence[str], classes: Classes, owner: Mapping[str, Hashable], share: float, seed: int
) -> tuple[str, ...]:
    """The share of each class's units that is kept for validation, at least one, in the order of `train`.

    Args:
        train: labeled units.
        classes: of each unit, one or several.
        owner: of each unit; what has one owner stays on one side.
        share: of each class, about; never more, unless the smallest owner of a class has more.
        seed: of who is taken.

    Raises:
        UserError: a class cannot be parted between owners.
    """
    sizes: dict[Hashable, Counter[str]] = {}
    for unit in train:
        sizes.setdefault(owner[unit], Counter()).update(classes[unit])
    total = sum(sizes.values(), Counter())
    wanted = {name: max(1, round(share * count)) for name, count in total.items()}
    everyone = list(sizes)
    order = [everyone[place] for place in np.random.default_rng(seed).permutation(len(everyone))]
    taken: Counter[str] = Counter()
    chosen: set[Hashable] = set()
    for group in order:
        if all(taken[name] + count <= wanted[name] for name, count in sizes[group].items()):
            chosen.add(group)
            taken += sizes[group]
    for name in sorted(total):
        if taken[name]:
            continue
        possible = [
            group
            for group in order
            if sizes[group][name] and all(taken[other] + n < total[other] for other, n in sizes[group].items())
        ]
        if not possible:
            raise UserError(
                f"the {total[name]} labels of class '{name}' in a budget cannot be parted: they belong to one patient, "
                "or to patients who are tied",
                "tuning",
                "Label more patients of that class, or leave tuning out.",
            )
        group = min(possible, key=lambda one: sizes[one].total())
        chosen.add(group)
        taken += sizes[group]
    return tuple(unit for unit in train if owner[unit] in chosen)


def tuned_budgets(held: Held) -> list[Budget]:
    """Budgets whose recipes are chosen, in the order of the config."""
    return list(held[0]) if held else []


def tuning_metric(config: Experiment) -> str:
    """What recipes are chosen by: the claim's metric, else the first one. Temperatures are fitted on other labels, so
    that of a calibrated metric it is the plain one."""
    return (config.claim.metric if config.claim else config.metrics[0]).removeprefix(CALIBRATED)


def try_recipes(
    problem: Problem, methods: Sequence[Strategy], changes: Sequence[Changes], held: np.ndarray, metric: str
) -> list[Trial]:
    """Fit each recipe on the labels that are not held out, and score it on the others. Of equals the first is chosen.

    Args:
        methods: a strategy for each recipe; `changes` are what is said of each.
        held: numbers of the labeled units that score.
        metric: by its name.

    Raises:
        MedsslError: no recipe gave numbers; and all that strategies raise.
    """
    own = np.isin(problem.train, held)
    truth = problem.truth[~own]
    learning = replace(problem, train=problem.train[~own], truth=truth, target=problem.target.taught(truth))
    scores = [_score(learning, method, problem.train[own], problem.truth[own], metric) for method in methods]
    sign = -1 if metric in LOWER_IS_BETTER else 1
    ranks = [-np.inf if score is None else sign * score for score in scores]
    best = int(np.argmax(ranks))
    if scores[best] is None:
        raise MedsslError("no recipe of the grid could be scored: all trainings diverged", "tuning", "Change the grid.")
    return [Trial(one, score, i == best) for i, (one, score) in enumerate(zip(changes, scores, strict=True))]


def _score(problem: Problem, method: Strategy, units: np.ndarray, truth: np.ndarray, metric: str) -> float | None:
    from medssl.transfer.unlabeled import predict

    try:
        logits = predict(problem, method.fit(problem), units)
    except UserError:
        raise
    except MedsslError:  # a fit without a solution
        return None
    if not np.isfinite(logits).all():
        return None
    scores, weights = problem.target.scores(logits)[None], np.ones((1, len(units)))
    score = float(score_metric(metric, truth, scores, weights, family=problem.target.family)[0, 0])
    return score if np.isfinite(score) else None


def with_trials(table: pa.Table, about: Mapping[str, Any], trials: Sequence[Trial]) -> pa.Table:
    """The evidence with its job's trials in the file's metadata, so that there is one without the other never."""
    if not trials:
        return table
    text = json.dumps({**about, "trials": [asdict(trial) for trial in trials]})
    return table.replace_schema_metadata({**(table.schema.metadata or {}), KEY: text.encode()})


def read_trials(files: Sequence[Path]) -> pd.DataFrame:
    """A row a job and recipe, columns `arm, budget, draw, run, trial, settings, metric, validation, score, chosen`.

    Raises:
        MedsslError: a file cannot be read.
    """
    import pyarrow.parquet as parquet

    rows = []
    for file in files:
        try:
            text = (parquet.read_schema(file).metadata or {}).get(KEY)
            about = json.loads(text) if text else {"trials": []}
        except (OSError, ValueError) as error:
            fix = "Delete the damaged file and run the config again."
            raise MedsslError(f"an evidence file cannot be read ({type(error).__name__})", "results", fix) from None
        trials = about.pop("trials")
        rows += [{**about, "trial": number, **trial} for number, trial in enumerate(trials)]
    table = pd.DataFrame(rows, columns=COLUMNS)
    budgets = [budget if budget == "all" else int(budget) for budget in table["budget"]]
    return table.assign(budget=pd.Series(budgets, dtype=object), score=table["score"].astype(float))


def words(changes: Changes) -> str:
    """A recipe for people: `learning_rate 0.003`."""
    return ", ".join(f"{key} {value}" for key, value in changes.items()) or "the arm's own"


def listed(budgets: Sequence[Budget]) -> str:
    """`25, 50 and all`."""
    *first, last = map(str, budgets)
    return f"{', '.join(first)} and {last}" if first else last


def fewest(train: Sequence[str], classes: Classes, names: set[str]) -> int:
    """Units of the rarest of these classes."""
    counts = Counter(name for unit in train for name in classes[unit])
    return min(counts[name] for name in names)
