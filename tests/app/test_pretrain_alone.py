"""The way without labels on *New run*: one pretraining, started, followed, and found again on *Home*."""

from __future__ import annotations

import json
import os

from test_home import unfinished  # noqa: F401  (fixtures)
from test_new_run import again, leave, made, one, open_page, place, words  # noqa: F401
from test_pages import one_draw, open_app  # noqa: F401

from medssl.experiment import processes


def test_a_cohort_without_labels_can_be_pretrained_on(open_page, place):  # noqa: F811
    app = open_page(place, cohort="c")
    place.encoder("c-rotation").mkdir(parents=True)
    (place.encoder("c-rotation") / "history.jsonl").write_text("")
    out = place.encoder("c-rotation_2")  # a folder holds one run
    command = f"medssl pretrain {place.cohort('c')} --task rotation --minutes 2 --out {out} --workspace {place.path}"
    assert "no labels yet" in words(app) and "simclr --minutes 10" in words(app)
    one(app.selectbox, "Task").select("rotation")
    one(app.number_input, "Minutes").set_value(2.0)
    again(app)
    assert command in words(app)
    one(app.button, "Pretrain").click()
    again(app)
    process = processes.find(place, "pretrain-c-rotation_2")
    assert process.command == command
    assert app.query_params["run"] in ("pretrain-c-rotation_2", ["pretrain-c-rotation_2"])
    assert "Pretraining c-rotation_2" in words(app)


def test_a_pretraining_leads_on_to_the_pages_that_show_it(open_page, place):  # noqa: F811
    arguments = ["pretrain", str(place.cohort("c"))]
    leave(place, "pretrain", "c-simclr", code=0, arguments=arguments)
    (leave(place, "pretrain", "c-rotation", arguments=arguments) / "stop").touch()
    app = open_page(place)
    assert one(app.button, "See the embedding") and one(app.button, "Resume")
    one(app.button, "Follow it").click()
    again(app)
    assert app.title[0].value == "Pretraining" and "No pretraining run" in words(app)
    assert app.session_state["kept encoder:c"] == "c-rotation" and app.session_state["kept cohort"] == "c"


def test_home_shows_a_pretraining_that_runs(open_app, unfinished):  # noqa: F811
    folder = unfinished / "encoders" / "c-rotation"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"cohort": "c", "identity": {"task": "rotation", "steps": 200}}))
    (folder / "history.jsonl").write_text('{"step": 50}\n')
    (folder / "lock").write_text(f"{os.getpid()} on {os.uname().nodename}")
    app = open_app(unfinished)
    (bar,) = app.get("progress")
    assert bar.proto.value == 25 and "50 of 200 steps" in bar.proto.text
    assert "Nothing is running" not in words(app)
