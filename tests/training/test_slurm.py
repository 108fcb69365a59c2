"""Jobs through submitit's local executor: they end, are requeued on SIGUSR2, and resume."""

import signal
import time

import numpy as np
import psutil
import pytest
from PIL import Image

from medssl.errors import UserError
from medssl.ingest import ingest
from medssl.training import pretrain
from medssl.training.signals import stop_signals
from medssl.training.slurm import submit


@pytest.fixture
def cohort(tmp_path, workspace):
    folder = tmp_path / "scans"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(32):
        Image.fromarray(rng.integers(0, 255, (32, 32), dtype=np.uint8)).save(folder / f"a{i}.png")
    ingest([folder], workspace.cohort("c"), workspace=workspace)
    from medssl.cohort import Cohort

    return Cohort.open(workspace.cohort("c"))


def test_a_job_is_requeued_before_its_time_limit_and_resumes(cohort, tmp_path):
    options = {"steps": 40, "batch": 16, "encoder": "small"}
    out = tmp_path / "job"
    job = submit(cohort.path, "rotation", out, {"cluster": "local", "gpus": 0}, options)
    history, deadline = out / "history.jsonl", time.monotonic() + 240
    while time.monotonic() < deadline and (not history.exists() or len(history.read_text().splitlines()) < 4):
        time.sleep(0.02)
    (worker,) = psutil.Process(int(job.job_id)).children()
    worker.send_signal(signal.SIGUSR2)
    done = job.result()
    assert done["steps"] == 40 and done["resumed_from"] >= 4
    whole = pretrain(cohort, "rotation", out=tmp_path / "whole", **options)
    assert abs(whole.history["loss"].iloc[-1] - done["last"]["loss"]) < 1e-2  # a job has other threads


def test_slurm_options_are_checked(cohort, tmp_path):
    with pytest.raises(UserError, match="partition"):
        submit(cohort.path, "rotation", tmp_path, {"partitions": "gpu"}, {})
    local = {"cluster": "local", "gpus": 0}
    for task, options, says in (
        ("rotation", {"steps": 3, "epochs": 2}, "Give one"),
        ("rotatoin", {}, "rotation"),
        ("simclr", {"settings": {"temprature": 1}}, "temperature"),
    ):
        with pytest.raises(UserError, match=says):
            submit(cohort.path, task, tmp_path / "job", local, options)
    assert not (tmp_path / "job").exists(), "nothing was submitted"


def test_a_handler_that_was_there_gets_the_signal_after_saving():
    seen = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: seen.append(number))
    try:
        with stop_signals() as stop:
            assert stop() == 0
            signal.raise_signal(signal.SIGUSR2)
            assert stop() == signal.SIGUSR2 and not seen
            assert stop.hand_on(signal.SIGUSR2) and seen == [signal.SIGUSR2] and stop() == 0
            signal.raise_signal(signal.SIGTERM)
            assert stop() == signal.SIGTERM and not stop.hand_on(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGUSR2, before)
