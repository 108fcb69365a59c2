"""Where jobs run, and how many at a time."""

import os

import pytest
import torch

from medssl.config import Experiment, validate
from medssl.experiment import jobs as module
from medssl.experiment import run
from medssl.experiment.cost import cost
from medssl.experiment.jobs import jobs_at_a_time
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


def test_one_a_core_without_a_gpu():
    assert rules.devices() == ["cpu"] and jobs_at_a_time() == os.cpu_count()


def test_every_gpu_is_used(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert rules.devices() == ["cuda:0", "cuda:1"] and jobs_at_a_time() == 4


def test_gpus_share_the_jobs(config, tmp_path, monkeypatch):
    given = []

    def finished(todo, processes):
        given.extend([*todo, processes])
        return iter(())

    monkeypatch.setattr(module, "_finished", finished)
    monkeypatch.setattr(rules, "devices", lambda: ["cuda:0", "cuda:1"])
    run(config, Workspace(tmp_path))
    *todo, processes = given
    assert processes == 4 and [job.device for job in todo] == ["cuda:0", "cuda:1"] * 3


def test_the_job_trains_where_it_is_told_to(config, tmp_path, monkeypatch):
    """The one other name that a machine without a GPU has for a device."""
    seen, labeled = [], network.labeled
    monkeypatch.setattr(rules, "devices", lambda: ["cpu:0"])
    monkeypatch.setattr(network, "labeled", lambda problem: seen.append(problem.device) or labeled(problem))
    monkeypatch.setattr(module, "_finished", lambda todo, processes: map(module._attempt, todo))
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


def test_jobs_that_share_a_gpu_are_together_as_fast_as_one(config, tmp_path, monkeypatch):
    plan = make_plan(config, ensure_cohort(config.cohort, Workspace(tmp_path)))
    monkeypatch.setattr("medssl.experiment.cost._seconds_an_image", lambda *_: (0.0, 1.0))
    alone = cost(plan, {}, 1).jobs
    assert cost(plan, {}, 2).jobs == pytest.approx(alone / 2, abs=0.1)
    monkeypatch.setattr(rules, "this_device", lambda: torch.device("cuda"))
    assert cost(plan, {}, module.ON_A_GPU).jobs == alone
