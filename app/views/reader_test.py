"""Reader test: can a person do what a pretext task asks, and is what a network made real?"""

from __future__ import annotations

import json

import parts
import quiz
import state
import streamlit as st

from medssl.errors import MedsslError
from medssl.experiment.runs import Run, runs
from medssl.figures.words import number
from medssl.report.reader_test import (
    Quiz,
    ReaderTest,
    Session,
    quiz_of,
    read_session,
    score,
    sentences,
    sessions,
    share,
)
from medssl.statistics import p_value
from medssl.workspace import Workspace

PAGE = "reader test"
KINDS = {"question": "The task's own question", "real": "Which one is real?"}
COUNTS = ["10", "20", "30", "50", "100"]


def show() -> None:
    st.title("Reader test", anchor=False)
    place = state.workspace()
    if isinstance(place, state.Problem):
        parts.empty(place)
        return
    name = st.session_state.get("session") or st.query_params.get("session")
    if name is None:
        _setup(place)
        return
    st.session_state["session"], st.query_params["session"] = name, name
    try:
        test = _test(place, read_session(place, name).quiz)
    except MedsslError as error:
        parts.empty(state.problem(error))
        st.button("Back", on_click=_leave)
        return
    test.refresh()
    if not quiz.show(test, _leave):
        _result(place, test.session)


# Before: what to ask, of whom


def _setup(place: Workspace) -> None:
    st.query_params.pop("session", None)
    st.markdown(
        "Two quizzes made from your own scans. **The task’s own question**: can a person do what the network learns to "
        "do? **Which one is real?**: a real image stands beside one that a network painted."
    )
    able = {run.name: run for run in runs(place) if run.checkpoint.is_file() and run.task}
    cohorts = [path.name for path in place.cohorts()]
    if not able or not cohorts:
        what = "finished pretraining run" if cohorts else "cohort"
        todo = "`medssl pretrain COHORT --task rotation`" if cohorts else "`medssl ingest`"
        parts.empty(
            state.Problem(f"This workspace has no {what} yet.", f"Make one on the page *New run*, or with {todo}.")
        )
        _sessions(place)
        return
    kind = _choice("kind", list(KINDS), "question")
    kind = str(st.segmented_control("Quiz", list(KINDS), key=kind, format_func=lambda k: KINDS[k], required=True))
    state.keep(PAGE, "kind", kind, "question")
    fitting = _fitting(kind, able)
    if not fitting:
        what = "asks something that a person can answer" if kind == "question" else "paints images"
        todo = "rotation, jigsaw, relative_patch or simclr" if kind == "question" else "inpainting, colorization or mae"
        parts.empty(
            state.Problem(f"No network of this workspace {what}.", f"Pretrain one by {todo} on the page *New run*.")
        )
    else:
        _form(place, kind, fitting, cohorts)
    _sessions(place)


@st.cache_data(show_spinner="Looking at the tasks …")
def _tasks(kind: str) -> frozenset[str]:
    """Names of the tasks with such questions."""
    from medssl.pretext import tasks

    known = tasks().items()
    return frozenset(name for name, task in known if (task.question if kind == "question" else task.makes_images()))


def _fitting(kind: str, able: dict[str, Run]) -> dict[str, Run]:
    names = _tasks(kind)
    return {name: run for name, run in able.items() if run.task in names}


def _choice(key: str, options: list[str], default: str) -> str:
    return state.choice(PAGE, key, options, default)


def _form(place: Workspace, kind: str, fitting: dict[str, Run], cohorts: list[str]) -> None:
    first = next(iter(fitting))
    left, right = st.columns(2, gap="medium")
    with left:
        key = _choice("encoder", list(fitting), first)
        encoder = str(st.selectbox("Network", list(fitting), key=key, format_func=lambda n: f"{n} ({fitting[n].task})"))
    own = fitting[encoder].cohort if fitting[encoder].cohort in cohorts else cohorts[0]
    with right:
        cohort = str(st.selectbox("Scans of", cohorts, key=state.choice(f"{PAGE} {encoder}", "scans", cohorts, own)))
    state.keep(PAGE, "encoder", encoder, first)
    state.keep(f"{PAGE} {encoder}", "scans", cohort, own)
    who, many, seed = st.columns([2, 2, 1], gap="medium")
    with who:
        reader = st.text_input("Reader", key="reader", placeholder="r1", max_chars=20, help="A pseudonym, not a name.")
    with many:
        count = str(st.segmented_control("Questions", COUNTS, key=_choice("questions", COUNTS, "20"), required=True))
    with seed:
        seeds = [str(n) for n in range(100)]
        chosen = str(st.selectbox("Seed", seeds, key=_choice("seed", seeds, "0"), help="The same seed, the same quiz."))
    state.keep(PAGE, "questions", count, "20")
    state.keep(PAGE, "seed", chosen, "0")
    help_ = "A reader learns from it, and the score then holds what was learned."
    feedback = st.toggle("Show the right answer after each question", key="feedback", help=help_)
    if st.button("Begin", type="primary", key="begin"):
        further = {"kind": kind, "count": int(count), "seed": int(chosen), "feedback": feedback}
        try:
            test = _test(place, quiz_of(reader.strip(), cohort, encoder, **further))
        except MedsslError as error:
            parts.empty(state.problem(error))
            return
        _enter(test.session.quiz.name)
        st.rerun()


def _enter(name: str) -> None:
    st.session_state["session"] = name


def _leave() -> None:
    st.session_state["session"] = None
    quiz.forget()
    st.query_params.pop("session", None)


def _test(place: Workspace, asked: Quiz) -> ReaderTest:
    """The session of a quiz and its questions, made once for each state of the files."""
    files = place.encoder(asked.encoder) / "checkpoint.safetensors", place.cohort(asked.cohort) / "catalog.sqlite"
    stamp = tuple(f.stat().st_mtime_ns if f.is_file() else 0 for f in files)
    return _begun(str(place.path), asked.model_dump_json(), stamp)


@st.cache_resource(max_entries=16, show_spinner="Making the questions …")
def _begun(workspace: str, quiz: str, stamp: tuple) -> ReaderTest:
    """`stamp` is part of the key, nothing more."""
    return ReaderTest.begin(Workspace(workspace), Quiz.model_validate_json(quiz))


# After: scores


def _result(place: Workspace, session: Session) -> None:
    about = session.quiz
    network = f"{session.task}, {session.steps:,} steps"
    st.caption(f"reader {about.reader} · {network} · cohort {about.cohort} · seed {about.seed}")
    st.subheader(session.sentence, anchor=False)
    for sentence in sentences(session):
        st.markdown(parts.plain(sentence))
    with st.container(horizontal=True):
        text = json.dumps(session.model_dump(), indent=1, sort_keys=True)
        file = f"reader-test-{about.name}.json"
        st.download_button("Result file, JSON", text, file, "application/json", on_click="ignore")
        st.button("New test", on_click=_leave, type="primary")
    _sessions(place)


def _sessions(place: Workspace) -> None:
    """All sessions of the workspace; scores of finished ones alone, so that nobody learns from them on the way."""
    found, damaged = sessions(place)
    if damaged:
        st.caption(f"{damaged} files of reader tests are damaged and left out.")
    if not found:
        return
    st.header("Sessions", anchor=False)
    open_ = {s.quiz.name: s for s in found if not s.finished}
    if open_:
        with st.container(horizontal=True):
            for name, session in open_.items():
                label = f"Go on: {session.quiz.reader}, {session.task}, {len(session.answers)} of {session.questions}"
                st.button(label, key=f"go on {name}", on_click=_enter, args=(name,))
    done = [s for s in found if s.finished]
    if done:
        heads = ["Reader", "Task", "Quiz", "Scans", "Seed", "Reader right", "By chance", "p", "Network right", "s"]
        parts.table(heads, [_row(s) for s in done], words=4)
        st.caption("Shares with 95 % intervals (Wilson). p: that the reader guesses. s: median seconds of an answer.")


def _row(session: Session) -> list[str]:
    asked, found = session.quiz, score(session)
    assert found is not None
    network = "no judge" if found.network is None else share(found.network)
    about = [asked.reader, session.task, KINDS[asked.kind], asked.cohort, str(asked.seed)]
    return [*about, share(found.reader), number(session.chance), p_value(found.p), network, f"{found.seconds:.1f}"]


show()
