"""What the embedding page computes, each thing once: features with a progress bar, axes, readings, map, clusters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import parts
import state
import streamlit as st

from medssl.cohort import Cohort
from medssl.experiment import embedding as room
from medssl.workspace import Workspace

LONG_S = 30.0  # from which on somebody must say that it shall be computed


def signature(folder: Path) -> tuple[int, ...]:
    """Changes when scans, labels or the split of a cohort do."""
    files = ("catalog.sqlite", "catalog.sqlite-wal", "split.json")
    return tuple((folder / f).stat().st_mtime_ns if (folder / f).exists() else 0 for f in files)


def embedded(
    source: room.Source, cohort: Cohort, signature: tuple[int, ...], workspace: Workspace
) -> room.Embedded | None:
    """The features; computed now where that is short or somebody said so, else None after saying how long it takes.

    Raises:
        UserError: the source's View cannot draw these scans.
    """
    asked = (str(cohort.path), signature, source.identity, source.view.model_dump_json())
    task = _task(*asked, cohort, source, workspace)
    if not task.finished:
        going = f"compute {task.key}"
        if going not in st.session_state:
            left = _estimate(task.key, task)
            if left > LONG_S:
                _ask(task, left, going)
                return None
        _compute(task)
    return _read(task.key, task)


def _ask(task: room.Task, left: float, going: str) -> None:
    share = f" {100 * task.done / len(task.samples):.0f} % are there from an earlier time." if task.done else ""
    parts.empty(
        state.Problem(
            f"The features of these {len(task.samples):,} samples are not computed yet.",
            f"It takes about {span(left)} on this machine, once; then they are kept.{share} Should you leave this page "
            "meanwhile, it goes on where it was when you come back.",
        )
    )
    st.button("Compute them", key=f"start {task.key}", on_click=lambda: st.session_state.update({going: True}))


def _compute(task: room.Task) -> None:
    bar = st.progress(0.0, "Computing features …")

    def tell(done: int, of: int, left: float) -> None:
        words = f"Computing features: {done:,} of {of:,} samples"
        bar.progress(done / of, f"{words}, about {span(left)} left" if left > 1 else words)

    room.embed_scans(task, tell)
    bar.empty()


def span(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@st.cache_resource(max_entries=4, show_spinner="Reading the cohort …")
def cohort(folder: str, signature: tuple[int, ...]) -> Cohort:
    """Opened once for each state of its files, so that its catalog is read once."""
    return Cohort.open(folder)


@st.cache_resource(max_entries=16, show_spinner="Drawing the scans as the encoder sees them, once …")
def _task(
    folder: str,
    signature: tuple[int, ...],
    identity: str,
    view: str,
    _cohort: Cohort,
    _source: room.Source,
    _workspace: Workspace,
) -> room.Task:
    return room.prepare(_source, _cohort, _workspace)


@st.cache_data(max_entries=64, show_spinner="Measuring how long this takes …")
def _estimate(key: str, _task: room.Task) -> float:
    return room.estimate(_task)


@st.cache_resource(max_entries=8, show_spinner=False)
def _read(key: str, _task: room.Task) -> room.Embedded:
    return room.embed_scans(_task)


@st.cache_resource(max_entries=8, show_spinner="Finding the principal axes …")
def reduced(key: str, _embedded: room.Embedded) -> np.ndarray:
    return room.principal(_embedded.values)


@st.cache_resource(max_entries=8, show_spinner="Reading the catalog …")
def facts(folder: str, signature: tuple[int, ...], key: str, _cohort: Cohort, _embedded: room.Embedded) -> pd.DataFrame:
    return room.facts(_cohort, _embedded.scans)


@st.cache_resource(max_entries=32, show_spinner="Asking what the encoder knows …")
def readings(
    folder: str, signature: tuple[int, ...], key: str, _reduced: np.ndarray, _table: pd.DataFrame
) -> list[room.Reading]:
    return room.read_all(_reduced, _table)


@st.cache_resource(max_entries=32, show_spinner=False)
def same_patient(
    folder: str, signature: tuple[int, ...], key: str, _reduced: np.ndarray, _table: pd.DataFrame
) -> tuple[float, float]:
    return room.same_patient(_reduced, _table[room.PATIENT])


def projected(key: str, how: str, reduced: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """(len(shown), 2); UMAP is fitted to the scans that are drawn."""
    return _projected(key, how, len(shown), reduced, shown)


@st.cache_resource(max_entries=16, show_spinner="Drawing the map …")
def _projected(key: str, how: str, count: int, _reduced: np.ndarray, _shown: np.ndarray) -> np.ndarray:
    return room.project(_reduced[_shown], how) if how == "umap" else room.project(_reduced, how)[_shown]


@st.cache_resource(max_entries=32, show_spinner="Finding clusters …")
def cluster_of(key: str, count: int, _reduced: np.ndarray) -> np.ndarray:
    return room.clusters(_reduced, count)
