"""Run an experiment: scans, split, budgets, pretraining, jobs, evidence. Interrupted, it goes on where it was."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from medssl.cohort import Samples, View
from medssl.config import Experiment
from medssl.experiment.cost import cost
from medssl.experiment.crossfit import write_folds
from medssl.experiment.external import joined_samples
from medssl.experiment.index import Index
from medssl.experiment.job import ArmInputs
from medssl.experiment.jobs import run_jobs
from medssl.experiment.labels import each_stratum
from medssl.experiment.others import OtherData
from medssl.experiment.plan import Plan, list_jobs, make_plan
from medssl.experiment.power import foresee, foresee_sentence
from medssl.experiment.prepare import ensure_cohort, open_others, prepare_arm
from medssl.experiment.pretraining import check_encoders, encoder_seeds, pretrain_encoders
from medssl.experiment.results import Results
from medssl.experiment.tuning import LEAST, every, listed, tuned_budgets
from medssl.experiment.ways import origins, ways_table
from medssl.progress import say
from medssl.workspace import Workspace, lock, write_json, write_text

ArmRun = tuple[str, int]  # an arm, and which of its pretraining seeds


def run(config: Experiment, workspace: Workspace | None = None, processes: int | None = None) -> Results:
    """Run all that is not done yet, and return the results.

    Args:
        config: of `load_experiment`.
        workspace: where everything is kept.
        processes: jobs at a time, one thread each; default: one a core, or two a GPU for jobs that train.

    Raises:
        UserError: the config does not fit the scans (source, target, budgets, strategy), before anything is computed.
        MedsslError: jobs failed; those that were done are kept.
    """
    workspace = workspace or Workspace()
    plan = _open_plan(config, workspace)
    folder = workspace.experiment(config.name)
    with lock(folder, "running the experiment of", "Wait for it, or give this run another name (name=...)."):
        return _run(plan, folder, workspace, processes)


def preview(config: Experiment, workspace: Workspace | None = None) -> tuple[dict[str, Any], str]:
    """What `run` would do, what can be detected, and what it costs: as values, and in words. Ingests and splits where
    needed."""
    workspace = workspace or Workspace()
    plan = _open_plan(config, workspace)
    check_encoders(plan)
    found = foresee(plan)
    runs = {name: {"length": config.pretraining[name].length, "seeds": n} for name, n in encoder_seeds(config).items()}
    about = {"name": config.name, "patients": _sizes(plan), "pretraining": runs, "jobs": _job_count(config)}
    if config.tuning:
        about["tuning"] = {
            "trials": config.tuning.trials,
            "budgets": tuned_budgets(plan.held),
            "fits": _fit_count(plan),
        }
    price = cost(plan, encoder_seeds(config), os.cpu_count() or 1)
    words = f"{_summary(plan)}\n{foresee_sentence(found)}\n{price}"
    return {**about, "detectable": found, "cost": price.as_json()}, words


def _open_plan(config: Experiment, workspace: Workspace) -> Plan:
    cohort = ensure_cohort(config.cohort, workspace)
    external = tuple(ensure_cohort(source, workspace) for source in config.external)
    return make_plan(config, cohort, external, open_others(config, workspace))


def _run(plan: Plan, folder: Path, workspace: Workspace, processes: int | None) -> Results:
    config, cohort = plan.config, plan.cohort
    check_encoders(plan)
    write_plan(plan, folder, workspace)
    say(_summary(plan))
    say(foresee_sentence(foresee(plan)))
    pretrained = pretrain_encoders(plan, workspace)
    write_json(folder / "pretrained.json", _named(pretrained))
    views: dict[View, Samples] = {}
    arms: dict[ArmRun, ArmInputs] = {}
    encoder_keys: dict[str, list[str]] = {name: [] for name in config.arms}
    samples_keys = {}
    for name, arm in config.arms.items():
        view = plan.view(arm)
        if view not in views:
            views[view] = joined_samples(cohort, plan.external, view, workspace)
        samples = views[view]
        samples_keys[name] = samples.key
        for run in range(arm.pretrain_seeds):
            arms[name, run], key = prepare_arm(name, plan, workspace, pretrained, samples, run)
            encoder_keys[name].append(key)
    jobs = list_jobs(plan, encoder_keys, samples_keys)
    run_jobs(jobs, plan, arms, folder, processes)
    return Results.open(folder)


def _named(pretrained: dict[str, list[tuple[str, Path]]]) -> dict[str, str]:
    """Encoder keys by name: that of the pretraining run, with a number from the second seed on."""
    return {
        name if run == 0 else f"{name} #{run + 1}": key
        for name, encoders in pretrained.items()
        for run, (key, _) in enumerate(encoders)
    }


def write_plan(plan: Plan, folder: Path, workspace: Workspace) -> None:
    """Config, split and budgets of an experiment, before anything is computed, for people and for `Results`."""
    config = plan.config
    plan.split.save(folder / "split.json")
    draws = {str(draw): {str(b): units for b, units in budgets.items()} for draw, budgets in plan.budgets.items()}
    write_json(folder / "budgets.json", draws)
    if plan.tested:
        write_folds(plan.tested, folder)
    if plan.held:
        held = {str(draw): {str(b): units for b, units in budgets.items()} for draw, budgets in plan.held.items()}
        write_json(folder / "validation.json", held)
    labeled = plan.units.dropna(subset=["label"])
    counts = labeled.groupby("part").agg(units=("unit", "size"), patients=("patient", "nunique")).to_dict("index")
    classes = (
        each_stratum(labeled, plan.target).groupby(["part", "label"]).size().unstack(fill_value=0).to_dict("index")
    )
    facts: dict[str, Any] = {
        "cohort": {"name": plan.cohort.name, "hash": plan.cohort.hash, "scans": len(plan.cohort.scans())},
        "parts": {
            p: {**counts.get(p, {"units": 0, "patients": 0}), "patients_all": n} for p, n in _sizes(plan).items()
        },
        "classes": classes,
        "split": plan.split.hash,
        "cohort_folder": os.path.relpath(plan.cohort.path, folder),
        "external": {other.name: os.path.relpath(other.path, folder) for other in plan.external},
        "others": {name: _about_other(other, folder) for name, other in plan.others.items()},
    }
    facts["ways"] = ways_table(config, facts["others"], origins(config)).to_dict("records")
    if plan.others:
        write_json(folder / "others.json", {name: other.patients for name, other in plan.others.items()})
    write_json(folder / "facts.json", facts)
    text, kept = yaml.safe_dump(_without_paths(config, workspace), sort_keys=False), folder / "config.yaml"
    if kept.exists() and kept.read_text(encoding="utf-8") != text:  # jobs of the old one are not this one's results
        index = Index(folder)
        index.unplan()
        index.close()
    write_text(kept, text)


def _about_other(other: OtherData, folder: Path) -> dict[str, Any]:
    return {**other.facts(), "cohort_folder": os.path.relpath(other.cohort.path, folder)}


def _without_paths(config: Experiment, workspace: Workspace) -> dict[str, Any]:
    """The config as it is kept: where scans and labels lie may name a patient, so that is kept by a keyed id."""
    raw = config.model_dump(mode="json")
    others = [other["cohort"] for other in raw["others"].values() if other["cohort"]]
    for scans in (raw["cohort"], *raw["external"], *others):
        for holder, name in ((scans, "source"), (scans["labels"] or {}, "file")):
            if name in holder:
                holder[name] = "d" + workspace.pseudonym("place", holder[name])
    return raw


def _sizes(plan: Plan) -> dict[str, int]:
    return {part: len(getattr(plan.split, part)) for part in ("pool", "validation", "test")}


def _summary(plan: Plan) -> str:
    config, sizes = plan.config, _sizes(plan)
    runs = [
        f"{name} of {config.pretraining[name].length}" + (f" x {seeds} seeds" if seeds > 1 else "")
        for name, seeds in encoder_seeds(config).items()
    ]
    parts = f"pool {sizes['pool']}, validation {sizes['validation']}, test {sizes['test']}"
    draws = f"{config.draws} draws"
    if config.split.folds:
        labeled = plan.units.dropna(subset=["label"])
        parts = (
            f"{labeled['patient'].nunique()} labeled ones, cross-fitted with {len(labeled)} {config.target.unit}s; "
            f"{sizes['pool']} to pretrain on"
        )
        draws = f"{config.split.folds} folds x {config.split.repeats} repeats"
    return (
        f"{config.title or config.name}: {sum(sizes.values())} patients ({parts}), "
        f"pretraining: {', '.join(runs) or 'none'}; then {_job_count(config)} jobs "
        f"({len(config.arms)} arms x {len(config.budgets)} budgets x {draws}){_tuning(plan)}"
    )


def _tuning(plan: Plan) -> str:
    """What tuning adds, for the summary."""
    tuning, budgets = plan.config.tuning, tuned_budgets(plan.held)
    if not tuning:
        return ""
    if not budgets:
        return f". No budget has {LEAST} {plan.config.target.unit}s {every(plan.target)}, so no recipe is tuned"
    return (
        f", {_fit_count(plan)} fits: with {listed(budgets)} labels each job tries {tuning.trials} recipes on "
        f"{100 * tuning.validation:.0f} % of its labels and fits the best again"
    )


def _fit_count(plan: Plan) -> int:
    """Fits of all jobs, trials included."""
    config = plan.config
    more = config.tuning.trials * len(tuned_budgets(plan.held)) if config.tuning else 0
    return _job_count(config) // len(config.budgets) * (len(config.budgets) + more)


def _job_count(config: Experiment) -> int:
    return sum(arm.pretrain_seeds for arm in config.arms.values()) * len(config.budgets) * config.draws
