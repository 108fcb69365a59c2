"""What pages share: the workspace, its experiments, and choices that live in the URL."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from medssl.cohort import Cohort
from medssl.cohort.summary import Summary, summarize
from medssl.errors import MedsslError, UserError
from medssl.experiment import Results
from medssl.workspace import Workspace, holder

LOG = logging.getLogger("medssl.app")
WATCHED = ("config.yaml", "facts.json", "budgets.json", "pretrained.json", "jobs.sqlite", "jobs.sqlite-wal", "results")
FRESH_S = 30  # while an experiment runs its tables are at most this old; they are not computed again on every click


@dataclass(frozen=True)
class Problem:
    """Why something cannot be shown, in a sentence, and what to do next."""

    what: str
    todo: str = ""


def workspace() -> Workspace | Problem:
    """From `--workspace DIR` or `DIR` after `--`, else MEDSSL_WORKSPACE, else ./medssl_workspace."""
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    options.add_argument("named", nargs="?")
    options.add_argument("--workspace")
    options.add_argument("--folder", action="append")  # see places.listed
    given = options.parse_known_args(sys.argv[1:])[0]
    try:
        return Workspace(given.workspace or given.named)
    except UserError as error:
        return Problem(error.what.capitalize() + ".", error.fix)


def experiments() -> list[str]:
    """Names of the workspace's experiments, the one that changed last first."""
    place = workspace()
    if isinstance(place, Problem):
        return []
    return [p.name for p in sorted(place.experiments(), key=_changed, reverse=True)]


def choose_experiment(shown: bool) -> None:
    """The chooser in the sidebar; its choice stands in the URL, so that a view can be sent to a colleague.

    Args:
        shown: false on pages that show no experiment; the choice is kept for the others.
    """
    names, place = experiments(), workspace()
    if names:
        asked = st.query_params.get("experiment")
        if asked and asked not in names and "experiment" not in st.session_state:
            st.warning("This link names an experiment that is not in this workspace. Another one is shown.")
        kept = st.session_state.get("experiment")
        kept = kept if kept in names else asked if asked in names else names[0]
        st.session_state["experiment"] = kept  # said anew each time, else Streamlit forgets it on pages without chooser
        if shown:
            st.selectbox("Experiment", names, key="experiment")
            st.query_params["experiment"] = st.session_state["experiment"]
    if isinstance(place, Workspace):
        st.caption(f"Workspace  \n`{place.path.name}`", help=str(place.path))


def choose(name: str) -> None:
    """Make `name` the chosen experiment (for a button's `on_click`)."""
    st.session_state["experiment"] = name


def chosen() -> str | None:
    return st.session_state.get("experiment") if experiments() else None


def results(name: str) -> Results | Problem:
    """The experiment, or why it cannot be read. Read again only when its files change."""
    place = workspace()
    if isinstance(place, Problem):
        return place
    folder = place.experiment(name)
    try:
        return _open(str(folder), _signature(folder))
    except MedsslError as error:
        return Problem(_sentence(error), error.fix)
    except Exception:  # a damaged file can fail in any way, and a page must still say so in a sentence
        LOG.exception("experiment %s cannot be read", name)
        return Problem(
            "The files of this experiment cannot be read: they are damaged, or written by another version.",
            "Run its config again with `medssl run`. Jobs that are done are kept.",
        )


def once(found: Results, what: Any, make: Callable[[], Any]) -> Any:
    """Something about an experiment that takes long to find out, found out once for each state of its files."""
    return _once(make, str(found.path), what, _signature(found.path))


def cohorts() -> list[str]:
    """Names of the workspace's cohorts."""
    place = workspace()
    return [] if isinstance(place, Problem) else [folder.name for folder in place.cohorts()]


def choose_cohort(name: str) -> None:
    """Make `name` the cohort that the pages on cohorts and embeddings show (for a button's `on_click`)."""
    st.session_state["kept cohort"] = st.session_state["kept cohort:embedding"] = name


def show_encoder(encoder: str, cohort: str) -> None:
    """Make this encoder what the pages on pretraining and embedding show (for a button's `on_click`)."""
    choose_cohort(cohort)
    st.session_state[f"kept encoder:{cohort}"] = encoder
    st.session_state["kept runs:pretraining"] = [encoder]


def chosen_cohort() -> str | None:
    """The chooser on the page of cohorts; its choice stands in the URL. None where there is no cohort."""
    names, asked = cohorts(), st.query_params.get("cohort")
    if not names:
        return None
    found = results(chosen() or "") if chosen() else None
    own = found.settings.cohort.name if isinstance(found, Results) else ""
    kept = st.session_state.get("kept cohort")
    default = next(name for name in (kept, own, names[0]) if name in names)
    if asked and asked not in names:
        st.warning("This link names a cohort that is not in this workspace. Another one is shown.")
    key, forget = linked("cohort", names, default), ("scan", "at", "page", "finding", "modality", "vendor", "label")
    name = st.selectbox("Cohort", names, key=key, on_change=link, args=("cohort", "", forget), width=360)
    choose_cohort(name)
    st.query_params["cohort"] = name
    return name


def cohort(name: str) -> Cohort | Problem:
    """The cohort, or why it cannot be read."""
    place = workspace()
    if isinstance(place, Problem):
        return place
    try:
        return Cohort.open(place.cohort(name))
    except MedsslError as error:
        return Problem(_sentence(error), error.fix)


def summary(found: Cohort) -> Summary | Problem:
    """What the cohort is made of, counted once for each state of its catalog; or why it cannot be counted."""
    try:
        return once_of(found, "summary", lambda: summarize(found))
    except MedsslError as error:
        return Problem(_sentence(error), error.fix)
    except Exception:
        LOG.exception("cohort %s cannot be read", found.name)
        return Problem("The catalog of this cohort cannot be read: it is damaged.", "Ingest its source again.")


def once_of(found: Cohort, what: Any, make: Callable[[], Any]) -> Any:
    """Something about a cohort that takes long to find out, found out once for each state of its catalog and check."""
    files = ("catalog.sqlite", "check.json", "split.json")
    return _once(make, str(found.path), what, tuple(_mtime(found.path / file) for file in files))


def tables(found: Results) -> Problem | None:
    """None where scores can be shown; else why not (nothing finished yet, a damaged evidence file)."""
    try:
        counts, scores = found.label_counts(), found.scores()
        found.differences(), found.verdicts()
    except MedsslError as error:
        return Problem(_sentence(error), error.fix)
    except Exception:
        LOG.exception("results of %s cannot be read", found.name)
        return Problem(
            "The results of this experiment cannot be read: a file is damaged.",
            "Run its config again with `medssl run`. Jobs that are done are kept.",
        )
    if not counts or scores.empty:
        return Problem("This experiment has no results yet.", "Run its config again with `medssl run`.")
    return None


def choice(name: str, key: str, options: list[str], default: Any) -> str:
    """Key of a widget whose value survives a change of page and stands in the URL; call before the widget is made.

    Args:
        name: the experiment, since its choices are its own.
        key: of the choice: also its name in the URL.
        options: what may be chosen.
        default: one of them, or a list of several where more than one may be chosen.
    """
    place, several = f"{key}:{name}", isinstance(default, list)
    value = st.session_state.get(place, st.session_state.get(f"kept {place}"))
    if value is None and key in st.query_params:
        value = [v for v in st.query_params[key].split(",") if v] if several else st.query_params[key]
    fits = set(value) <= set(options) if several and value is not None else value in options
    st.session_state[place] = value if fits else default
    return place


def keep(name: str, key: str, value: Any, default: Any) -> None:
    """Remember a choice beyond its page, and show it in the URL where it is not the default."""
    st.session_state[f"kept {key}:{name}"] = value
    if value == default:
        st.query_params.pop(key, None)
    else:
        st.query_params[key] = ",".join(value) if isinstance(value, list) else value


def linked(key: str, options: list[Any], default: Any) -> str:
    """Key of a widget whose value lives in the URL alone; call before the widget is made, with `on_change=link`.

    Args:
        key: also its name in the URL.
        options: what may be chosen; for numbers (smallest, largest).
        default: one of them; it is not written into the URL.
    """
    place, asked = f"linked {key}", st.query_params.get(key)
    if isinstance(default, bool):
        value: Any = default if asked not in ("0", "1") else asked == "1"
    elif isinstance(default, int):
        whole = asked is not None and asked.isdecimal()
        value = min(max(int(asked or 0), options[0]), options[-1]) if whole else default
    else:
        value = asked if asked in options else default
    st.session_state[place] = value
    return place


def link(key: str, default: Any, forget: tuple[str, ...] = ()) -> None:
    """Write a linked widget's value into the URL; `forget` are choices that no longer fit then."""
    value = st.session_state.get(f"linked {key}")
    value = default if value is None else value
    go({key: None if value == default else str(int(value)) if isinstance(value, bool) else str(value)})
    go(dict.fromkeys(forget))


def go(to: dict[str, str | None]) -> None:
    """Set these parts of the URL, or take them out (None); for a button's `on_click`."""
    for key, value in to.items():
        if value is None:
            st.query_params.pop(key, None)
        else:
            st.query_params[key] = value


@st.cache_resource(max_entries=64, show_spinner="Reading results …")
def _open(folder: str, signature: tuple) -> Results:
    """Opened once for each state of its files: `signature` is the key, nothing more."""
    found = Results.open(folder)
    found.jobs(), found.notes  # what every page shows: a damaged index is noticed here
    return found


@st.cache_data(max_entries=256, show_spinner=False)
def _once(_make: Callable[[], Any], *key: Any) -> Any:
    return _make()


def _signature(folder: Path) -> tuple:
    if holder(folder):
        return (_mtime(folder / "config.yaml"), int(time.time() // FRESH_S))
    return tuple(_mtime(folder / file) for file in WATCHED)


def _changed(folder: Path) -> int:
    return max(_mtime(folder / file) for file in WATCHED)


def _mtime(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def problem(error: MedsslError) -> Problem:
    """An error as a page shows it."""
    return Problem(_sentence(error), error.fix)


def _sentence(error: MedsslError) -> str:
    text = error.what.strip().rstrip(".")
    return text[:1].upper() + text[1:] + "."
