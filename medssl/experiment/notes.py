"""What a reader must know before the figures."""

from __future__ import annotations

from typing import Any

import pandas as pd

from medssl.config import Experiment
from medssl.metrics import CALIBRATED


def notes(
    config: Experiment, jobs: pd.DataFrame, arms: pd.DataFrame, looks: int, cross_fitted: str, facts: dict[str, Any]
) -> list[str]:
    """Plain sentences, the experiment's own note first.

    Args:
        config: of the experiment.
        jobs, arms: as `Results` gives them.
        looks: how often the test patients were looked at.
        cross_fitted, facts: as `Results` gives them.
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
    said += [*_unfinished(jobs), *_pretraining(config)]
    held = "no validation labels were used in this run. "
    if any(metric.startswith(CALIBRATED) for metric in config.metrics):
        units = facts.get("parts", {}).get("validation", {}).get("units", 0)
        held = (
            f"validation labels were used for one thing: where a figure says calibrated, the temperature of each "
            f"predictor was fitted on {units} labeled {config.target.unit}s of the validation part, which are beside "
            "the budget. "
        )
    said += _imbalance(config)
    said.append(
        f"Recipes are the config's own and the same at every budget; {held}"
        "How the recipes were chosen is not recorded here: whoever reports these figures must say it."
    )
    if arms[["encoder", "size"]].drop_duplicates().shape[0] > 1:
        said.append("Arms with different encoders or input sizes are compared across encoders, and marked so.")
    if looks and config.evaluate == "test":
        said.append(f"The test patients of this cohort have been looked at {looks} time(s) (see its ledger).")
    return said


def _imbalance(config: Experiment) -> list[str]:
    chosen = config.target.kind_settings.get("imbalance", "none")
    if chosen == "none":
        return []
    how = {"balanced": "all classes weigh the same", "focal": "what is told well already counts less (focal loss)"}
    return [f"In the loss of every arm {how[chosen]}: probabilities are then no frequencies."]


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
