"""Where jobs run, and how many at a time."""

import os

import pytest
import torch

from medssl.config import Experiment, validate
from medssl.experiment import jobs as module
from medssl.experiment import run
from medssl.experiment.cost import cost
from medssl.experiment.plan import list_jobs, make_plan
from medssl.experiment.prepare import ensure_cohort
from medssl.training import rules
from medssl.transfer import network
from medssl.workspace import Workspace

ARMS = {
    "pixels": {"encoder": "pixels"},
    "scratch": {"encoder": "small", "strategy": {"name": "finetune", "min_steps": 3, "batch": 8, "epochs": 0.1}},
}


@pytest.fixture
def config(tiny_raw):
    own = {"pretraining": {}, "arms": ARMS, "baseline": "pixels", "claim": None, "budgets": [2]}
    return validate(Experiment, tiny_raw | own, "tiny")


@pytest.fixture
def given(monkeypatch):
    """Jobs and how many at a time, as they are run; nothing is."""
    seen = []

    def finished(todo, at_a_time):
        seen.append(([(job.arm_name, job.device) for job in todo], at_a_time))
        return iter(())

    monkeypatch.setattr(module, "_finished", finished)
    return seen


def test_one_a_core_without_a_gpu(config, tmp_path, given):
    run(config, Workspace(tmp_path))
    assert given == [([(arm, "cpu") for arm in ("pixels", "scratch") for _ in range(3)], os.cpu_count())]


def test_jobs_that_train_share_the_gpus(config, tmp_path, given, monkeypatch):
    monkeypatch.setattr(rules, "devices", lambda: ["cuda:0", "cuda:1"])
    run(config, Workspace(tmp_path))
    frozen, training = given
    assert frozen == ([("pixels", "cpu")] * 3, os.cpu_count())
    assert training == ([("scratch", f"cuda:{n}") for n in (0, 1, 0)], 2 * module.ON_A_GPU)


def test_every_gpu_is_used(monkeypatch):
    assert rules.devices() == ["cpu"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert rules.devices() == ["cuda:0", "cuda:1"]


def test_the_job_trains_where_it_is_told_to(config, tmp_path, monkeypatch):
    """The one other name that a machine without a GPU has for a device."""
    seen, labeled = [], network.labeled
    monkeypatch.setattr(rules, "devices", lambda: ["cpu:0"])
    monkeypatch.setattr(network, "labeled", lambda problem: seen.append(problem.device) or labeled(problem))
    monkeypatch.setattr(module, "_finished", lambda todo, at_a_time: map(module._attempt, todo))
    assert run(config, Workspace(tmp_path)).complete and seen == ["cpu:0"] * 3


def test_volumes_are_trained_in_32_bits_where_images_take_bf16(config, tmp_path, monkeypatch):
    """On a CPU with bf16 and without AMX, where gradients in bf16 of small 3-D maps are not the same twice."""
    monkeypatch.setattr(rules, "_cpu_flags", lambda: {"avx512_bf16"})
    plan = make_plan(config, ensure_cohort(config.cohort, Workspace(tmp_path)))
    keys = dict.fromkeys(ARMS, ("a",)), dict.fromkeys(ARMS, "b")
    assert {job.precision for job in list_jobs(plan, *keys)} == {"bf16"}
    volumes = config.view.model_copy(update={"spatial_dims": 3})
    monkeypatch.setattr(type(plan), "view", lambda plan, arm: volumes)
    assert {job.precision for job in list_jobs(plan, *keys)} == {"32"}


def test_two_gpus_are_twice_as_fast_however_many_cores_there_are(config, tmp_path, monkeypatch):
    plan = make_plan(config, ensure_cohort(config.cohort, Workspace(tmp_path)))
    monkeypatch.setattr("medssl.experiment.cost._seconds_an_image", lambda *_: (0.0, 1.0))
    alone = cost(plan, {}, 1).jobs
    assert cost(plan, {}, 2).jobs == pytest.approx(alone / 2, abs=0.1)
    monkeypatch.setattr(rules, "devices", lambda: ["cuda:0", "cuda:1"])
    assert cost(plan, {}, 16).jobs == pytest.approx(alone / 2, abs=1)
