"""The curve: what each arm reaches with how many labels, and how sure that is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import parts
import state
import streamlit as st

from medssl.errors import UserError
from medssl.experiment import Results
from medssl.figures import differences, label_efficiency, metric_name, to_png, to_svg
from medssl.report import content, render_report
from medssl.report.protocol import subtitle


def show() -> None:
    found = parts.chosen_results()
    if found is None:
        return
    parts.heading(found)
    problem = state.tables(found)
    if problem:
        parts.notes(found)
        parts.empty(problem)
        return
    parts.notes(found)
    parts.verdicts(parts.main_verdict(found))
    metric, arms = _controls(found)
    _chart(lambda: _curve(found, metric, arms, "container", parts.theme()))
    _downloads(found, metric, arms)

    st.header("Verdict at each budget", anchor=False)
    claim = content.claim(found)
    if claim:
        st.caption(claim)
    parts.verdicts(content.verdicts(found))
    for sentence in found.claim_sentences():
        st.markdown(parts.plain(sentence))

    st.header(metric_name(metric, long=True), anchor=False)
    parts.score_table(found, metric, arms)

    st.header("Difference to a baseline", anchor=False)
    _differences(found, metric, arms)

    if len(found.savings()):
        st.header(f"Labels saved against {parts.plain(found.main_comparison[1])}", anchor=False)
        parts.savings_table(found)
        st.caption("How many times as many labels the baseline needs for the same score; > and <: beyond its curve.")
    if found.settings.external:
        st.header("External test cohorts", anchor=False)
        parts.external_tables(found)
    st.header("What each arm learns from", anchor=False)
    st.caption(
        "Beside the labels of its budget. Same task: the classes that are predicted, or guesses of them; any other "
        "label and every pretext task is another. Same domain: scans of this cohort. In sequence: before the labels; "
        "jointly: together with them."
    )
    parts.ways_table(found)


def _controls(found: Results) -> tuple[str, list[str]]:
    """Metric and arms."""
    scores, name = found.scores(), found.name
    metrics = [m for m in found.settings.metrics if m in set(scores["metric"])]
    arms = [a for a in found.settings.arms if a in set(scores["arm"])]
    left, right = st.columns([1, 3], gap="medium")
    with left:
        first = found.main_comparison[2]
        key = state.choice(name, "metric", metrics, first)
        metric = st.segmented_control("Metric", metrics, key=key, format_func=metric_name, required=True)
    with right:
        key = state.choice(name, "arms", arms, arms)
        shown = st.pills("Arms", arms, key=key, selection_mode="multi", wrap=True)
    shown = [a for a in arms if a in shown]  # in the experiment's order, not in the order of clicks
    state.keep(name, "metric", metric, first)
    state.keep(name, "arms", shown, arms)
    return str(metric), shown


def _curve(found: Results, metric: str, arms: list[str], width: Any, theme: Any) -> Any:
    config = found.settings
    title = "" if width == "container" else found.title
    return label_efficiency(
        found.scores(),
        found.label_counts(),
        metric,
        arms,
        per=config.per,
        unit=config.target.unit,
        title=title,
        subtitle=subtitle(found),
        width=width,
        height=360,
        theme=theme,
    )


def _differences(found: Results, metric: str, arms: list[str]) -> None:
    table, config = found.differences(), found.settings
    baselines = [b for b in config.baseline if b in set(table["baseline"])]
    if not baselines:
        parts.empty(state.Problem("No comparison is finished yet.", "It appears when a baseline and an arm are done."))
        return
    baseline = baselines[0]
    if len(baselines) > 1:
        key = state.choice(found.name, "baseline", baselines, baselines[0])
        baseline = str(st.segmented_control("Baseline", baselines, key=key, required=True))
        state.keep(found.name, "baseline", baseline, baselines[0])
    theme = parts.theme()
    _chart(
        lambda: differences(table, metric, baseline, arms, per=config.per, width="container", height=280, theme=theme)
    )
    parts.difference_table(found, metric, baseline, arms)
    st.caption("† Another encoder or input size than the baseline: the difference is not pretraining’s alone.")


def _chart(make: Any) -> None:
    """A chart, or the sentence that says why there is none."""
    try:
        chart = make()
    except UserError as error:
        parts.empty(state.Problem(error.what[:1].upper() + error.what[1:] + ".", error.fix))
        return
    st.altair_chart(chart, theme=None, width="stretch")


def _downloads(found: Results, metric: str, arms: list[str]) -> None:
    """Files are made when they are asked for, not on every click elsewhere."""

    def chart() -> Any:
        return _curve(found, metric, arms or list(found.settings.arms), 640, "light")

    files: list[tuple[str, str, str, Callable[[], str | bytes]]] = [
        ("Scores, CSV", f"{found.name}-scores.csv", "text/csv", lambda: found.scores().to_csv(index=False)),
        (
            "Differences, CSV",
            f"{found.name}-differences.csv",
            "text/csv",
            lambda: found.differences().to_csv(index=False),
        ),
        ("Curve, PNG", f"{found.name}-{metric}.png", "image/png", lambda: to_png(chart())),
        ("Curve, SVG", f"{found.name}-{metric}.svg", "image/svg+xml", lambda: to_svg(chart())),
        ("Report, HTML", f"{found.name}-report.html", "text/html", lambda: render_report(found)),
    ]
    with st.container(horizontal=True):
        for label, file, mime, make in files:
            st.download_button(label, make, file, mime, key=f"download {label}", on_click="ignore")


show()
