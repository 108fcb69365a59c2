"""What a reader must know before the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from medssl.config import Budget, Experiment
from medssl.experiment.tuning import LEAST, every, listed
from medssl.metrics import CALIBRATED
from medssl.transfer import target_class

TELLING = 0.9  # share of the pool's own labels that follow from others, from which on a reader must know it


def notes(
    config: Experiment,
    jobs: pd.DataFrame,
    arms: pd.DataFrame,
    looks: int,
    cross_fitted: str,
    tuned: Sequence[Budget],
    facts: Mapping[str, Any],
) -> list[str]:
    """Plain sentences, the experiment's own note first.

    Args:
        config: of the experiment.
        jobs, arms: as `Results` gives them.
        looks: how often the test patients were looked at.
        cross_fitted, tuned, facts: as `Results` gives `cross_fitted`, `tuned_budgets` and `facts`.
    """
    said = [config.note] if config.note else []
    if config.split.folds:
        said.append(
            f"All figures are {cross_fitted}: each was tested by a model that learnt from the labels of the other "
            f"{config.split.folds - 1} of {config.split.folds} folds, {config.split.repeats} times over. A figure "
            "belongs to the recipe at this number of labels, and not to one model that could be handed on. Wherever "
            "test patients are named below, all labeled patients are meant: they teach as well as test, and intervals "
            "count both."
        )
    if config.evaluate == "validation":
        said.append(
            "Scored on the validation patients, to choose a recipe: wherever test patients are named below, "
            "these are meant. Such figures are no result; the test patients were not looked at."
        )
    said += [*_unfinished(jobs), *_pretraining(config), *_others(facts.get("others", {})), *_imbalance(config)]
    said.append(_recipes(config, tuned, facts))
    if arms[["encoder", "size"]].drop_duplicates().shape[0] > 1:
        said.append("Arms with different encoders or input sizes are compared across encoders, and marked so.")
    if looks and config.evaluate == "test":
        often = "once" if looks == 1 else f"{looks} times"
        said.append(f"The test patients of this cohort have been looked at {often} (see its ledger).")
    return said


def _recipes(config: Experiment, tuned: Sequence[Budget], facts: Mapping[str, Any]) -> str:
    """How recipes were chosen, and what the labels of the validation part were used for."""
    calibrated = _calibrated(config, facts)
    if not config.tuning or not tuned:
        return (
            "Recipes are the config's own and the same at every budget; "
            f"{calibrated or 'no validation labels were used in this run.'} "
            "How the recipes were chosen is not recorded here: whoever reports these figures must say it."
        )
    said = (
        f"With {listed(tuned)} labels each job chose among {config.tuning.trials} recipes, as many for every arm, by "
        f"{100 * config.tuning.validation:.0f} % of its own labels, and the best was fitted again on all of them."
    )
    if len(tuned) < len(config.budgets):
        said += (
            f" Smaller budgets do not hold {LEAST} {config.target.unit}s {every(target_class(config.target.kind_name))}"
            ": there the recipe is the arm's own, fixed beforehand. How that recipe was chosen is not recorded here: "
            "whoever reports these figures must say it."
        )
    return f"{said} {calibrated[:1].upper()}{calibrated[1:]}".rstrip()


def _calibrated(config: Experiment, facts: Mapping[str, Any]) -> str:
    """A sentence that may follow another one's semicolon."""
    if not any(metric.startswith(CALIBRATED) for metric in config.metrics):
        return ""
    units = facts.get("parts", {}).get("validation", {}).get("units", 0)
    return (
        "validation labels were used for one thing: where a figure says calibrated, the temperature of each predictor "
        f"was fitted on {units} labeled {config.target.unit}s of the validation part, which are beside the budget."
    )


def _imbalance(config: Experiment) -> list[str]:
    chosen = config.target.kind_settings.get("imbalance", "none")
    if chosen == "none":
        return []
    how = {"balanced": "all classes weigh the same", "focal": "what is told well already counts less (focal loss)"}
    return [f"In the loss of every arm {how[chosen]}: probabilities are then no frequencies."]


def _others(others: Mapping[str, Mapping[str, Any]]) -> list[str]:
    said = []
    for name, other in others.items():
        who = f"{other['patients']} patients of {'the pool' if other['own'] else 'cohort ' + other['cohort']}"
        if other["labels"]:
            learnt = f"{other['labels']:,} labels of {other['target']}, of {who}"
            said.append(f"Other labels: '{name}' is {learnt}. No budget counts them.")
        else:
            said.append(f"Other scans: '{name}' is the scans of {who}, without labels.")
        if other["kept_out"]:
            said[-1] += f" {other['kept_out']} of its patients were kept out: they are tested here, or tied to such."
        if (other["tells"] or 0) >= TELLING:
            said.append(
                f"'{name}' tells {other['tells']:.0%} of the pool's own labels: whoever learns it knows more of them "
                "than its budget says."
            )
    return said


def _unfinished(jobs: pd.DataFrame) -> list[str]:
    done, failed = (int((jobs["status"] == status).sum()) for status in ("done", "failed"))
    if len(jobs) and done == len(jobs):
        return []
    also = f", {failed} failed" if failed else ""
    return [
        f"This run is not finished: {done} of {len(jobs)} jobs are done{also}. Arms that have not met the same draws "
        "are not compared."
    ]


def _pretraining(config: Experiment) -> list[str]:
    seeds = {name: arm.pretrain_seeds for name, arm in config.arms.items() if arm.pretrain}
    several = {name: n for name, n in seeds.items() if n > 1}
    said = []
    if len(several) < len(seeds):
        who = "Each encoder was" if not several else "The encoders of the other arms were each"
        said.append(
            f"{who} pretrained once: the intervals hold the chance of labels and test patients, not that of another "
            "pretraining run. Test patients were kept out of pretraining."
        )
    for name, n in several.items():
        said.insert(
            0,
            f"{name} was pretrained {n} times, and each encoder met all draws: its intervals hold the chance of "
            "pretraining too.",
        )
    return said
