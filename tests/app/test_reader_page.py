"""The reader-test page in every state: nothing to ask, the form, questions, feedback, a closed browser, scores."""

from __future__ import annotations

import json
import shutil

import pytest
from reading import add_cohort, add_encoder
from test_pages import open_app, words  # noqa: F401

from medssl.report.reader_test import ReaderTest, quiz_of, read_session
from medssl.workspace import Workspace


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workspace = Workspace(tmp_path_factory.mktemp("reader_page"))
    cohort = add_cohort(workspace)
    for task in ("rotation", "inpainting", "relative_patch", "simclr"):
        add_encoder(workspace, cohort, task, steps=2)
    return workspace


@pytest.fixture
def place(trained, tmp_path):
    shutil.copytree(trained.path, tmp_path / "own")
    return Workspace(tmp_path / "own")


def press(app, label):
    next(b for b in app.button if b.label == label).click().run()
    assert not app.exception, app.exception[0].message
    return app


def labels(app):
    return [b.label for b in app.button]


def pictures(app):
    return [h.proto.body for h in app.get("html") if "<img" in h.proto.body]


def begin(place, app, reader="r1", feedback=False):
    app.text_input(key="reader").set_value(reader)
    app.toggle(key="feedback").set_value(feedback)
    press(app, "Begin")
    (path,) = place.readers()
    return path.stem


def test_nothing_to_ask_about(open_app, tmp_path, place):  # noqa: F811
    assert "no cohort yet" in words(open_app(tmp_path / "nothing", "reader_test"))
    shutil.rmtree(place.path / "encoders")
    assert "no finished pretraining run yet" in words(open_app(place.path, "reader_test"))


def test_a_network_that_does_not_fit_is_said(open_app, place):  # noqa: F811
    for task in ("rotation", "relative_patch", "simclr"):
        shutil.rmtree(place.encoder(f"toys-{task}"))
    text = words(open_app(place.path, "reader_test"))
    assert "asks something that a person can answer" in text and "jigsaw" in text


def test_a_bad_name_is_said_in_a_sentence(open_app, place):  # noqa: F811
    app = open_app(place.path, "reader_test", encoder="toys-rotation", questions="10")
    app.text_input(key="reader").set_value("Dr. Who")
    press(app, "Begin")
    assert "pseudonym" in words(app) and not place.readers()


def test_from_the_first_question_to_the_scores(open_app, place):  # noqa: F811
    app = open_app(place.path, "reader_test", encoder="toys-rotation", questions="10", seed="3")
    name = begin(place, app)
    assert "Question 1 of 10" in str([p.proto.text for p in app.get("progress")])
    assert "How was this image turned?" in words(app) and len(pictures(app)) == 1
    assert labels(app) == ["Not at all", "To the left", "Upside down", "To the right", "Pause"]
    assert [b.proto.shortcut for b in app.button[:4]] == ["1", "2", "3", "4"], "keys answer as well"
    shown = words(app) + "".join(pictures(app))
    assert "right answer" not in shown and "network said" not in shown
    truths = [q.truth for q in ReaderTest.begin(place, read_session(place, name).quiz).asked.questions]
    for at, truth in enumerate(truths):
        assert "Wrong" not in words(app) and "p <" not in words(app), "no score on the way"
        app.button[truth if at % 2 == 0 else (truth + 1) % 4].click().run()
    text = words(app).replace("\\", "")
    assert "right in 5 of 10" in text and "Guessing would give 0.250" in text and "The network was right in" in text
    assert (
        "r1" in text and "By chance" in text and [d.label for d in app.get("download_button")] == ["Result file, JSON"]
    )
    held = json.loads(place.reader(name).read_text())
    assert len(held["answers"]) == 10 and all(a["seconds"] >= 0 for a in held["answers"])
    assert "Begin" in labels(press(app, "New test"))


def test_a_closed_browser_finds_the_test_again(open_app, place):  # noqa: F811
    app = open_app(place.path, "reader_test", encoder="toys-rotation", questions="10")
    name = begin(place, app)
    app.button[0].click().run()
    by_link = open_app(place.path, "reader_test", session=name)
    assert "Question 2 of 10" in str([p.proto.text for p in by_link.get("progress")])
    by_list = open_app(place.path, "reader_test")
    assert "Reader right" not in words(by_list), "no score of an unfinished test"
    press(by_list, "Go on: r1, rotation, 1 of 10")
    assert "Question 2 of 10" in str([p.proto.text for p in by_list.get("progress")])
    assert "Begin" in labels(press(by_list, "Pause"))
    lost = open_app(place.path, "reader_test", session="../../secret")
    assert "no such session" in words(lost)
    assert "Begin" in labels(press(lost, "Back"))


def test_feedback_comes_after_the_answer_and_by_choice(open_app, place):  # noqa: F811
    app = open_app(place.path, "reader_test", encoder="toys-rotation", questions="10")
    name = begin(place, app, feedback=True)
    (question, *_) = ReaderTest.begin(place, read_session(place, name).quiz).asked.questions
    wrong = (question.truth + 1) % 4
    app.button[wrong].click().run()
    text = words(app)
    assert f"Wrong: it is {question.choices[question.truth]}" in text and "The network said:" in text
    assert labels(app) == ["Next"]
    assert "Pause" in labels(press(app, "Next"))


def test_real_and_made_images_stand_side_by_side(open_app, place):  # noqa: F811
    app = open_app(place.path, "reader_test", kind="real", questions="10")
    name = begin(place, app, feedback=True)
    assert len(pictures(app)) == 2 and labels(app) == ["Image 1", "Image 2", "Pause"]
    assert "real one?" in words(app)
    (question, *_) = ReaderTest.begin(place, read_session(place, name).quiz).asked.questions
    app.button[question.truth].click().run()
    (said,) = app.success
    assert said.value == f"Right: image {question.truth + 1}.", "and nothing of a network that does not judge"
    shown = pictures(app)
    assert "helps" in shown[question.truth] and "helps" not in shown[1 - question.truth]


def test_directions_lie_as_they_lie_in_the_image(open_app, place):  # noqa: F811
    app = open_app(place.path, "reader_test", encoder="toys-relative_patch", questions="10")
    begin(place, app)
    assert labels(app)[:8] == [
        "Above left",
        "Above",
        "Above right",
        "Left",
        "Right",
        "Below left",
        "Below",
        "Below right",
    ]
    assert len(pictures(app)) == 2


def test_pictures_are_chosen_among_four(open_app, place):  # noqa: F811
    app = open_app(place.path, "reader_test", encoder="toys-simclr", questions="10")
    begin(place, app)
    assert len(pictures(app)) == 5 and labels(app)[:4] == [f"Image {n}" for n in range(1, 5)]
    assert sum('alt="choice' in picture for picture in pictures(app)) == 4


def test_a_test_whose_scans_changed_is_said(open_app, place):  # noqa: F811
    asked = quiz_of("r1", "toys", "toys-rotation", count=10)
    ReaderTest.begin(place, asked)
    path = place.reader(asked.name)
    path.write_text(path.read_text().replace('"key": "', '"key": "0'))
    app = open_app(place.path, "reader_test", session=asked.name)
    assert "has changed since this session began" in words(app)
    path.write_text("{")
    app = press(app, "Back")
    assert "1 files of reader tests are damaged" in words(app)
