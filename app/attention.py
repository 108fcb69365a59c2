"""Heat over real scans: where the answer of a run's task comes from, and where a downstream class is seen by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import gallery
import parts
import pictures
import reading_units
import state
import streamlit as st

from medssl.cohort import Cohort
from medssl.config import Budget
from medssl.errors import MedsslError
from medssl.experiment import Results
from medssl.experiment import pictures as scans
from medssl.experiment.runs import Run
from medssl.figures import budget_name

ROWS, WIDE = 4, 8  # scans, and pictures beside each other
METHODS = {
    False: "Orange: what speaks for it in the network's last feature maps (Grad-CAM).",
    True: "Orange: what the transformer's attention gathers the vector from (roll-out), whatever is answered.",
}
Found = TypeVar("Found")


def of_task(run: Run, cohort: Path, seed: int, stamp: tuple[int, ...]) -> None:
    """Heat of the task's own answer, on the scans that are shown above it."""
    st.subheader("Where the task's answer comes from", anchor=False)
    found = _said(lambda: _task(str(run.checkpoint), str(cohort), seed, stamp), run.name)
    if isinstance(found, state.Problem):
        parts.empty(found)
        return
    rolled_out, unasked, lines = found
    if not lines and not unasked:
        st.caption(
            "This task has no single answer that heat could be drawn for: it makes an image, or answers for many "
            "places at once. The pictures above are its answers."
        )
        return
    st.caption(METHODS[rolled_out])
    if lines:
        pictures.rows(lines)
    if unasked:
        st.caption(f"{unasked} of {ROWS} scans have nothing that the task could ask.")


def of_class(page: str, run: Run, names: Mapping[str, str], seed: int) -> None:
    """Heat of a class by a linear probe of the chosen experiment that uses this run's encoder."""
    st.subheader("Where a class is seen", anchor=False)
    experiment = state.chosen()
    found = None if experiment is None else state.results(experiment)
    own = names[run.name]
    if not isinstance(found, Results) or own == run.name:
        st.caption("The chosen experiment has no arm that uses this run. Choose another run or experiment.")
        return
    problem = reading_units.evidence_problem(found)
    if problem:
        parts.empty(problem)
        return
    arms, why = _arms(found, own)
    if not arms:
        st.caption(why)
        st.page_link(st.session_state["pages"]["predictions"], label="Saliency of every arm: Predictions")
        return
    left, right = st.columns(2, gap="medium")
    classes, kept = list(found.arrays.classes), f"{page} {found.name}"
    with left:
        key = state.choice(kept, "heat_arm", arms, arms[0])
        arm = str(st.selectbox("Linear probe of the arm", arms, key=key))
    with right:
        key = state.choice(kept, "heat_class", classes, classes[-1])
        cls = str(st.selectbox("Class", classes, key=key))
    state.keep(kept, "heat_arm", arm, arms[0])
    state.keep(kept, "heat_class", cls, classes[-1])
    budget = _budget(found, arm)
    files = [found.path / "config.yaml", found.path / "results", run.checkpoint]
    stamp = tuple(file.stat().st_mtime_ns if file.exists() else 0 for file in files)
    looked = _said(lambda: _class(str(found.path), arm, budget, cls, seed, stamp, found), found.name)
    if isinstance(looked, state.Problem):
        parts.empty(looked)
        return
    st.caption(
        f"Tested scans of {parts.plain(found.name)}. The probe of {budget_name(budget, found.settings.per)}, fitted "
        f"again; the number is its probability of {parts.plain(cls)}. {METHODS[looked[0]]}"
    )
    gallery.pairs(looked[1])
    st.page_link(st.session_state["pages"]["predictions"], label="Every scan, arm and budget: Predictions")


def _arms(found: Results, run: str) -> tuple[list[str], str]:
    """Arms that have results of a linear probe on this encoder; else why there are none."""
    from medssl.transfer import strategy

    if found.settings.target.kind_name != "classification":
        return [], "This experiment does not tell classes."
    if " #" in run:
        return [], "Of a run with several seeds the first one's encoder is looked at."
    done = {arm for arm, _ in found.arrays.scores}
    using = {name: arm for name, arm in found.settings.arms.items() if arm.pretrain == run and name in done}
    probes = [n for n, arm in using.items() if strategy(arm.strategy_name, arm.strategy_settings).frozen]
    if probes:
        return probes, ""
    return [], "No arm of the chosen experiment reads this encoder as it is, with results. Finetuned ones changed it."


def _budget(found: Results, arm: str) -> Budget:
    """The claim's, else the largest, of those that the arm has results for."""
    budgets = [b for b in found.settings.budgets if (arm, b) in found.arrays.scores]
    claim = found.settings.claim
    return claim.budget if claim and claim.budget in budgets else budgets[-1]


def _said(make: Callable[[], Found], name: str) -> Found | state.Problem:
    try:
        return make()
    except MedsslError as error:
        return state.problem(error)
    except Exception:  # a damaged file can fail in any way, and a page must still say so in a sentence
        state.LOG.exception("no heat of %s", name)
        return state.Problem("No heat can be drawn: a file is damaged, or of another version.", "Run it again.")


@st.cache_resource(max_entries=64, show_spinner="Asking the network where it looks …")
def _task(checkpoint: str, cohort: str, seed: int, stamp: tuple[int, ...]) -> tuple[bool, int, list[pictures.Panels]]:
    """Whether it is roll-out, scans without a question, and lines of pictures, with several scans each where they fit.

    Computed once for each state of the files: `stamp` is part of the key, nothing more.
    """
    from medssl.experiment.task_heat import task_heat

    found = task_heat(Cohort.open(cohort), Path(checkpoint), ROWS, seed)
    asked = [row for row in found.rows if row.panels]
    several = max(1, WIDE // max((len(row.panels) for row in asked), default=1))
    lines = [asked[n : n + several] for n in range(0, len(asked), several)]
    drawn = [
        pictures.Panels([p for r in line for p in r.panels], [c for r in line for c in r.captions]) for line in lines
    ]
    return found.rolled_out, len(found.rows) - len(asked), drawn


@st.cache_resource(max_entries=64, show_spinner="Fitting the probe once more …")
def _class(
    path: str, arm: str, budget: Budget, cls: str, seed: int, stamp: tuple[int, ...], _found: Results
) -> tuple[bool, list[tuple[gallery.Thumb, gallery.Thumb]]]:
    from medssl.experiment.saliency import class_heats

    looked = class_heats(_found, arm, budget, cls, ROWS, seed)
    pairs = []
    for one in looked.units:
        plain = gallery.Thumb(scans.to_png(one.image), f"truth: {one.truth}")
        warm = scans.to_png(scans.overlaid(one.image, one.heat.heat))
        pairs.append((plain, gallery.Thumb(warm, f"{cls}: {one.heat.probability:.2f}")))
    return looked.rolled_out, pairs
