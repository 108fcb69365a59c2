"""From a config and a cohort to the list of jobs; each is named by the hash of everything that decides its outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from medssl.cohort import Cohort
from medssl.cohort.budgets import Budgets, draw_budgets
from medssl.cohort.splits import Split, cohort_split, tied_patients
from medssl.config import Arm, Budget, Experiment, View
from medssl.errors import UserError, unknown
from medssl.experiment.crossfit import Tested, cross_fit
from medssl.experiment.external import PART, external_units
from medssl.experiment.groups import attribute_values
from medssl.experiment.labels import by_strata, each_stratum, labeled_units, make_target
from medssl.metrics import CALIBRATED, FAMILIES, check_metric
from medssl.transfer import PIXELS, TargetKind, strategy
from medssl.workspace import code_revision, digest

JOB_ROOMS = ("augment", "cohort", "encoders", "metrics", "transfer", "experiment/job.py")


@dataclass(frozen=True)
class Job:
    """One arm, trained on the labels of one budget in one draw, from the encoder of one run of pretraining.

    `recipe` names what the arm's config says of it: one that is tried with another recipe had one more trial. `test`
    are the units of its fold; empty: all of the part that is scored.
    """

    key: str
    arm: str
    budget: Budget
    draw: int
    seed: int
    precision: str
    train: tuple[str, ...]
    run: int = 0
    recipe: str = ""
    test: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """All that is decided before the first job runs.

    Attributes:
        units: labeled units; columns `unit, patient, label, part` (pool, validation, test or `external:NAME`). Where it
            is cross-fitted, all that are labeled are `test`, and units of the pool have no label.
        budgets: labeled units of each draw and budget.
        target: of the labels of all units.
        tested: where it is cross-fitted, the units that each draw tests.
    """

    config: Experiment
    cohort: Cohort
    split: Split
    units: pd.DataFrame
    budgets: Budgets
    target: TargetKind
    external: tuple[Cohort, ...] = ()
    tested: Tested = field(default_factory=dict)

    @property
    def calibrated(self) -> bool:
        """Each job also fits a temperature on the validation labels, since a metric asks for it."""
        return any(metric.startswith(CALIBRATED) for metric in self.config.metrics)

    def view(self, arm: Arm) -> View:
        return self.config.view.model_copy(update={"size": arm.size}) if arm.size else self.config.view


def make_plan(config: Experiment, cohort: Cohort, external: tuple[Cohort, ...] = ()) -> Plan:
    """Split the cohort's patients (once for all its experiments), draw the budgets, and add the external test units.

    Raises:
        UserError: no such target, a class with fewer patients than a budget, another split than the cohort's own, a
            strategy or a metric that such a target cannot have, too few validation labels to calibrate on.
    """
    methods = {  # an unknown strategy or setting fails before anything runs
        name: strategy(arm.strategy_name, arm.strategy_settings, f"arms.{name}.strategy")
        for name, arm in config.arms.items()
    }
    units = labeled_units(cohort, config.target)
    target = make_target(config.target, units["label"].tolist())
    for name, method in methods.items():
        method.serve(target, config.arms[name].strategy_name, f"arms.{name}.strategy")
    for metric in config.metrics:
        check_metric(metric, target.family)
    if config.per == "class" and not target.per_class and config.budgets != ["all"]:
        fix = "Write per: total."
        raise UserError(f"a target of kind {config.target.kind_name} has no classes to count labels of", "per", fix)
    ties = patients_with_ties(cohort, by_strata(units, target))
    if config.split.folds:
        split, units, budgets, tested = cross_fit(config, cohort, units, ties, target)
        return Plan(config, cohort, split, units, budgets, target, tested=tested)
    split = cohort_split(cohort.path, ties, config.split, _official(cohort, config))
    units = units.assign(part=units["patient"].map(split.part_of()))
    _refuse_missing_class(units, config, target)
    pool = by_strata(units[units["part"] == "pool"], target)
    budgets = draw_budgets(pool, config.budgets, config.per, config.draws, config.seed)
    elsewhere = [external_units(other, config, units, target) for other in external]
    everything = pd.concat([units[["unit", "patient", "label", "part"]], *elsewhere], ignore_index=True)
    plan = Plan(config, cohort, split, everything, budgets, target, external)
    if plan.calibrated:
        _refuse_few_validation(plan)
    return plan


def is_scored(part: pd.Series, evaluate: str) -> pd.Series:
    """Which units the models are scored on: the part that the config says, and all external ones."""
    return (part == evaluate) | part.fillna("").str.startswith(PART)


def _official(cohort: Cohort, config: Experiment) -> pd.DataFrame | None:
    """patient, value: the part of each scan, where the config names a column or a value to hold out."""
    column, held = config.split.column, config.split.hold_out
    if column is None:
        return None
    scans = cohort.scans()
    if held is None or column in cohort.targets():
        frame = cohort.labels(column).merge(scans[["scan", "patient"]], on="scan")
    else:
        frame = scans[["patient"]].assign(value=attribute_values(scans, column, "split.column").map(str))
    if held is None:
        return frame
    if held not in set(frame["value"]):
        raise unknown(column, held, sorted(set(frame["value"])), "split.hold_out")
    return frame.assign(value=frame["value"].map(lambda value: "test" if value == held else "train"))


def _refuse_missing_class(units: pd.DataFrame, config: Experiment, target: TargetKind) -> None:
    strata = each_stratum(units, target)
    scored = set(strata.loc[strata["part"] == config.evaluate, "label"])
    if missing := sorted(set(strata["label"]) - scored):
        raise UserError(
            f"the {config.evaluate} part has no {config.target.unit} of {target.word} '{missing[0]}'",
            "split",
            f"Label more patients of that {target.word}, or ask for a larger share (split.test, split.validation).",
        )


def _refuse_few_validation(plan: Plan) -> None:
    from medssl.transfer.temperature import FEWEST, rarest

    config, labels = plan.config, plan.units.loc[plan.units["part"] == "validation", "label"].tolist()
    without = "Leave the calibrated metrics out"
    if config.evaluate == "validation":
        raise UserError("what is scored cannot be calibrated on", "metrics", f"{without}, or evaluate: test.")
    name, count = rarest(plan.target, labels)
    if count < FEWEST:
        raise UserError(
            f"calibration needs {FEWEST} validation {config.target.unit}s {FAMILIES[plan.target.family].group_words}, "
            f"and '{name}' has {count}",
            "metrics",
            f"{without}, or ask for a larger share (split.validation) in a new cohort.",
        )


def patients_with_ties(cohort: Cohort, units: pd.DataFrame) -> pd.DataFrame:
    """What `split_patients` needs: patients, labels, and keys that tie patients (group, same or near images)."""
    frame = units[["patient", "label"]].drop_duplicates()
    return tied_patients(cohort.scans(), cohort.near_duplicates()).merge(frame, on="patient", how="left")


def list_jobs(plan: Plan, encoder_keys: Mapping[str, Sequence[str]], samples_keys: Mapping[str, str]) -> list[Job]:
    """Every job of the experiment, smallest budgets first.

    Args:
        plan: the plan.
        encoder_keys: arm -> keys of its encoders (its pretraining runs, or name and initialisation).
        samples_keys: arm -> key of its samples.
    """
    import torch

    from medssl.training.rules import resolve_precision

    config = plan.config
    precision = resolve_precision("auto", torch.device("cpu"))
    scored = plan.units.loc[is_scored(plan.units["part"], config.evaluate)]
    common = {
        "target": config.target.model_dump(),
        "split": plan.split.hash,
        "test": digest(scored.to_dict("list")),
        "pool": digest(plan.units.loc[plan.units["part"] == "pool", ["unit", "label"]].to_dict("list")),
        "precision": precision,
        "threads": 1,
    }
    if plan.calibrated:
        held = plan.units.loc[plan.units["part"] == "validation", ["unit", "label"]]
        common["calibrated_on"] = digest(held.to_dict("list"))
    methods = {name: strategy(arm.strategy_name, arm.strategy_settings) for name, arm in config.arms.items()}
    revisions = {name: code_revision(*JOB_ROOMS, *method.rooms) for name, method in methods.items()}
    jobs = []
    for budget in config.budgets:
        for name, arm in config.arms.items():
            fixed: dict[str, Any] = {
                **common,
                "arm": name,
                "samples": samples_keys[name],
                "revision": revisions[name],
                "strategy": [arm.strategy_name, arm.strategy_settings],
            }
            recipe = arm_recipe(arm, config)
            for run, encoder in enumerate(encoder_keys[name]):
                for draw in range(config.draws):
                    train = tuple(plan.budgets[draw][budget])
                    what = {
                        **fixed,
                        "encoder": encoder,
                        "budget": budget,
                        "draw": draw,
                        "seed": job_seed(config.seed, draw, arm.seed),
                        "train": digest(sorted(train)),
                    }
                    test = tuple(plan.tested.get(draw, ()))
                    if test:
                        what["fold"] = digest(sorted(test))
                    jobs.append(
                        Job(digest(what), name, budget, draw, what["seed"], precision, train, run, recipe, test)
                    )
    return jobs


def arm_recipe(arm: Arm, config: Experiment) -> str:
    """Hash of all that was chosen for an arm; seeds are no choice."""
    chosen = arm.model_dump(exclude={"seed", "pretrain_seeds"})
    run = config.pretraining[arm.pretrain].choices() | {"seed": None} if arm.pretrain else None
    return digest([chosen, run, config.view.model_dump()])


def job_seed(seed: int, draw: int, own: int = 0) -> int:
    """The same for all arms and budgets of a draw, so that arms are paired in their chance as well.

    An arm with a seed of its `own` is not: it shares labels with the others, and no other chance.
    """
    return int(np.random.SeedSequence([seed, draw, own] if own else [seed, draw]).generate_state(1)[0])


def encoder_label(arm: Arm, config: Experiment) -> tuple[str, int]:
    """Encoder name and input size: arms that agree in both differ in their training alone."""
    name = config.pretraining[arm.pretrain].encoder if arm.pretrain else arm.encoder
    return name, (arm.size or config.view.size) if name != PIXELS else 0
