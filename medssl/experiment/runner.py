"""Run an experiment: scans, split, budgets, pretraining, jobs, evidence. Interrupted, it goes on where it was."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from medssl.cohort import Samples, View
from medssl.config import Experiment
from medssl.errors import MedsslError
from medssl.experiment.index import Index
from medssl.experiment.job import ArmInputs, JobInputs, run_job
from medssl.experiment.ledger import enter
from medssl.experiment.plan import Job, Plan, list_jobs, make_plan
from medssl.experiment.prepare import ensure_cohort, prepare_arm, pretrain_encoder
from medssl.experiment.results import Results
from medssl.progress import bar, say
from medssl.workspace import Workspace, digest, lock, write_json, write_text


def run(config: Experiment, workspace: Workspace | None = None, processes: int | None = None) -> Results:
    """Run all that is not done yet, and return the results.

    Args:
        config: of `load_experiment`.
        workspace: where everything is kept.
        processes: jobs at a time, one thread each; default: one a core.

    Raises:
        UserError: the config does not fit the scans (source, target, budgets, strategy), before anything is computed.
        MedsslError: jobs failed; those that were done are kept.
    """
    workspace = workspace or Workspace()
    cohort = ensure_cohort(config.cohort, workspace)
    plan = make_plan(config, cohort)
    folder = workspace.experiment(config.name)
    with lock(folder, "running the experiment of", "Wait for it, or give this run another name (name=...)."):
        return _run(plan, folder, workspace, processes)


def _run(plan: Plan, folder: Path, workspace: Workspace, processes: int | None) -> Results:
    config, cohort = plan.config, plan.cohort
    write_plan(plan, folder, workspace)
    say(_summary(plan))
    used = {arm.pretrain for arm in config.arms.values() if arm.pretrain}
    pretrained = {name: pretrain_encoder(name, plan, workspace) for name in config.pretraining if name in used}
    write_json(folder / "pretrained.json", {name: key for name, (key, _) in pretrained.items()})
    views: dict[View, Samples] = {}
    arms: dict[str, ArmInputs] = {}
    encoder_keys, samples_keys = {}, {}
    for name, arm in config.arms.items():
        view = plan.view(arm)
        samples = views.setdefault(view, views[view] if view in views else cohort.samples(view))
        arms[name], encoder_keys[name] = prepare_arm(name, plan, workspace, pretrained, samples)
        samples_keys[name] = samples.key
    jobs = list_jobs(plan, encoder_keys, samples_keys)
    _run_jobs(jobs, plan, arms, folder, processes or os.cpu_count() or 1)
    return Results.open(folder)


def write_plan(plan: Plan, folder: Path, workspace: Workspace) -> None:
    """Config, split and budgets of an experiment, before anything is computed, for people and for `Results`."""
    config = plan.config
    plan.split.save(folder / "split.json")
    draws = {str(draw): {str(b): units for b, units in budgets.items()} for draw, budgets in plan.budgets.items()}
    write_json(folder / "budgets.json", draws)
    counts = plan.units.groupby("part").agg(units=("unit", "size"), patients=("patient", "nunique")).to_dict("index")
    classes = plan.units.groupby(["part", "label"]).size().unstack(fill_value=0).to_dict("index")
    facts = {
        "cohort": {"name": plan.cohort.name, "hash": plan.cohort.hash, "scans": len(plan.cohort.scans())},
        "parts": {
            p: {**counts.get(p, {"units": 0, "patients": 0}), "patients_all": n} for p, n in _sizes(plan).items()
        },
        "classes": classes,
        "split": plan.split.hash,
        "cohort_folder": os.path.relpath(plan.cohort.path, folder),
    }
    write_json(folder / "facts.json", facts)
    write_text(folder / "config.yaml", yaml.safe_dump(_without_paths(config, workspace), sort_keys=False))


def _without_paths(config: Experiment, workspace: Workspace) -> dict[str, Any]:
    """The config as it is kept: where scans and labels lie may name a patient, so that is kept by a keyed id."""
    raw = config.model_dump(mode="json")
    for holder, name in ((raw["cohort"], "source"), (raw["cohort"]["labels"] or {}, "file")):
        if name in holder:
            holder[name] = "d" + workspace.pseudonym("place", holder[name])
    return raw


def _sizes(plan: Plan) -> dict[str, int]:
    return {part: len(getattr(plan.split, part)) for part in ("pool", "validation", "test")}


def _summary(plan: Plan) -> str:
    config, sizes = plan.config, _sizes(plan)
    jobs = len(config.arms) * len(config.budgets) * config.draws
    steps = sum(spec.steps for spec in config.pretraining.values())
    return (
        f"{config.title or config.name}: {sum(sizes.values())} patients "
        f"(pool {sizes['pool']}, validation {sizes['validation']}, test {sizes['test']}), "
        f"{len(config.pretraining)} pretraining runs of {steps} steps in all, then {jobs} jobs "
        f"({len(config.arms)} arms x {len(config.budgets)} budgets x {config.draws} draws)"
    )


def _run_jobs(jobs: list[Job], plan: Plan, arms: dict[str, ArmInputs], folder: Path, processes: int) -> None:
    from joblib import Parallel, delayed

    results = folder / "results"
    results.mkdir(exist_ok=True)
    done = {job.key for job in jobs if (results / f"{job.key}.parquet").exists()}
    index = Index(folder)
    index.plan(jobs, done)
    todo = [_inputs(job, plan, arms[job.arm], results) for job in jobs if job.key not in done]
    if todo:
        if plan.config.evaluate == "test":
            enter(plan.cohort.path, plan.config.name, digest(plan.config.model_dump(mode="json")), len(todo))
        failed: list[str] = []
        workers = Parallel(n_jobs=min(processes, len(todo)), return_as="generator_unordered", batch_size=1)
        with bar("Jobs", len(jobs), done=len(done)) as progress:
            for key, seconds, error in workers(delayed(_attempt)(job) for job in todo):
                index.finish(key, seconds, error)
                if error:
                    failed.append(error)
                progress.advance()
        if failed:
            raise MedsslError(
                f"{len(failed)} of {len(todo)} jobs failed; the first: {failed[0]}",
                plan.config.name,
                "The others are kept. Mend the cause and run the same command again: only what is missing runs.",
            )
    index.close()


def _inputs(job: Job, plan: Plan, shared: ArmInputs, results: Path) -> JobInputs:
    return JobInputs(
        key=job.key,
        experiment=plan.config.name,
        cohort=plan.cohort.name,
        arm_name=job.arm,
        budget=str(job.budget),
        draw=job.draw,
        seed=job.seed,
        split=plan.config.evaluate,
        precision=job.precision,
        target=plan.config.target,
        units=plan.units,
        train=job.train,
        shared=shared,
        out=results / f"{job.key}.parquet",
    )


def _attempt(job: JobInputs) -> tuple[str, float | None, str | None]:
    """Run a job twice at most, so that a passing fault (memory, disk) does not cost the whole experiment."""
    error = ""
    for _ in range(2):
        try:
            key, seconds = run_job(job)
            return key, seconds, None
        except Exception as problem:
            error = f"{type(problem).__name__}: {problem}"
    return job.key, None, f"{job.arm_name}, budget {job.budget}, draw {job.draw}: {error}"
