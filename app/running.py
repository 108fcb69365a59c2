"""Cards of the processes that pages start: how far each is, stop and resume, its log, its error in a sentence."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import parts
import state
import streamlit as st

from medssl.errors import UserError
from medssl.experiment import processes
from medssl.experiment.index import has_index
from medssl.experiment.processes import ACTIVE, Process
from medssl.workspace import Workspace

EVERY_S = 2.0  # between two looks at a running process
DOES = {
    "ingest": "Reading the scans of cohort {}",
    "label": "Adding labels to cohort {}",
    "pretrain": "Pretraining {}",
    "estimate": "Estimating time and memory of {}",
    "run": "Experiment {}",
}
WORDS = {
    "running": "running",
    "stopping": "stopping",
    "elsewhere": "started on another machine",
    "done": "finished",
    "stopped": "stopped",
    "failed": "failed",
    "lost": "interrupted",
}
KINDS = {"done": "helps", "failed": "hurts", "lost": "hurts"}  # the colours of verdicts


def start(place: Workspace, kind: str, about: str, arguments: list[str], config: str | None = None) -> None:
    """Start a process, or keep the sentence that says why not for `trouble`."""
    try:
        processes.start(place, kind, about, arguments, config)
    except UserError as error:
        _note(error)


def trouble() -> None:
    """What the last click could not do, once."""
    problem = st.session_state.pop("trouble", None)
    if problem:
        st.warning(f"{parts.plain(problem.what)} {parts.plain(problem.todo)}")


def card(process: Process, place: Workspace) -> None:
    """One process; redrawn by itself while it runs, and the whole page when it ends."""
    live = process.status in ACTIVE
    st.fragment(_card, run_every=EVERY_S if live else None)(process.name, process.status, place)


def _card(name: str, seen: str, place: Workspace) -> None:
    process = processes.find(place, name)
    status = process.status if process else ""
    if process is None or status != seen:
        st.rerun()
    with st.container(border=True, key=f"card {name}"):
        text, buttons = st.columns([5, 2], vertical_alignment="center")
        with text:
            what = DOES.get(process.kind, "{}").format(process.about)
            mark = f'<span class="m-v {KINDS.get(status, "")}">{WORDS[status]}</span>'
            st.html(f'<div role="status"><strong>{parts.escape(what)}</strong> &nbsp;{mark}</div>')
            st.caption(" · ".join(_facts(process, place)))
        with buttons, st.container(horizontal=True, horizontal_alignment="right"):
            _buttons(process, status)
        what, fix = process.error
        if what:
            parts.verdicts([{"kind": "hurts", "sentence": f"{what} {fix}"}])
        with st.expander("Log and command"):
            st.code(process.log() or "Nothing was said yet.", language=None, wrap_lines=True)
            st.code(process.command, language="bash", wrap_lines=True)


def _facts(process: Process, place: Workspace) -> list[str]:
    """When it began, and how far it is."""
    facts = [f"started {datetime.fromtimestamp(process.begun):%d %B, %H:%M}"]
    if process.status == "elsewhere":
        facts.append(f"look on {process.host}")
    if process.kind == "run" and process.status != "done" and has_index(place.experiment(process.about)):
        found = state.results(process.about)
        if not isinstance(found, state.Problem):
            facts.append(parts.progress(found))
    if process.status in ("running", "stopping"):
        said = process.log(1).strip()
        facts.append(parts.plain(said[:120]) if said else "it begins")
    return facts


def _buttons(process: Process, status: str) -> None:
    key = process.name
    shown = process.kind == "run" and status != "failed" and _has_results(process)
    kind: Literal["primary", "secondary"] = "primary" if status == "done" else "secondary"
    if shown and st.button(
        "Open the curve", key=f"curve {key}", type=kind, on_click=state.choose, args=(process.about,)
    ):
        st.switch_page(st.session_state["pages"]["curve"])
    if process.kind == "pretrain" and status != "failed":
        _look(process, status)
    if status in ("running", "stopping"):
        words = "Stop" if status == "running" else "Stop at once"
        st.button(words, key=f"stop {key}", on_click=process.stop, help="What was done is kept.")
    if status in ("stopped", "failed", "lost"):
        st.button("Resume", key=f"resume {key}", on_click=_resume, args=(process,), help="It goes on where it was.")
    if status not in ACTIVE:
        forget: Any = process.forget
        st.button("Remove", key=f"forget {key}", on_click=forget, help="From this list. What it made stays.")


def _look(process: Process, status: str) -> None:
    """On to what a pretraining shows: how it goes, and once it has ended where it puts the scans."""
    page, words = ("embedding", "See the embedding") if status == "done" else ("pretraining", "Follow it")
    cohort = Path(process.arguments[1]).name
    kind: Literal["primary", "secondary"] = "primary" if status == "done" else "secondary"
    if st.button(
        words, key=f"look {process.name}", type=kind, on_click=state.show_encoder, args=(process.about, cohort)
    ):
        st.switch_page(st.session_state["pages"][page])


def _has_results(process: Process) -> bool:
    place = state.workspace()
    return isinstance(place, Workspace) and has_index(place.experiment(process.about))


def _resume(process: Process) -> None:
    try:
        processes.resume(process)
    except UserError as error:
        _note(error)


def _note(error: UserError) -> None:
    st.session_state["trouble"] = state.problem(error)
