"""The second half of *New run*: which tasks and arms, what that costs, and the start."""

from __future__ import annotations

from typing import Any

import forms
import parts
import running
import state
import streamlit as st
from drafts import ABOUT, COMPARED, USUAL_STEPS, Draft, fitting_budgets, slug, unused

from medssl.cohort import Cohort
from medssl.cohort.splits import Split
from medssl.config import Engine, Experiment, Fractions, View
from medssl.errors import MedsslError
from medssl.experiment import processes
from medssl.experiment.processes import ACTIVE, command_line
from medssl.workspace import Workspace, digest

__all__ = ["form", "known_tasks", "slug", "start", "unused"]
ENGINE = ["steps", "encoder", "batch", "minutes", "epochs", "precision", "learning_rate", "seed"]
VIEW = ["size", "plane", "slices", "spacing", "intensity", "fit", "channels"]
SPLIT = ["test", "validation", "seed", "folds", "repeats", "column", "hold_out"]
MORE = ["per", "metrics", "seed", "note"]


def form(place: Workspace, cohort: Cohort, source: str) -> Draft | None:
    """What was chosen, or None where something is missing and said.

    Raises:
        MedsslError: the labels do not fit the unit, a value that cannot be read.
    """
    key = f"draft {cohort.name}"
    targets, known = cohort.targets(), known_tasks()
    left, right = st.columns(2, gap="medium")
    with left:
        target = str(st.selectbox("Predict", targets, key=f"{key} target"))
    with right:
        units = ["image", "exam", "patient"]
        unit = str(
            st.segmented_control("A prediction for each", units, default="image", key=f"{key} unit", required=True)
        )
    labeled = cohort.units(target, unit)  # type: ignore[arg-type]  # one of the three
    classes = labeled["label"].value_counts()
    st.caption(f"{len(labeled):,} labeled {unit}s of {labeled['patient'].nunique():,} patients, {len(classes)} classes")
    tasks = st.multiselect(
        "Pretrain by", list(known), ["simclr"], key=f"{key} tasks", format_func=lambda t: f"{t}: {known[t]}"
    )
    compared = st.multiselect(
        "Compare with",
        list(COMPARED),
        ["scratch", "imagenet"],
        key=f"{key} arms",
        format_func=lambda a: f"{a}: {ABOUT[a]}",
    )
    with st.expander("Pretraining"):
        strategies = st.multiselect("How labels are learned from it", _strategies(), ["probe"], key=f"{key} strategies")
        engine = forms.fields(Engine, ENGINE, f"{key} engine", {"steps": USUAL_STEPS})
        if engine.get("steps") == USUAL_STEPS and engine.keys() & {"minutes", "epochs"}:
            engine.pop("steps")  # what was typed, and not what stood there, says how long
    settings = {}
    for task in tasks:
        own = _settings(task)
        if names := forms.plain(own):
            with st.expander(f"Settings of {task}"):
                settings[task] = forms.fields(own, names, f"{key} {task}")
    with st.expander("Images"):
        view = forms.fields(View, VIEW, f"{key} view", {"channels": 3 if _coloured(cohort) else 1})
    with st.expander("Split and statistics"):
        split = _split(cohort, key)
        more = forms.fields(Experiment, MORE, f"{key} experiment")
    if len(tasks) * len(strategies) + len(compared) < 2:
        parts.empty(
            state.Problem("There is nothing to compare yet.", "Choose a pretext task and what to compare it with.")
        )
        return None
    if "folds" not in split:
        more |= _budgets(int(classes.min()), split, key)
    draft = Draft("draft", cohort.name, source, target, unit, tasks, strategies, compared)
    draft.pretraining, draft.settings, draft.view, draft.split, draft.experiment = engine, settings, view, split, more
    draft.claim = _claim(draft, key)
    return draft


def start(place: Workspace, draft: Draft) -> str:
    """Name, YAML, estimate and the button; returns the name of the run whose card is shown, or nothing."""
    taken = {p.name for p in place.experiments()} | {p.about for p in processes.processes(place) if p.kind == "run"}
    left, right = st.columns(2, gap="medium")
    with left:
        first = st.session_state.setdefault(f"first name {draft.cohort}", unused(draft.cohort, taken))
        draft.name = st.text_input("Name of the experiment", first, key=f"name {draft.cohort}").strip()
    with right:
        draft.title = st.text_input("Title", key=f"title {draft.cohort}", placeholder="as the name").strip()
    try:
        draft.check()
    except MedsslError as error:
        parts.empty(state.problem(error))
        return ""
    text = draft.yaml()
    at = ["--workspace", str(place.path)]
    with st.expander("The same as YAML, and in a terminal"):
        st.code(text, language="yaml")
        st.download_button("Download", text, f"{draft.name}.yaml", "application/yaml", on_click="ignore")
        st.code(command_line(["run", f"{draft.name}.yaml", *at]), language="bash", wrap_lines=True)
    _estimate(place, draft, text, at)
    known = processes.find(place, f"run-{draft.name}")
    if known is not None:
        running.card(known, place)
    if known is None or known.status not in ACTIVE:
        if draft.name in taken:
            st.caption(
                "There is an experiment of this name. Started with the same choices it goes on; with others, what they "
                "change is computed anew and takes its place."
            )
        arguments = ["run", "{config}", *at]
        st.button("Start", type="primary", key="start", on_click=_start, args=(place, draft.name, arguments, text))
    return known.name if known is not None else ""


def _start(place: Workspace, name: str, arguments: list[str], text: str) -> None:
    running.start(place, "run", name, arguments, text)
    st.query_params["run"] = f"run-{name}"  # also where it runs already: then its card shows it


def _estimate(place: Workspace, draft: Draft, text: str, at: list[str]) -> None:
    """Time and memory, by `medssl run --dry-run`, as a process: it tries images, which takes a while."""
    name = f"{draft.cohort}-{digest(draft.raw() | {'name': '', 'title': ''}, 8)}"
    process = processes.find(place, f"estimate-{name}")
    if process is None:
        arguments = ["run", "{config}", "--dry-run", *at, "--json"]
        st.button(
            "Estimate time and memory",
            key="estimate",
            on_click=running.start,
            args=(place, "estimate", name, arguments, text),
        )
        return
    if process.status != "done":
        running.card(process, place)
        return
    found = process.answer() or {}
    price = found.get("cost", {})
    if not price:
        process.forget()
        return
    parts.verdicts([{"kind": "", "sentence": sentence} for sentence in _foreseen(found, price)])


def _foreseen(found: dict[str, Any], price: dict[str, Any]) -> list[str]:
    """What the estimate says, in sentences."""
    patients = found["patients"]
    said = [
        f"{found['jobs']:,} jobs; patients: {patients['pool']:,} to learn from, {patients['validation']:,} for "
        f"validation, {patients['test']:,} to test on.",
        f"On this machine about {_long(price['seconds'])}: pretraining {_long(sum(price['pretraining'].values()))}, "
        f"jobs {_long(price['jobs'])}.",
    ]
    if price["memory"]:
        said.append(
            f"Pretraining needs about {price['memory'] / 2**30:.1f} GiB of the {price['memory_there'] / 2**30:.0f} GiB "
            "of memory."
        )
    detectable = found["detectable"]["claimed"]
    if detectable is None:
        said.append("With so few patients or draws no interval can be given, and no verdict.")
    else:
        said.append(f"A difference in AUC of about {detectable:.3f}, named beforehand, is found in 4 of 5 experiments.")
    return said


def _long(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def _split(cohort: Cohort, key: str) -> dict[str, Any]:
    """What differs from the usual split; a cohort that has one keeps it."""
    stored = cohort.path / "split.json"
    if not stored.is_file():
        st.caption("Patients are split with the first estimate or run; from then on all runs of the cohort share it.")
        return forms.fields(Fractions, SPLIT, f"{key} split")
    own, usual = Split.load(stored).fractions, Fractions()
    test, validation = f"{100 * own.test:.0f} %", f"{100 * own.validation:.0f} %"
    st.caption(f"This cohort is split already: {test} of its patients test, {validation} validate.")
    return {name: value for name, value in own.model_dump().items() if value != getattr(usual, name)}


def _budgets(smallest: int, split: dict[str, Any], key: str) -> dict[str, Any]:
    """Budgets and draws; at first those that the labels suffice for."""
    first = fitting_budgets(smallest, split)
    found = forms.fields(Experiment, ["budgets", "draws"], f"{key} {first}", {"budgets": first})
    return found


def _claim(draft: Draft, key: str) -> dict[str, Any] | None:
    """The comparison that is named beforehand."""
    arms, budgets = draft.arms, draft.experiment.get("budgets", Experiment.model_fields["budgets"].default)
    if not draft.tasks or not draft.compared or "folds" in draft.split or not isinstance(budgets, list) or not budgets:
        return None
    pretrained = [name for name in arms if name not in draft.compared]
    left, middle, right = st.columns(3, gap="medium")
    with left:
        arm = st.selectbox("The question: does", [*pretrained, None], key=f"{key} claim arm", format_func=_or_none)
    if arm is None:
        return None
    with middle:
        baseline = st.selectbox("help over", draft.compared[:2], key=f"{key} claim baseline")
    with right:
        numbers = [b for b in budgets if isinstance(b, int) and b <= 10]
        at = budgets.index(numbers[-1]) if numbers else 0
        budget = st.selectbox("with so many labels", budgets, at, key=f"{key} claim {budgets}")
    st.caption("Named before the test patients are looked at, this comparison needs no correction for the others.")
    metrics = draft.experiment.get("metrics", Experiment.model_fields["metrics"].default)
    return {
        "arm": arm,
        "baseline": baseline,
        "budget": budget,
        **({"metric": metrics[0]} if metrics[0] != "auc" else {}),
    }


def _or_none(arm: str | None) -> str:
    return "no question: explore" if arm is None else arm


def _coloured(cohort: Cohort) -> bool:
    return all(cohort.scans()["kind"].isin(["colour", "colour_volume"]))


@st.cache_data(show_spinner="Reading the list of pretext tasks …")
def known_tasks() -> dict[str, str]:
    """Name -> what it does. This is what loads torch."""
    from medssl.pretext import tasks

    return {name: task.line for name, task in tasks().items()}


def _settings(task: str) -> Any:
    from medssl.pretext import task_class

    return task_class(task).Settings


@st.cache_data
def _strategies() -> list[str]:
    from medssl.transfer import strategies

    return strategies()
