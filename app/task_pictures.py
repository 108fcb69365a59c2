"""What a run's task sees of real scans and what its network answers: originals beside reconstructions, and heat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import attention
import parts
import pictures
import state
import streamlit as st

from medssl.cohort import Cohort
from medssl.errors import MedsslError
from medssl.experiment.runs import Run
from medssl.workspace import Workspace

ROWS, SEEDS = 4, 50  # scans that are shown, and different choices of them
Drawn = tuple[str, int, list[pictures.Panels]]  # what the task is, steps, one row of pictures a scan


def show(page: str, place: Workspace, chosen: Sequence[Run], names: Mapping[str, str]) -> None:
    """Pictures of real scans, for one of the runs; other scans are a click away."""
    able = {run.name: run for run in chosen if run.checkpoint.is_file()}
    if not able:
        todo = "A run leaves its weights when it is finished."
        parts.empty(state.Problem("None of these runs has finished, so no network can answer yet.", todo))
        return
    cohorts = [path.name for path in place.cohorts()]
    if not cohorts:
        parts.empty(state.Problem("This workspace has no cohort to show scans of.", "Make one on the page *New run*."))
        return
    left, middle, right = st.columns([3, 2, 1], gap="medium", vertical_alignment="bottom")
    with left:
        key = state.choice(page, "task", list(able), next(iter(able)))
        name = str(st.selectbox("Network", list(able), key=key, format_func=lambda n: names[n]))
    run = able[name]
    own = run.cohort if run.cohort in cohorts else cohorts[0]
    with middle:
        key = state.choice(f"{page} {name}", "scans", cohorts, own)
        cohort = str(st.selectbox("Scans of", cohorts, key=key))
    seeds = [str(seed) for seed in range(SEEDS)]
    key = state.choice(page, "seed", seeds, "0")
    with right:
        st.button("Other scans", on_click=_other, args=(key,), width="stretch")
    seed = st.session_state[key]
    state.keep(page, "task", name, next(iter(able)))
    state.keep(f"{page} {name}", "scans", cohort, own)
    state.keep(page, "seed", seed, "0")
    made = _shown(place, run, cohort, int(seed))
    if isinstance(made, state.Problem):
        parts.empty(made)
        return
    line, steps, drawn = made
    st.caption(
        f"{line[:1].upper()}{line[1:]}. The network after {steps:,} steps, on scans that it may have learned from."
    )
    pictures.rows(drawn)
    attention.of_task(run, place.cohort(cohort), int(seed), _stamp(place, run, cohort))
    attention.of_class(page, run, names, int(seed))


def _other(key: str) -> None:
    st.session_state[key] = str((int(st.session_state[key]) + 1) % SEEDS)


def _shown(
    place: Workspace, run: Run, cohort: str, seed: int
) -> tuple[str, int, list[pictures.Panels]] | state.Problem:
    try:
        return _drawn(str(run.checkpoint), str(place.cohort(cohort)), seed, _stamp(place, run, cohort))
    except MedsslError as error:
        return state.problem(error)
    except Exception:  # a damaged file can fail in any way, and a page must still say so in a sentence
        state.LOG.exception("the task of %s cannot be shown", run.name)
        return state.Problem(
            "The task of this run cannot be shown: its checkpoint or the cohort is damaged, or of another version.",
            "Pretrain it again with this version of medssl.",
        )


def _stamp(place: Workspace, run: Run, cohort: str) -> tuple[int, int]:
    """Changes with the checkpoint and with the cohort."""
    return run.checkpoint.stat().st_mtime_ns, (place.cohort(cohort) / "catalog.sqlite").stat().st_mtime_ns


@st.cache_resource(max_entries=64, show_spinner="Drawing scans …")
def _drawn(checkpoint: str, cohort: str, seed: int, stamp: tuple) -> Drawn:
    """Drawn once for each state of the files: `stamp` is part of the key, nothing more."""
    from medssl.pretext import task_class
    from medssl.training import show as draw

    found = draw(Cohort.open(cohort), checkpoint=Path(checkpoint), rows=ROWS, seed=seed)
    return task_class(found.task).line, found.steps, [pictures.Panels(r.panels, r.captions) for r in found.rows]
