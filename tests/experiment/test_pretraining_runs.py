"""Pretraining runs as their folders tell of them: state, alarms, levels, time left, settings that differ."""

import json
import os

import pytest

from medssl.experiment.runs import differing, runs
from medssl.workspace import holder


@pytest.fixture
def write(workspace):
    """Write a run's folder; the last one written is the one that changed last."""
    count = iter(range(100))

    def make(name, lines=(), **about):
        folder = workspace.encoder(name)
        folder.mkdir(parents=True)
        (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        stamp = next(count)
        os.utime(folder / "history.jsonl", (stamp, stamp))
        if about:
            (folder / "run.json").write_text(json.dumps(about))
        return folder

    return make


def identity(**changes):
    return {"task": "simclr", "steps": 100, "batch": 50, "view": {"size": 64, "window": None}, "threads": 2} | changes


def test_runs_come_with_the_latest_first_and_their_state(workspace, write):
    line = {"step": 40, "loss": 2.0, "images_per_second": 100.0}
    write("stopped", [line], identity=identity(), cohort="ours")
    (write("done", [line], identity=identity()) / "checkpoint.safetensors").touch()
    folder = write("live", [line], identity=identity())
    (folder / "lock").write_text(f"{os.getpid()} on {os.uname().nodename}")
    found = runs(workspace)
    assert [(r.name, r.state) for r in found] == [("live", "running"), ("done", "finished"), ("stopped", "stopped")]
    assert found[2].cohort == "ours" and found[0].task == "simclr" and found[0].steps == 100
    assert found[0].seconds_left(found[0].history()) == pytest.approx(60 * 50 / 100)
    (folder / "lock").write_text(f"999999999 on {os.uname().nodename}")
    assert runs(workspace)[0].state == "stopped", "killed: its number stands there, and no such process lives"
    (folder / "lock").write_text("17 on elsewhere")
    assert holder(folder) == "17 on elsewhere", "nobody here can look at another machine's processes"


def test_alarms_and_levels(workspace, write):
    lines = [{"step": 1, "loss": 5.0}, {"step": 2, "loss": 9.0, "warning": "diverges"}, {"step": 3, "loss": 4.0}]
    write("a", lines, identity=identity(), floor={"loss": 5.5, "embedding_std": 0.4, "projection_rankme": 90.0})
    (run,) = runs(workspace)
    assert run.alarms() == [(2, "diverges")] and run.history()["loss"].tolist() == [5, 9, 4]
    assert run.levels("loss") == {"nothing learned": 5.5} and run.levels("grad_norm") == {}
    assert run.levels("embedding_std") == {"untrained": 0.4} and run.levels("projection_rankme") == {"untrained": 90}
    assert run.levels("spread_kept") == {"untrained": 1, "alarm below": 0.05}


def test_half_written_folders_say_little_and_break_nothing(workspace, write):
    folder = write("new")
    (write("odd") / "run.json").write_text("[1")
    (folder / "history.jsonl").write_text('{"step": 1, "lo')
    for run in runs(workspace):
        assert run.history().empty and run.alarms() == [] and run.settings() == {} and run.steps == 0
        assert run.state == "stopped" and run.seconds_left(run.history()) is None and run.levels("loss") == {}


def test_settings_that_differ(workspace, write):
    write("a", identity=identity(settings={"temperature": 0.2}), cohort="ours")
    other = identity(task="byol", view={"size": 96, "window": None}, settings={"momentum": 0.9})
    write("b", identity=other, cohort="ours")
    b, a = runs(workspace)
    apart, same = differing([a, b])
    assert next(iter(apart)) == "task" and list(same)[:2] == ["cohort", "steps"], "what people look for stands first"
    assert apart == {
        "task": ["simclr", "byol"],
        "view.size": [64, 96],
        "settings.temperature": [0.2, None],
        "settings.momentum": [None, 0.9],
    }
    assert same == {"cohort": "ours", "steps": 100, "batch": 50, "view.window": None}, "threads say nothing to people"
    assert differing([a])[0] == {}
