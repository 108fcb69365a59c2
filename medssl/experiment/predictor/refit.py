"""Fit an arm of a finished experiment once more, as its job did, and keep what it leaves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from medssl.cohort import Cohort
from medssl.config import Budget, Strict, weights_file
from medssl.errors import UserError, unknown
from medssl.experiment.external import PART, joined_samples
from medssl.experiment.job import Fit, JobInputs, fit_arm
from medssl.experiment.jobs import job_inputs
from medssl.experiment.plan import JOB_ROOMS, Plan, list_jobs, make_plan
from medssl.experiment.predictor.about import About, Labels
from medssl.experiment.predictor.calibration import calibrate
from medssl.experiment.predictor.known import Known
from medssl.experiment.predictor.predictor import Predictor
from medssl.experiment.prepare import encoder_seed, prepare_arm
from medssl.experiment.results import Results
from medssl.experiment.tuning import held_out
from medssl.workspace import Workspace, code_revision

if TYPE_CHECKING:  # torch takes seconds to import
    from medssl.experiment.predictor.familiar import Familiar

PACKAGES = ("medssl", "torch", "timm", "scikit-learn", "numpy")
MANY = 100  # validation units that say better than the pool what is usual for the fitted encoder


def refit(results: Results, arm: str, budget: Budget = "all", draw: int = 0, all_labels: bool = False) -> Predictor:
    """The predictor of an arm, fitted as the experiment's own job was, with the encoder that it used.

    Of an arm with several pretraining seeds it is the first encoder's.

    Args:
        budget: one of the experiment's, or `all` labels of the pool (cross-fitted: of the folds that teach).
        draw: whose labels and seed.
        all_labels: of the cohort, those of its validation and test parts too. Nothing is left then to test it on.

    Raises:
        UserError: no such arm, budget or draw; the cohort has changed since; an encoder is gone; a part of the labels
            is asked for as well as all of them.
    """
    config = results.settings
    budgets = [*dict.fromkeys([*config.budgets, "all"])]
    if arm not in config.arms:
        raise unknown("arm", arm, list(config.arms), results.name)
    if budget not in budgets:
        raise unknown("budget", str(budget), [str(b) for b in budgets], results.name)
    if not 0 <= draw < config.draws:
        raise UserError(f"there is no draw {draw}", results.name, f"Draws go from 0 to {config.draws - 1}.")
    if all_labels and budget != "all":
        raise UserError("all labels are more than a budget", "--all-labels", "Leave --budget or --all-labels out.")
    workspace = Workspace(results.path.parent.parent)
    plan = _plan(results, arm, budget)
    inputs, key, encoder = _inputs(plan, results, workspace, arm, budget, draw)
    if all_labels:
        inputs, key = _with_all_labels(inputs, plan), None
    with _one_thread():
        fit = fit_arm(inputs)
        return _predictor(fit, inputs, plan, results, (budget, draw, all_labels), key, encoder)


def _plan(results: Results, arm: str, budget: Budget) -> Plan:
    """The experiment's plan for one arm."""
    config, facts = results.settings, results.facts
    if not facts:
        raise UserError("this experiment has not begun", results.name, "Run its config first.")
    cohort = Cohort.open(results.cohort_folder)
    fix = "Run its config again; an arm is taken away from what was measured."
    if cohort.hash != facts["cohort"]["hash"]:
        raise UserError(f"the cohort '{cohort.name}' has changed since the experiment was run", results.name, fix)
    external = tuple(Cohort.open(results.path / folder) for folder in facts["external"].values())
    others = {
        name: Cohort.open(results.path / other["cohort_folder"]) for name, other in facts.get("others", {}).items()
    }
    for name, other in others.items():
        if other.hash != facts["others"][name]["hash"]:
            raise UserError(f"the cohort '{other.name}' has changed since the experiment was run", results.name, fix)
    budgets = config.budgets if budget in config.budgets else [*config.budgets, budget]
    alone = config.model_copy(update={"arms": {arm: config.arms[arm]}, "budgets": budgets})
    plan = make_plan(alone, cohort, external, others)
    if plan.split.hash != facts["split"]:
        raise UserError("the cohort's split is not that of the experiment", results.name, fix)
    return plan


def _inputs(
    plan: Plan, results: Results, workspace: Workspace, arm: str, budget: Budget, draw: int
) -> tuple[JobInputs, str | None, str]:
    """What the arm's job was given; its key, where the experiment has that job; the key of the encoder."""
    from medssl.training.rules import devices

    chosen = plan.config.arms[arm]
    pretrained = {}
    if chosen.pretrain:
        key = json.loads((results.path / "pretrained.json").read_text())[chosen.pretrain]
        checkpoint = workspace.encoder(key) / "checkpoint.safetensors"
        if not checkpoint.exists():
            raise UserError(f"the encoder '{key}' of this arm is gone", results.name, "Run its config again.")
        pretrained[chosen.pretrain] = [(key, checkpoint)]
    samples = joined_samples(plan.cohort, plan.external, plan.view(chosen), workspace)
    shared, encoder = prepare_arm(arm, plan, workspace, pretrained, samples)
    jobs = list_jobs(plan, {arm: [encoder]}, {arm: samples.key})
    job = next(job for job in jobs if job.budget == budget and job.draw == draw)
    recorded = set(results.jobs().loc[lambda t: t["status"] == "done", "job"])
    inputs = replace(job_inputs(job, plan, shared, results.evidence_folder), device=devices()[0])
    return inputs, job.key if job.key in recorded else None, encoder


def _with_all_labels(inputs: JobInputs, plan: Plan) -> JobInputs:
    """All of the cohort's own units are the pool, and all that have a label teach. Where the job chose its recipe, they
    choose it anew."""
    own = ~inputs.units["part"].str.startswith(PART)
    units = inputs.units.assign(part=inputs.units["part"].where(~own, "pool"))
    train = tuple(units.loc[own & units["label"].notna(), "unit"])
    config = plan.config.model_copy(update={"budgets": ["all"]})
    held = held_out(config, units[own], {0: {"all": list(train)}}, plan.tied, plan.target) if inputs.validation else {}
    return replace(inputs, units=units, train=train, test=(), validation=held[0]["all"] if held else ())


def _predictor(
    fit: Fit,
    inputs: JobInputs,
    plan: Plan,
    results: Results,
    labels: tuple[Budget, int, bool],
    key: str | None,
    encoder_key: str,
) -> Predictor:
    from medssl.transfer.fitted import Fitted

    config, units, target = plan.config, inputs.units, fit.problem.target
    arm, source = inputs.shared.arm, inputs.shared.source
    encoder = fit.fitted.encoder
    if encoder is None and source is not None:
        encoder = source.make(encoder_seed(arm, config))  # as `prepare_arm` made it for the embeddings
    held = np.flatnonzero(units["part"] == "validation")
    logits = fit.logits(held, inputs.arm_name) if len(held) else np.empty((0, target.outputs), np.float32)
    calibration = calibrate(target, logits, units["label"].iloc[held].tolist())
    pool = units.iloc[fit.problem.pool]
    scans = plan.cohort.scans()
    known = Known.of(scans[scans["patient"].isin(set(pool["patient"]))])
    familiar, distance, of = _familiar(fit, pool["patient"].to_numpy(), held)
    teachers = units[units["unit"].isin(inputs.train)]
    recipe = {
        "arm": _said(arm),
        "pretraining": _said(config.pretraining.get(arm.pretrain or "")),
        "encoder": encoder_key,
    }
    if fit.trials:
        recipe["chosen"] = next(trial.settings for trial in fit.trials if trial.chosen)
    about = About(
        experiment=results.name,
        arm=inputs.arm_name,
        target=config.target,
        classes=target.classes,
        view=plan.view(arm),
        encoder=arm.encoder if source is None else source.name,
        head=str(fit.fitted.head.kind),
        recipe=recipe,
        calibration=calibration,
        learnt=target.learnt(),
        cohort={"name": plan.cohort.name, "hash": plan.cohort.hash},
        labels=Labels(
            budget=labels[0],
            draw=labels[1],
            every=labels[2],
            units=len(teachers),
            patients=int(teachers["patient"].nunique()),
            job=key,
        ),
        versions={name: metadata.version(name) for name in PACKAGES},
        revision=code_revision(*JOB_ROOMS),
    )
    known = known.model_copy(update={"distance": distance, "distance_from": of})
    return Predictor(about, known, Fitted(fit.fitted.head, encoder), familiar)


def _said(settings: Strict | None) -> dict[str, Any] | None:
    """Settings as plain data; of a file of weights its name, since where it lies is nobody's business elsewhere."""
    if settings is None:
        return None
    values = settings.model_dump(mode="json")
    for key in ("init", "weights"):
        if path := weights_file(values.get(key) or ""):
            values[key] = path.name
    return values


def _familiar(fit: Fit, patients: np.ndarray, held: np.ndarray) -> tuple[Familiar | None, float | None, str]:
    """Where the pool's embeddings lie, and how far out a unit may be that belongs there."""
    from medssl.experiment.predictor.familiar import FEWEST, Familiar, held_out_distances

    if len(set(patients)) < FEWEST:
        return None, None, f"not known: the pool has fewer than {FEWEST} patients"
    features = fit.features(fit.problem.pool)
    familiar = Familiar.fit(features)
    if len(held) >= MANY:
        distances, of = familiar.distances(fit.features(held)), f"{len(held)} validation units"
    else:
        distances, of = held_out_distances(features, patients), f"{len(features)} pool units, held out by patient"
    return familiar, float(np.quantile(distances, 0.99)), of


@contextmanager
def _one_thread() -> Iterator[None]:
    """As jobs run, so that the same numbers come out."""
    import torch
    from threadpoolctl import threadpool_limits

    before: Any = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)
