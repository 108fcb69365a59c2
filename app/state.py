"""What pages share: the workspace, its experiments, and choices that live in the URL."""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from medssl.errors import MedsslError, UserError
from medssl.experiment import Results
from medssl.workspace import Workspace

LOG = logging.getLogger("medssl.app")
WATCHED = ("config.yaml", "facts.json", "budgets.json", "pretrained.json", "jobs.sqlite", "jobs.sqlite-wal", "results")


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


def choose_experiment() -> None:
    """The chooser in the sidebar; its choice stands in the URL, so that a view can be sent to a colleague."""
    names, place = experiments(), workspace()
    if names:
        asked = st.query_params.get("experiment")
        if asked and asked not in names and "experiment" not in st.session_state:
            st.warning("This link names an experiment that is not in this workspace. Another one is shown.")
        if st.session_state.get("experiment") not in names:
            st.session_state["experiment"] = asked if asked in names else names[0]
        st.selectbox("Experiment", names, key="experiment")
        st.query_params["experiment"] = st.session_state["experiment"]
    if isinstance(place, Workspace):
        st.caption(f"Workspace `{place.path.name}`", help=str(place.path))


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
        found = _open(str(folder), _signature(folder))
        found.jobs(), found.notes  # what every page shows: a damaged index is noticed here
        return found
    except MedsslError as error:
        return Problem(_sentence(error), error.fix)
    except Exception:  # a damaged file can fail in any way, and a page must still say so in a sentence
        LOG.exception("experiment %s cannot be read", name)
        return Problem(
            "The files of this experiment cannot be read: they are damaged, or written by another version.",
            "Run its config again with `medssl run`. Jobs that are done are kept.",
        )


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
        value = st.query_params[key].split(",") if several else st.query_params[key]
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


@st.cache_resource(max_entries=64, show_spinner="Reading results …")
def _open(folder: str, signature: tuple) -> Results:
    """Opened once for each state of its files: `signature` is the key, nothing more."""
    return Results.open(folder)


def _signature(folder: Path) -> tuple:
    return tuple((folder / f).stat().st_mtime_ns if (folder / f).exists() else 0 for f in WATCHED)


def _changed(folder: Path) -> int:
    return max(_signature(folder))


def problem(error: MedsslError) -> Problem:
    """An error as a page shows it."""
    return Problem(_sentence(error), error.fix)


def _sentence(error: MedsslError) -> str:
    text = error.what.strip().rstrip(".")
    return text[:1].upper() + text[1:] + "."
