"""The way without labels, on *New run*: pretrain one network on a cohort, then look at its embedding."""

from __future__ import annotations

import compare
import running
import streamlit as st

from medssl.cohort import Cohort
from medssl.experiment.processes import command_line, processes
from medssl.workspace import Workspace

KIND = "pretrain"  # of such a process; it is about the folder of its encoder
USUAL_MIN = 10.0


def form(place: Workspace, cohort: Cohort, first: bool) -> None:
    """Task, time, and the button; `first` where there is no other way to go on."""
    with st.expander("Without labels: pretrain a network and look at its embedding", expanded=first):
        st.caption(
            "The network learns from the scans alone. *Pretraining* then shows how it goes, and *Embedding* which "
            "scans it takes for alike. A curve needs labels."
        )
        known = compare.known_tasks()
        left, right = st.columns([3, 1], gap="medium")
        with left:
            at, key = list(known).index("simclr"), f"task {cohort.name}"
            task = st.selectbox("Task", list(known), at, key=key, format_func=lambda t: f"{t}: {known[t]}")
        with right:
            minutes = st.number_input("Minutes", 0.1, None, USUAL_MIN, 1.0, "%g", key=f"minutes {cohort.name}")
        known_runs = {p.about for p in processes(place) if p.kind == KIND} | {p.name for p in place.encoders()}
        about = compare.unused(f"{cohort.name}-{task}", known_runs)  # a folder holds one run
        arguments = ["pretrain", str(cohort.path), "--task", str(task), "--minutes", f"{minutes:g}"]
        arguments += ["--out", str(place.encoder(about)), "--workspace", str(place.path)]
        st.code(command_line(arguments), language="bash", wrap_lines=True)
        st.button("Pretrain", type="primary", key="pretrain", on_click=_start, args=(place, about, arguments))


def _start(place: Workspace, about: str, arguments: list[str]) -> None:
    running.start(place, KIND, about, arguments)
    st.query_params["run"] = f"{KIND}-{about}"  # its card stands first
