"""The workspace at a glance: what runs, what each finished experiment says, and the cohorts that are there."""

from __future__ import annotations

import parts
import running
import state
import streamlit as st

from medssl.experiment import Results, processes
from medssl.experiment.processes import ACTIVE
from medssl.experiment.runs import Run, runs
from medssl.ingest import is_complete
from medssl.workspace import holder

EVERY_S = 5  # how often what runs is looked at again
LONGEST = 220  # characters of an error that are shown


def show() -> None:
    st.title("Home", anchor=False)
    place = state.workspace()
    if isinstance(place, state.Problem):
        parts.empty(place)
        return
    text, button = st.columns([6, 1], vertical_alignment="center")
    with text:
        st.caption("What runs, what each experiment found, and the cohorts.")
    with button:
        if st.button("New run", type="primary", key="new run", width="stretch"):
            st.switch_page(st.session_state["pages"]["new"])
    names, cohorts = state.experiments(), state.cohorts()
    going = [name for name in names if holder(place.experiment(name))]
    training = [run for run in runs(place) if run.state == "running"]
    reading = [p for p in processes.processes(place) if p.kind in ("ingest", "label") and p.status in ACTIVE]
    if going or training or reading:
        st.header("Running now", anchor=False)
    if going or training:
        st.fragment(_running, run_every=EVERY_S)(going, training)
    for process in reading:
        running.card(process, place)
    st.header("Experiments", anchor=False)
    if not names:
        parts.no_experiments()
    for name in names:
        if name not in going:
            _card(name)
    if names and not (going or training or reading):
        st.caption("Nothing is running now.")
    st.header("Cohorts", anchor=False)
    if not cohorts:
        parts.no_cohorts()
    for name in cohorts:
        _cohort(name)


def _running(names: list[str], training: list[Run]) -> None:
    """How far each one is; looked at again by itself while the page is open."""
    place = state.workspace()
    if isinstance(place, state.Problem) or not all(holder(place.experiment(name)) for name in names):
        st.rerun()  # one has ended: its verdict belongs below
    if any(run.state != "running" for run in training):
        st.rerun()
    for name in names:
        found = state.results(name)
        with st.container(border=True):
            if isinstance(found, state.Problem):
                st.subheader(name, anchor=False)
                st.markdown(found.what)
                continue
            st.subheader(parts.plain(found.title), anchor=False)
            jobs, _ = found.progress()
            if jobs:
                over = sum(jobs.values()) - jobs.get("planned", 0)
                st.progress(over / sum(jobs.values()), text=f"`{name}` · {parts.progress(found)}")
            else:
                st.caption(f"`{name}` · scans, split and pretraining come first; jobs are counted after that")
    for run in training:
        with st.container(border=True):
            st.subheader(f"Pretraining by {parts.plain(run.task or 'a task')}", anchor=False)
            log = run.history()
            step = int(log["step"].iloc[-1]) if len(log) else 0
            words = f"`{run.name}` · cohort {parts.plain(run.cohort)} · {step:,} of {run.steps:,} steps"
            st.progress(min(1.0, step / max(1, run.steps)), text=words)


def _card(name: str) -> None:
    found = state.results(name)
    with st.container(border=True):
        text, button = st.columns([6, 1], vertical_alignment="center")
        with text:
            if isinstance(found, state.Problem):
                st.subheader(name, anchor=False)
                st.markdown(found.what)
                if found.todo:
                    st.caption(found.todo)
                return
            st.subheader(parts.plain(found.title), anchor=False)
            st.caption(f"`{name}` · cohort {parts.plain(found.settings.cohort.name)} · {parts.progress(found)}")
            problem = state.tables(found)
            if problem:
                st.markdown(problem.what)
            else:
                parts.verdicts(parts.main_verdict(found))
            _unfinished(found)
        with button:
            if st.button("Open", key=f"open {name}", on_click=state.choose, args=(name,), width="stretch"):
                st.switch_page(st.session_state["pages"]["curve"])


def _unfinished(found: Results) -> None:
    """A run that has stopped before its end: why, and how it goes on."""
    jobs, error = found.progress()
    if error:
        first = error.splitlines()[0]
        st.markdown(parts.plain("The first failure: " + first[:LONGEST] + ("…" if len(first) > LONGEST else "")))
    if jobs and set(jobs) != {"done"}:
        st.caption(f"It is not running now. {parts.AGAIN}")


def _cohort(name: str) -> None:
    found = state.cohort(name)
    counted = found if isinstance(found, state.Problem) else state.summary(found)
    with st.container(border=True):
        text, button = st.columns([6, 1], vertical_alignment="center")
        with text:
            st.subheader(name, anchor=False)
            if isinstance(counted, state.Problem):
                st.markdown(counted.what)
                st.caption(counted.todo)
                return
            kinds = ", ".join(part.name for part in counted.parts[:4]) or "no scans yet"
            named = ", ".join(f"`{target}`" for target in counted.values)
            labels = f"labels: {named}" if named else "no labels"
            end = "" if isinstance(found, state.Problem) or is_complete(found.path) else " · **not read to the end**"
            numbers = f"{counted.scans:,} scans of {counted.patients:,} patients"
            st.caption(f"{numbers} · {parts.plain(kinds)} · {labels}{end}")
        with button:
            if st.button("Open", key=f"cohort {name}", on_click=state.choose_cohort, args=(name,), width="stretch"):
                st.switch_page(st.session_state["pages"]["cohort"])


show()
