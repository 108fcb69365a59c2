"""`medssl pretrain` is killed as a process at a random step; the same command again ends as if nothing had been."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from medssl.ingest import ingest
from medssl.workspace import Workspace

ENDS = {"SIGKILL": -9, "SIGTERM": 128 + 15, "SIGINT": 128 + 2, "SIGUSR1": 128 + 10}
VIEWS = {2: ["--size", "32"], 3: ["--size", "16", "spatial_dims=3", "spacing=1", "patches=2"]}


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory):
    """Folders of cohorts of images and of volumes, by dimensions."""
    place, rng = tmp_path_factory.mktemp("cohorts"), np.random.default_rng(0)
    made = {}
    for dims in (2, 3):
        folder = place / f"scans{dims}"
        folder.mkdir()
        for i in range(40 if dims == 2 else 12):
            values = rng.integers(0, 255, [40 if dims == 2 else 24] * dims, dtype=np.uint8)
            if dims == 2:
                Image.fromarray(values).save(folder / f"a{i}.png")
            else:
                nibabel.Nifti1Image(values, np.eye(4)).to_filename(folder / f"a{i}.nii.gz")
        workspace = Workspace(place / "workspace")
        made[dims] = workspace.cohort(f"c{dims}")
        ingest([folder], made[dims], workspace=workspace)
    return made


@pytest.fixture(scope="module")
def whole(cohorts, tmp_path_factory):
    """Outputs of runs that nothing disturbs, by dimensions; each is made once."""
    place = tmp_path_factory.mktemp("whole")

    def make(dims: int) -> Path:
        out = place / str(dims)
        if not out.exists():
            done, said = start(cohorts[dims], dims, out).communicate(timeout=300)
            assert json.loads(done)["resumed_from"] == 0, said
        return out

    return make


def start(cohort: Path, dims: int, out: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "medssl.cli", "pretrain", cohort, *VIEWS[dims], "--steps", "60"]
    more = ["batch=16", "checkpoint_every=10", "--out", out, "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words, pipe = [str(word) for word in command + more], subprocess.PIPE
    return subprocess.Popen(words, stdout=pipe, stderr=pipe, env=environment, text=True)


@pytest.mark.parametrize(
    ("how", "dims"),
    [("SIGKILL", 2), ("SIGKILL", 3), ("SIGTERM", 3), ("SIGINT", 2), ("SIGUSR1", 2)],
)
def test_a_killed_command_goes_on_and_ends_bit_equal(cohorts, whole, tmp_path, how, dims):
    out, least = tmp_path / "run", random.randint(11, 40)
    process = start(cohorts[dims], dims, out)
    history = out / "history.jsonl"
    while process.poll() is None and (not history.exists() or history.read_bytes().count(b"\n") < least):
        time.sleep(0.002)
    process.send_signal(signal.Signals[how])
    _, said = process.communicate(timeout=300)
    assert process.returncode == ENDS[how] and ("run the same command again" in said) == (how != "SIGKILL"), said
    done, said = start(cohorts[dims], dims, out).communicate(timeout=300)
    resumed = json.loads(done)["resumed_from"]
    assert resumed >= 10 and (resumed % 10 == 0 if how == "SIGKILL" else resumed >= least), said
    assert (out / "checkpoint.safetensors").read_bytes() == (whole(dims) / "checkpoint.safetensors").read_bytes()
    kept = [[json.loads(line)["loss"] for line in (run / "history.jsonl").open()] for run in (out, whole(dims))]
    assert len(kept[0]) == 60 and kept[0] == kept[1]
