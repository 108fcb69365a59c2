"""What the prediction page reads: units with their scores, their pictures, and heat from a model fitted again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import state
import streamlit as st

from medssl.cohort import Cohort, Samples
from medssl.cohort.cohort import UNIT_COLUMN
from medssl.errors import MedsslError
from medssl.experiment import Results, saliency
from medssl.statistics import units as statistics


@dataclass(frozen=True)
class Pictured:
    """A cohort, the samples that an arm saw of it, and the numbers of each unit's samples."""

    cohort: Cohort
    samples: Samples
    places: dict[str, np.ndarray]

    def middle(self, unit: str) -> int:
        return saliency.middle_sample(self.places[unit])


def evidence_problem(found: Results) -> state.Problem | None:
    """None where scores of units can be shown, else why not."""
    try:
        if not found.arrays.scores:
            return state.Problem("This experiment has no results yet.", "Run its config again with `medssl run`.")
        return None
    except MedsslError as error:
        return problem_of(error)
    except Exception:
        state.LOG.exception("evidence of %s cannot be read", found.name)
        return state.Problem(
            "The results of this experiment cannot be read: a file is damaged.",
            "Run its config again with `medssl run`. Jobs that are done are kept.",
        )


def problem_of(error: MedsslError) -> state.Problem:
    text = error.what.strip().rstrip(".")
    return state.Problem(f"{text[:1].upper()}{text[1:]}.", error.fix)


def table(found: Results, arm: str, budget: Any) -> pd.DataFrame:
    """`unit_scores` with `spread`, the range over draws."""
    frame = statistics.unit_scores(found.arrays, arm, budget)
    return frame.assign(spread=frame["high"] - frame["low"])


def errors(found: Results, arm: str, budget: Any, cls: str) -> tuple[pd.DataFrame, pd.DataFrame, float, pd.DataFrame]:
    """Confusion, ROC and the area under it, and calibration; computed once."""
    return _errors(str(found.path), _stamp(found), arm, str(budget), cls, found, budget)


def _stamp(found: Results) -> tuple[int, ...]:
    """Changes when a job is done."""
    files = ("config.yaml", "jobs.sqlite", "jobs.sqlite-wal", "results")
    return tuple((found.path / f).stat().st_mtime_ns if (found.path / f).exists() else 0 for f in files)


def pictured(found: Results, arm: str) -> Pictured | state.Problem:
    """Pictures of the units as the arm saw them, or why there are none."""
    config = found.settings
    size = config.arms[arm].size
    view = config.view.model_copy(update={"size": size}) if size else config.view
    folder = found.cohort_folder.resolve()
    try:
        if not (folder / "catalog.sqlite").is_file():
            return state.Problem("The cohort of this experiment is not there any more, so there are no pictures.")
        changed = (folder / "catalog.sqlite").stat().st_mtime_ns
        return _pictured(str(folder), changed, view.model_dump_json(), config.target.unit, view)
    except MedsslError as error:
        return problem_of(error)
    except Exception:
        state.LOG.exception("the scans of %s cannot be drawn", found.name)
        return state.Problem(
            "The cohort of this experiment cannot be read: a file is damaged.", "Ingest its source again."
        )


def heat(
    found: Results, arm: str, budget: Any, unit: str, cls: str, cohort: Cohort
) -> tuple[saliency.Heat, str] | state.Problem | None:
    """Heat for a class and which model it is of; None while nobody has said that the model shall be fitted again."""
    jobs = found.jobs()
    mine = jobs[(jobs["arm"] == arm) & (jobs["budget"].astype(str) == str(budget))]
    seconds = float(mine["seconds"].median()) if len(mine) and mine["seconds"].notna().any() else 0.0
    fold = unit if found.settings.split.folds else ""
    going = f"fit {found.name} {arm} {budget} {fold}"
    if seconds > 20 and going not in st.session_state:
        st.caption(f"Its weights were not kept. Fitting it again takes about {seconds:.0f} s.")
        st.button("Fit it again", key=f"start {going}", on_click=lambda: st.session_state.update({going: True}))
        return None
    try:
        predictor, draw = _model(str(found.path), _stamp(found), arm, str(budget), fold, found, budget, unit)
        answer = saliency.unit_heat(predictor, cohort, unit, cls)
    except MedsslError as error:
        return problem_of(error)
    except Exception:
        state.LOG.exception("no saliency of %s", found.name)
        return state.Problem(
            "The model of this arm could not be fitted again.", "Run the config again with `medssl run`."
        )
    return answer, f"The model of draw {draw}, fitted again as its job did."


@st.cache_resource(max_entries=6, show_spinner="Reading the cohort …")
def _pictured(folder: str, changed: int, view: str, unit: str, _view: Any) -> Pictured:
    cohort = Cohort.open(folder)
    samples = cohort.samples(_view)
    owner = samples.table[UNIT_COLUMN[unit]]
    places = {str(key): np.asarray(rows) for key, rows in owner.groupby(owner, sort=False).indices.items()}
    return Pictured(cohort, samples, places)


@st.cache_resource(max_entries=4, show_spinner="Fitting the model of this arm once more …")
def _model(
    path: str, stamp: tuple[int, ...], arm: str, budget: str, fold: str, _found: Results, _budget: Any, _unit: str
) -> tuple[Any, int]:
    return saliency.model_of(_found, arm, _budget, _unit)


@st.cache_resource(max_entries=32, show_spinner=False)
def _errors(
    path: str, stamp: tuple[int, ...], arm: str, budget: str, cls: str, _found: Results, _budget: Any
) -> tuple[pd.DataFrame, pd.DataFrame, float, pd.DataFrame]:
    evidence = _found.arrays
    roc, area = statistics.roc(evidence, arm, _budget, cls)
    return (
        statistics.confusion(evidence, arm, _budget),
        roc,
        area,
        statistics.calibration(evidence, arm, _budget, cls),
    )
