"""The pretraining page: runs of the whole workspace while they run and afterwards, alarms, pictures, comparison."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
from reading import add_cohort, add_encoder
from synthetic import write_experiment
from test_pages import charts, open_app, words  # noqa: F401

from medssl.errors import UserError
from medssl.experiment import saliency
from medssl.workspace import Workspace


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A workspace with a cohort and two finished runs, and no experiment. Tests must not change it."""
    workspace = Workspace(tmp_path_factory.mktemp("pretraining"))
    cohort = add_cohort(workspace)
    add_encoder(workspace, cohort, "rotation")
    add_encoder(workspace, cohort, "inpainting", steps=3, seed=1)
    return workspace


@pytest.fixture
def own(place, tmp_path):
    """A copy that a test may change."""
    shutil.copytree(place.path, tmp_path / "own")
    return Workspace(tmp_path / "own")


def pictures(app) -> int:
    return sum(h.proto.body.count("<img") for h in app.get("html"))


def query(app, key):
    value = app.query_params.get(key)
    return value if value is None or isinstance(value, str) else value[0]


def begin(workspace, name="toys-rotation", **line):
    """Make a finished run one that runs in this very process, with one more line in its history."""
    folder = workspace.encoder(name)
    (folder / "lock").write_text(f"{os.getpid()} on {os.uname().nodename}")
    (folder / "checkpoint.safetensors").unlink()
    lines = (folder / "history.jsonl").read_text().splitlines()
    last = json.loads(lines[1]) | line
    (folder / "history.jsonl").write_text("\n".join([*lines[:1], json.dumps(last)]) + "\n")


def test_runs_of_the_workspace_need_no_experiment(open_app, place):  # noqa: F811
    app = open_app(place.path, "pretraining", runs="toys-rotation")
    text = words(app)
    assert "finished" in text and "4 of 4" in text and "No alarm" in text and "1.386 →" in text
    assert len(charts(app)) == 1 and "nothing learned" in str(charts(app)[0].proto)
    assert pictures(app) == 4 * 3 + 4, "image, as turned, turned back by the answer, and where that comes from"
    assert (
        text.count("probability of the right answer: 0.") == 4 * 2 and "Grad-CAM" in text
    )  # captions, and for readers
    assert "no arm that uses this run" in text
    assert "by which multiple of 90 degrees" in text and "after 4 steps" in text
    assert "view.size" in text and "learning_rate" in text


def test_reconstructions_stand_beside_originals(open_app, place):  # noqa: F811
    app = open_app(place.path, "pretraining", runs="toys-inpainting")
    shown = [h.proto.body for h in app.get("html") if "<img" in h.proto.body]
    assert pictures(app) == 4 * 3 and all(
        shown[0].count(f">{c}</figcaption>") == 4 for c in ("image", "seen", "painted")
    )
    assert "no single answer" in words(app)
    before = shown[0]
    next(b for b in app.button if b.label == "Other scans").click().run()
    after = [h.proto.body for h in app.get("html") if "<img" in h.proto.body]
    assert not app.exception and after[0] != before and query(app, "seed") == "1"


def test_runs_are_compared(open_app, place):  # noqa: F811
    app = open_app(
        place.path, "pretraining", runs="toys-rotation,toys-inpainting", layout="together", log="embedding_std"
    )
    (chart,) = charts(app)
    spec = json.loads(chart.proto.spec)
    assert set(spec["encoding"]["color"]["scale"]["domain"]) == {"toys-rotation", "toys-inpainting"}
    assert "Spread of embeddings" in chart.proto.spec
    table = next(h.proto.body for h in app.get("html") if "<td class" in h.proto.body and ">seed<" in h.proto.body)
    assert "rotation" in table and "inpainting" in table and "view.size" not in table, "what is the same is folded away"
    assert "settings.turns" in table and "–" in table, "a setting of one task alone"


def test_alarm_lines_are_drawn_for_spread(open_app, place):  # noqa: F811
    app = open_app(place.path, "pretraining", runs="toys-rotation", log="spread_kept")
    assert "alarm below" in str(charts(app)[0].proto)


def test_a_running_run_is_live_and_its_alarms_are_shown(open_app, own):  # noqa: F811
    begin(own, warning="collapse: all images are the same")
    app = open_app(own.path, "pretraining")
    text = words(app)
    assert query(app, "runs") is None and "running" in text and "left" in text and "2 of 4" in text
    assert "collapse: all images" in text.replace("\\", "") and "No alarm" not in text
    assert "no network can answer yet" in text and pictures(app) == 0
    (own.encoder("toys-rotation") / "lock").write_text("")
    text = words(app.run())
    assert "stopped" in text and "goes on from the last saved state" in text


def test_a_run_before_its_first_line_and_without_settings(open_app, own):  # noqa: F811
    for name in ("toys-rotation", "toys-inpainting"):
        (own.encoder(name) / "history.jsonl").write_text("")
    (own.encoder("toys-rotation") / "run.json").write_text("{")
    text = words(open_app(own.path, "pretraining", runs="toys-rotation"))
    assert "No step of these runs is logged yet" in text and "say nothing of their settings" in text


def test_damaged_checkpoints_and_missing_cohorts_are_said(open_app, own):  # noqa: F811
    (own.encoder("toys-rotation") / "checkpoint.safetensors").write_bytes(b"no checkpoint")
    app = open_app(own.path, "pretraining", runs="toys-rotation")
    assert "Traceback" not in words(app) and pictures(app) == 0
    assert any(say in words(app) for say in ("safetensors", "damaged"))
    shutil.rmtree(own.path / "cohorts")
    assert "no cohort to show scans of" in words(open_app(own.path, "pretraining", runs="toys-inpainting"))


def test_runs_have_the_names_of_the_chosen_experiment(open_app, own):  # noqa: F811
    write_experiment(own.path, draws=1, test_units=10)
    app = open_app(own.path, "pretraining")
    assert "keysimclr" not in words(app) and len(charts(app)) == 2, "the experiment's own runs, by their names in it"
    app.multiselect[0].set_value(["toys-rotation", "keysimclr"]).run()
    assert not app.exception and query(app, "runs") == "toys-rotation,keysimclr" and len(charts(app)) == 2
    app.multiselect[0].set_value([]).run()
    assert "at least one run" in words(app)


def test_a_class_is_looked_at_with_the_probe_of_the_chosen_experiment(open_app, own, monkeypatch):  # noqa: F811
    asked = []

    def looks(results, arm, budget, cls, count, seed):
        asked.append((arm, budget, cls, seed))
        image = np.full((48, 48), 90, np.uint8)
        heat = saliency.Heat(0, 1, np.eye(32, dtype=np.float32), 0.25)
        return saliency.ClassHeats([saliency.Looked("none", heat, image)] * count, False)

    monkeypatch.setattr(saliency, "class_heats", looks)
    write_experiment(own.path, draws=1, test_units=10)
    for name in ("checkpoint.safetensors", "run.json"):
        shutil.copy(own.encoder("toys-rotation") / name, own.encoder("keysimclr") / name)
    app = open_app(own.path, "pretraining", runs="keysimclr")
    text = words(app)
    assert asked == [("simclr", 5, "none", 0)] and text.count("lesion: 0.25") == 0
    assert text.count(">none: 0.25<") == 4 and "5 labels a class" in text
    app.selectbox(key="heat_class:pretraining synthetic").set_value("lesion").run()
    assert not app.exception and asked[-1] == ("simclr", 5, "lesion", 0) and query(app, "heat_class") == "lesion"
    next(b for b in app.button if b.label == "Other scans").click().run()
    assert asked[-1] == ("simclr", 5, "lesion", 1)

    def gone(*args):
        raise UserError("the encoder of this arm is gone", "here", "Run its config again.")

    monkeypatch.setattr(saliency, "class_heats", gone)
    next(b for b in app.button if b.label == "Other scans").click().run()
    assert not app.exception and "The encoder of this arm is gone." in words(app)


def test_a_workspace_without_runs_says_what_to_do(open_app, tmp_path):  # noqa: F811
    write_experiment(tmp_path, draws=1, test_units=10)
    shutil.rmtree(tmp_path / "encoders")
    assert "medssl pretrain" in words(open_app(tmp_path, "pretraining"))
