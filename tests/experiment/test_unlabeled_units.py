"""Scans that nobody labeled: strategies that learn from the pool see them beside the labeled ones."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from medssl.config import Experiment, validate
from medssl.experiment import audit, run
from medssl.experiment.job import fit_arm
from medssl.experiment.jobs import job_inputs
from medssl.experiment.plan import list_jobs, make_plan
from medssl.experiment.prepare import _means, ensure_cohort, prepare_arm
from medssl.workspace import Workspace

LABELED = 40  # patients, of 80
FEW = {"min_steps": 3, "batch": 8, "epochs": 0.1}
ARMS = {
    "pixels": {"encoder": "pixels"},
    "spread": {"encoder": "small", "strategy": "propagate"},
    "fixmatch": {"encoder": "small", "strategy": {"name": "fixmatch", "unlabeled": 8, **FEW}},
    "distilled": {"encoder": "small", "strategy": {"name": "distill", "teacher": "finetune", **FEW}},
}


@pytest.fixture(scope="module")
def raw(tiny_raw, tiny_source, tmp_path_factory):
    source = shutil.copytree(tiny_source, tmp_path_factory.mktemp("half") / "scans")
    rows = (source / "labels.csv").read_text().splitlines()
    half = [row if i <= 2 * LABELED else row.rpartition(",")[0] + "," for i, row in enumerate(rows)]
    (source / "labels.csv").write_text("\n".join(half) + "\n")
    own = {"cohort": tiny_raw["cohort"] | {"source": str(source)}, "arms": ARMS, "baseline": ["pixels"]}
    claim = {"arm": "spread", "baseline": "pixels", "budget": 5}
    return tiny_raw | own | {"pretraining": {}, "budgets": [5], "draws": 2, "claim": claim}


def test_an_experiment_with_them_goes_the_whole_way(raw, tmp_path):
    results = run(validate(Experiment, raw, "tiny"), Workspace(tmp_path), processes=1)
    assert results.complete and all(check.passed for check in audit(results.path))
    plan = make_plan(results.settings, ensure_cohort(results.settings.cohort, Workspace(tmp_path)))
    pool = plan.units[plan.units["part"] == "pool"]
    unlabeled = pool[pool["label"].isna()]
    assert len(unlabeled) == 2 * (80 - LABELED) and set(plan.units["part"]) == {"pool", "validation", "test"}
    assert plan.units["unit"].is_unique and not set(unlabeled["patient"]) & set(plan.split.test)


def test_a_strategy_is_given_those_that_have_a_picture(raw, tmp_path):
    config, workspace = validate(Experiment, raw, "tiny"), Workspace(tmp_path)
    plan = make_plan(config, ensure_cohort(config.cohort, workspace))
    samples = plan.cohort.samples(config.view)
    shared, key = prepare_arm("spread", plan, workspace, {}, samples)
    job = list_jobs(plan, dict.fromkeys(ARMS, (key,)), dict.fromkeys(ARMS, samples.key))[0]
    problem = fit_arm(job_inputs(job, plan, shared, tmp_path)).problem
    pool = np.flatnonzero(plan.units["part"] == "pool")
    assert problem.pool.tolist() == pool.tolist() and plan.units["label"].iloc[pool].isna().any()
    last = int(pool[-1])
    shared = replace(shared, unit_of=np.where(shared.unit_of == last, -1, shared.unit_of))
    assert last not in fit_arm(job_inputs(job, plan, shared, tmp_path)).problem.pool
    means = _means(np.ones((3, 2)), np.array([0, -1, 2]), 4)
    assert np.isnan(means).all(1).tolist() == [False, True, False, True]
