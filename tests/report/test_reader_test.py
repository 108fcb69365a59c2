"""Reader tests: seeded, resumable, scored right, and nothing of a patient in what is kept."""

import json

import numpy as np
import pandas as pd
import pytest
from reading import add_cohort, add_encoder

from medssl.errors import UserError
from medssl.report.reader_questions import ask, one_each
from medssl.report.reader_test import Quiz, ReaderTest, Session, quiz_of, read_session, score, sentences, sessions
from medssl.workspace import Workspace


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A workspace with two encoders. Tests add sessions alone."""
    workspace = Workspace(tmp_path_factory.mktemp("readers"))
    cohort = add_cohort(workspace)
    for task in ("rotation", "inpainting"):
        add_encoder(workspace, cohort, task)
    return workspace


def quiz(**changes):
    return quiz_of(**({"reader": "r1", "cohort": "toys", "encoder": "toys-rotation", "count": 6} | changes))


def run_through(test, right=lambda n: True):
    while test.next is not None:
        truth = test.asked.questions[test.next].truth
        test.answer(test.next, truth if right(test.next) else (truth + 1) % 2, 2.0)


def test_questions_are_seeded_and_about_patients_that_the_network_never_met(place):
    asked = [ask_of(place, seed=seed) for seed in (3, 3, 4)]
    assert asked[0].unseen and len(asked[0].questions) == 6 and asked[0].sentence == "How was this image turned?"
    assert asked[0].key == asked[1].key != asked[2].key
    for one, same in zip(asked[0].questions, asked[1].questions, strict=True):
        assert one.truth == same.truth and one.said == same.said and bool((one.shown[0] == same.shown[0]).all())
    everyone = ask_of(place, count=20)
    assert not everyone.unseen and len(everyone.questions) == 20, "only eight patients were kept out"
    real = ask_of(place, "inpainting", kind="real")
    assert {len(q.choices) for q in real.questions} == {2} and real.questions[0].said is None


def ask_of(place, task="rotation", kind="question", count=6, seed=0):
    from medssl.cohort import Cohort

    checkpoint = place.encoder(f"toys-{task}") / "checkpoint.safetensors"
    return ask(Cohort.open(place.cohort("toys")), checkpoint, kind=kind, count=count, seed=seed)


def test_tasks_without_such_questions_say_so(place):
    with pytest.raises(UserError, match="'inpainting' asks nothing"):
        ask_of(place, "inpainting")
    with pytest.raises(UserError, match="'rotation' makes no images"):
        ask_of(place, kind="real")


def test_one_scan_of_each_patient():
    table = pd.DataFrame({"patient": list("aaaabbbc"), "scan": list("uuuvwwwx"), "exam": list("ppqqrrst")})
    for seed in range(5):
        keep, unseen = one_each(table, "stack", 3, 2, frozenset(), seed)
        assert unseen and keep.tolist() == [0, 1, 2, 4, 5, 6], "c and the scan v are too small"
        keep, _ = one_each(table, "image", 1, 3, frozenset(), seed)
        assert sorted(table["patient"][keep]) == ["a", "b", "c"]
        keep, unseen = one_each(table, "exam", 2, 1, frozenset("a"), seed)
        assert unseen and keep.tolist() == [4, 5], "a was learned from"
        assert set(table["patient"][one_each(table, "image", 1, 2, frozenset("ab"), seed)[0]]) <= set("abc")
    assert not one_each(table, "image", 1, 2, frozenset("ab"), 0)[1], "one patient alone is new"
    with pytest.raises(UserError, match="no scan has the 9 images"):
        one_each(table, "stack", 9, 2, frozenset(), 0)


def test_a_session_goes_on_where_it_stopped(place):
    test = ReaderTest.begin(place, quiz(seed=11))
    test.answer(0, 1, 1.5)
    again = ReaderTest.begin(place, quiz(seed=11))
    assert again.next == 1 and again.session == test.session and again.session.answers[0].seconds == 1.5
    test.answer(0, 2, 9.0)
    assert test.session.answers[0].choice == 1, "an answer stands"
    again.answer(1, 3, 1.0)
    test.answer(1, 0, 1.0)  # another window, which has not seen that answer
    assert [a.choice for a in test.session.answers] == [1, 3]
    with pytest.raises(UserError, match="no answer 4"):
        test.answer(2, 4, 1.0)
    assert ReaderTest.begin(place, quiz(seed=11, reader="r2")).next == 0, "another reader begins anew"
    run_through(again)
    assert again.next is None and again.session.finished


def test_a_file_holds_answers_and_nothing_of_a_patient(place):
    test = ReaderTest.begin(place, quiz(seed=12))
    run_through(test, right=lambda n: n % 2 == 0)
    (path,) = [p for p in place.readers() if p.stem == test.session.quiz.name]
    text = path.read_text()
    held = json.loads(text)
    assert held["quiz"]["seed"] == 12 and held["task"] == "rotation" and held["steps"] == 4 and held["unseen"]
    assert held["chance"] == 0.25 and len(held["answers"]) == 6 and held["began"].endswith("+00:00")
    assert [a["choice"] == a["right"] for a in held["answers"]] == [True, False] * 3
    from medssl.cohort import Cohort

    scans = Cohort.open(place.cohort("toys")).scans()
    assert not any(word in text for column in ("patient", "scan", "exam") for word in (f'"{v}"' for v in scans[column]))
    assert read_session(place, path.stem) == test.session


def test_changed_encoders_and_damaged_files_are_said(place, tmp_path):
    test = ReaderTest.begin(place, quiz(seed=13))
    path = place.reader(test.session.quiz.name)
    path.write_text(json.dumps(test.session.model_dump() | {"key": "other"}))
    with pytest.raises(UserError, match="has changed since"):
        ReaderTest.begin(place, quiz(seed=13))
    path.write_text("{")
    before = len(sessions(place)[0])
    with pytest.raises(UserError, match="damaged"):
        ReaderTest.begin(place, quiz(seed=13))
    assert sessions(place) == (sessions(place)[0], 1)
    path.unlink()
    assert len(sessions(place)[0]) == before and sessions(place)[1] == 0
    with pytest.raises(UserError, match="no such session"):
        read_session(place, "../secret")


def test_names_are_pseudonyms_and_folders_of_the_workspace(place):
    for name in ("", "Dr. Who", "a/b", "x" * 21, "ä"):
        with pytest.raises(UserError, match="pseudonym"):
            quiz(reader=name)
    with pytest.raises(UserError, match="no cohort"):
        ReaderTest.begin(place, quiz(cohort="../toys"))
    with pytest.raises(UserError, match="no encoder 'nothing'"):
        ReaderTest.begin(place, quiz(encoder="nothing"))


def session(right, network, kind="question", chance=0.25, **changes):
    """Answers of which so many first ones are right; of the network's the last ones."""
    count = max(len(right), 1)
    answers = [
        {"choice": int(not ok), "right": 0, "network": None if said is None else int(not said), "seconds": float(n)}
        for n, (ok, said) in enumerate(zip(right, network, strict=True))
    ]
    about = {"task": "rotation", "steps": 10, "sentence": "?", "questions": count, "chance": chance, "unseen": True}
    asked = Quiz(reader="r1", cohort="c", encoder="e", kind=kind, **changes)
    return Session.model_validate({"quiz": asked, "key": "k", "began": "2026-01-01", "answers": answers} | about)


def test_scores_are_those_of_the_textbook():
    found = score(session([True] * 17 + [False] * 3, [False] * 8 + [True] * 12))
    assert found.reader[:3] == (17, 20, 0.85) and found.network[:3] == (12, 20, 0.6)
    z = 1.959964
    middle, half = 0.85 + z**2 / 40, z * np.sqrt(0.85 * 0.15 / 20 + z**2 / 1600)  # Wilson 1927
    low, high = (middle - half) / (1 + z**2 / 20), (middle + half) / (1 + z**2 / 20)
    assert (found.reader.low, found.reader.high) == pytest.approx((low, high), abs=1e-4)
    assert found.p < 1e-6 and found.p_network == pytest.approx(0.2266, abs=1e-4), "8 of 11 that differ"
    assert found.seconds == 9.5
    assert score(session([], [])) is None


def test_sentences_say_what_was_found():
    said = " ".join(sentences(session([True] * 15 + [False] * 5, [True] * 20)))
    assert "right in 15 of 20, 0.750 [" in said and "Guessing would give 0.250 (p < .001" in said
    assert "network was right in 20 of 20" in said and "learned from these patients" not in said
    real = session([True, False, False, False], [None] * 4, "real", 0.5, feedback=True)
    said = " ".join(sentences(real.model_copy(update={"unseen": False})))
    assert "taken for the real one in 3 of 4" in said and "no score" in said
    assert "learned from these patients" in said and "were shown" in said
    assert sentences(session([], [])) == ["No question is answered yet."]
