"""From a config and a cohort to the list of jobs; each is named by the hash of everything that decides its outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from medssl.cohort import Cohort
from medssl.cohort.budgets import Budgets, draw_budgets
from medssl.cohort.splits import Split, cohort_split, components, tied_patients
from medssl.config import SUPERVISED, Arm, Budget, Experiment, View
from medssl.errors import UserError, unknown
from medssl.experiment.crossfit import Tested, cross_fit, unlabeled_units
from medssl.experiment.external import PART, external_units
from medssl.experiment.groups import attribute_values
from medssl.experiment.labels import by_strata, each_stratum, labeled_units, make_target
from medssl.experiment.others import OtherData, check_arm, find_others
from medssl.experiment.tuning import Held, held_out, recipes, tuning_metric
from medssl.experiment.weights import refuse_unfit_files
from medssl.metrics import CALIBRATED, FAMILIES, check_metric
from medssl.transfer import PIXELS, Strategy, TargetKind, strategy
from medssl.workspace import code_revision, digest, library_versions

LIBRARIES = ("torch", "timm", "scikit-learn", "scikit-image")  # whose computations reach scores
JOB_ROOMS = ("augment", "cohort", "encoders", "metrics", "transfer", "experiment/job.py", "experiment/tuning.py")


@dataclass(frozen=True)
class Job:
    """One arm, trained on the labels of one budget in one draw, from the encoder of one run of pretraining.

    `recipe` names what the arm's config says of it: one that is tried with another recipe had one more trial. `test`
    are the units of its fold; empty: all of the part that is scored. `validation` are the labeled units that choose the
    recipe; empty: it is the arm's own.
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
    validation: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """All that is decided before the first job runs.

    Attributes:
        units: columns `unit, patient, label, part` (pool, validation, test or `external:NAME`): all that are labeled,
            and units of the pool without a label. Where it is cross-fitted, all that are labeled are `test`.
        budgets: labeled units of each draw and budget.
        target: of the labels of all units.
        tested: where it is cross-fitted, the units that each draw tests.
        tied: patient -> number of the group of patients that stay together, whatever is parted.
        held: where recipes are tuned, the labeled units of each draw and budget that choose them.
        others: by name, the entries under `others:` that arms use.
    """

    config: Experiment
    cohort: Cohort
    split: Split
    units: pd.DataFrame
    budgets: Budgets
    target: TargetKind
    external: tuple[Cohort, ...] = ()
    tested: Tested = field(default_factory=dict)
    tied: Mapping[str, int] = field(default_factory=dict)
    held: Held = field(default_factory=dict)
    others: dict[str, OtherData] = field(default_factory=dict)

    @property
    def calibrated(self) -> bool:
        """Each job also fits a temperature on the validation labels, since a metric asks for it."""
        return any(metric.startswith(CALIBRATED) for metric in self.config.metrics)

    def view(self, arm: Arm) -> View:
        return self.config.view.model_copy(update={"size": arm.size}) if arm.size else self.config.view


def make_plan(
    config: Experiment,
    cohort: Cohort,
    external: tuple[Cohort, ...] = (),
    others: Mapping[str, Cohort] | None = None,
) -> Plan:
    """Split the cohort's patients (once for all its experiments), draw the budgets, and add the external test units.

    Args:
        others: the cohorts of the entries under `others:`; without them nothing can be trained on these.

    Raises:
        UserError: no such target, a class with fewer patients than a budget, another split than the cohort's own, a
            strategy or a metric that such a target cannot have, too few validation labels to calibrate on, and all of
            `recipes`, `held_out`, `external_units`, `find_others` and `refuse_unfit_files`.
    """
    methods = {name: _methods(name, config) for name in config.arms}  # what is unknown fails before anything runs
    units = labeled_units(cohort, config.target)
    target = make_target(config.target, units["label"].tolist())
    for name, several in methods.items():
        for number, method in enumerate(several):
            where = f"arms.{name}.{'grid' if number else 'strategy'}"
            method.serve(target, config.arms[name].strategy_name, where)
    for metric in config.metrics:
        check_metric(metric, target.family)
    if config.per == "class" and not target.per_class and config.budgets != ["all"]:
        fix = "Write per: total."
        raise UserError(f"a target of kind {config.target.kind_name} has no classes to count labels of", "per", fix)
    ties = patients_with_ties(cohort, by_strata(units, target))
    tied = components(ties)
    if config.split.folds:
        split, units, budgets, tested = cross_fit(config, cohort, units, ties, target)
        refuse_unfit_files(config, set(split.test))
        held = held_out(config, units, budgets, tied, target)
        found = {} if others is None else find_others(config, cohort, split, units, target, (), others)
        return Plan(config, cohort, split, units, budgets, target, tested=tested, tied=tied, held=held, others=found)
    split = cohort_split(cohort.path, ties, config.split, _official(cohort, config))
    refuse_unfit_files(config, {*split.test}.union(*(other.scans()["patient"] for other in external)))
    units = units.assign(part=units["patient"].map(split.part_of()))
    _refuse_missing_class(units, config, target)
    pool = by_strata(units[units["part"] == "pool"], target)
    budgets = draw_budgets(pool, config.budgets, config.per, config.draws, config.seed)
    elsewhere = [external_units(other, config, cohort, units, target) for other in external]
    unlabeled = unlabeled_units(cohort, split.pool, config, units["unit"])
    columns = ["unit", "patient", "label", "part"]
    everything = pd.concat([one[columns] for one in (units, *elsewhere, unlabeled) if len(one)], ignore_index=True)
    held = held_out(config, units, budgets, tied, target)
    found = {} if others is None else find_others(config, cohort, split, units, target, external, others)
    plan = Plan(config, cohort, split, everything, budgets, target, external, tied=tied, held=held, others=found)
    if plan.calibrated:
        _refuse_few_validation(plan)
    return plan


def is_scored(part: pd.Series, evaluate: str) -> pd.Series:
    """Which units the models are scored on: the part that the config says, and with the test part all external ones,
    which are test patients too."""
    return (part == evaluate) | (part.fillna("").str.startswith(PART) & (evaluate == "test"))


def _methods(name: str, config: Experiment) -> list[Strategy]:
    """An arm's strategy with each of its recipes, its own first."""
    arm, where = config.arms[name], f"arms.{name}.strategy"
    check_arm(name, arm, strategy(arm.strategy_name, arm.strategy_settings, where))
    tried = recipes(name, arm, config.tuning)
    return [strategy(arm.strategy_name, arm.strategy_settings | changes, where) for changes in tried]


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
    return tied_patients(cohort).merge(frame, on="patient", how="left")


def list_jobs(plan: Plan, encoder_keys: Mapping[str, Sequence[str]], samples_keys: Mapping[str, str]) -> list[Job]:
    """Every job of the experiment, smallest budgets first.

    Args:
        plan: the plan.
        encoder_keys: arm -> keys of its encoders (its pretraining runs, or name and initialisation).
        samples_keys: arm -> key of its samples.
    """
    from medssl.training.rules import resolve_precision, this_device

    config = plan.config
    scored = plan.units.loc[is_scored(plan.units["part"], config.evaluate)]
    common = {
        "target": config.target.model_dump(),
        "split": plan.split.hash,
        "test": digest(scored.to_dict("list")),
        "pool": digest(plan.units.loc[plan.units["part"] == "pool", ["unit", "label"]].to_dict("list")),
        "threads": 1,
        "versions": library_versions(*LIBRARIES),
        "modality": plan.cohort.modality,
    }
    if plan.calibrated:
        labels = plan.units.loc[plan.units["part"] == "validation", ["unit", "label"]]
        common["calibrated_on"] = digest(labels.to_dict("list"))
    methods = {name: strategy(arm.strategy_name, arm.strategy_settings) for name, arm in config.arms.items()}
    tried = {name: recipes(name, arm, config.tuning) for name, arm in config.arms.items()}
    revisions = {name: code_revision(*JOB_ROOMS, *method.rooms) for name, method in methods.items()}
    jobs = []
    for budget in config.budgets:
        for name, arm in config.arms.items():
            precision = resolve_precision("auto", this_device(), plan.view(arm).spatial_dims)
            fixed: dict[str, Any] = {
                **common,
                "arm": name,
                "precision": precision,
                "samples": samples_keys[name],
                "revision": revisions[name],
                "strategy": [arm.strategy_name, arm.strategy_settings],
            }
            if arm.jointly is not None:
                other = plan.others[arm.jointly]
                fixed["jointly"] = [other.labels_key, other.cohort.modality]
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
                    held = plan.held.get(draw, {}).get(budget, ())
                    if held:
                        what["tuning"] = [tried[name], digest(sorted(held)), tuning_metric(config)]
                    key, seed = digest(what), what["seed"]
                    jobs.append(Job(key, name, budget, draw, seed, precision, train, run, recipe, test, held))
    return jobs


def arm_recipe(arm: Arm, config: Experiment) -> str:
    """Hash of all that was chosen for an arm; seeds are no choice."""
    chosen = arm.model_dump(exclude={"seed", "pretrain_seeds", "grid"})
    run = config.pretraining[arm.pretrain].choices() | {"seed": None} if arm.pretrain else None
    tuned = [config.tuning.model_dump(), arm.grid] if config.tuning else []
    entries = [arm.jointly, run["other"] if run and run["task"] == SUPERVISED else None]
    others = [config.others[name].model_dump(exclude={"cohort"}) for name in entries if name]
    return digest([chosen, run, config.view.model_dump(), *tuned, *others])


def job_seed(seed: int, draw: int, own: int = 0) -> int:
    """The same for all arms and budgets of a draw, so that arms are paired in their chance as well.

    An arm with a seed of its `own` is not: it shares labels with the others, and no other chance.
    """
    return int(np.random.SeedSequence([seed, draw, own] if own else [seed, draw]).generate_state(1)[0])


def encoder_label(arm: Arm, config: Experiment) -> tuple[str, int]:
    """Encoder name and input size: arms that agree in both differ in their training alone. A student predicts in place
    of the encoder that taught it."""
    own = config.pretraining[arm.pretrain].encoder if arm.pretrain else arm.encoder
    name = arm.strategy_settings.get("student") or own
    return name, (arm.size or config.view.size) if name != PIXELS else 0
