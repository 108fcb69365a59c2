"""The curve: what each arm reaches with how many labels, and how sure that is."""

from __future__ import annotations

from typing import Any, NamedTuple

import comparison
import parts
import state
import streamlit as st

from medssl.experiment import Results
from medssl.figures import differences, label_efficiency, metric_name, relative
from medssl.report import content, render_report
from medssl.report.protocol import subtitle

AXES = {"log": "Log axis", "full": "Full-label line"}
SCORES = ""  # the curve itself, relative to no arm


class Shown(NamedTuple):
    """What the controls ask for.

    Attributes:
        arms: in the experiment's order.
        to: the arm that differences are drawn to; empty: scores.
        log, full: a logarithmic axis, and a line at the main baseline's score with the most labels.
    """

    metric: str
    arms: list[str]
    to: str
    log: bool
    full: bool


def show() -> None:
    found = parts.chosen_results("Label efficiency")
    if found is None:
        return
    problem = state.tables(found)
    parts.notes(found)
    if problem:
        parts.empty(problem)
        return
    parts.verdicts(parts.main_verdict(found))
    shown = _controls(found)
    metric, arms = shown.metric, shown.arms
    if shown.to and shown.to not in found.settings.baseline:
        with st.spinner(f"Comparing all arms with {shown.to}: this is done once …"):
            _table(found, shown)
    parts.chart(lambda: _curve(found, shown, "container", parts.theme()))
    with st.container(horizontal=True):
        file = f"{found.name}-{metric}" + (f"-to-{shown.to}" if shown.to else "")
        printed = shown._replace(arms=arms or list(found.settings.arms))
        parts.exports("Curve", file, lambda: _curve(found, printed, 640, "light"), lambda: _table(found, shown))
        report = f"{found.name}-report.html"
        st.download_button("Report, HTML", lambda: render_report(found), report, "text/html", on_click="ignore")

    st.header("Verdict at each budget", anchor=False)
    claim = content.claim(found)
    if claim:
        st.caption(claim)
    parts.verdicts(content.verdicts(found))
    for sentence in state.once(found, "claim", found.claim_sentences):
        st.markdown(parts.plain(sentence))

    st.header(metric_name(metric, long=True), anchor=False)
    parts.score_table(found, metric, arms)

    st.header("Difference to a baseline", anchor=False)
    _differences(found, metric, arms)

    if len(found.savings()):
        st.header(f"Labels saved against {parts.plain(found.main_comparison[1])}", anchor=False)
        parts.savings_table(found)
        st.caption("How many times as many labels the baseline needs for the same score; > and <: beyond its curve.")
    if rows := content.curve_table(found):
        st.header("How few labels come close to all", anchor=False)
        parts.curve_table(rows)
        st.caption(
            "The smallest budget that reaches 95 % of the arm's own score with the most labels: by its mean, and "
            "surely (the interval lies above it). Area: mean height of the curve over the logarithm of the labels."
        )
    if found.settings.external:
        st.header("External test cohorts", anchor=False)
        parts.external_tables(found)
    comparison.show(found, metric)
    parts.ways_table(found)


def _controls(found: Results) -> Shown:
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
    left, right = st.columns([1, 3], gap="medium")
    with left:
        key = state.choice(name, "to", [SCORES, *arms], SCORES)
        to = st.selectbox(
            "Relative to",
            [SCORES, *arms],
            key=key,
            format_func=lambda arm: f"{arm} (differences)" if arm else "nothing (scores)",
        )
    with right:
        key = state.choice(name, "axes", list(AXES), list(AXES))
        axes = st.pills("Axis", list(AXES), key=key, selection_mode="multi", format_func=AXES.__getitem__)
    axes = [a for a in AXES if a in axes]
    state.keep(name, "metric", metric, first)
    state.keep(name, "arms", shown, arms)
    state.keep(name, "to", to, SCORES)
    state.keep(name, "axes", axes, list(AXES))
    return Shown(str(metric), shown, str(to), "log" in axes, "full" in axes)


def _curve(found: Results, shown: Shown, width: Any, theme: Any) -> Any:
    config, everyone = found.settings, list(found.settings.arms)
    title = "" if width == "container" else found.title
    common: dict[str, Any] = {
        "per": config.per, "unit": config.target.unit, "title": title, "width": width, "height": 360, "theme": theme,
        "log": shown.log, "everyone": everyone,
    }  # fmt: skip
    if shown.to:
        table = _table(found, shown)
        return relative(table, found.scores(), found.label_counts(), shown.metric, shown.to, shown.arms, **common)
    about: dict[str, Any] = {"subtitle": subtitle(found), "full": found.main_comparison[1] if shown.full else ""}
    return label_efficiency(found.scores(), found.label_counts(), shown.metric, shown.arms, **common, **about)


def _table(found: Results, shown: Shown) -> Any:
    """What the curve is drawn from."""
    if not shown.to:
        return found.scores()
    return state.once(found, ("against", shown.to), lambda: found.against(shown.to))


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

    def drawn(width: Any, theme: Any, title: str = "") -> Any:
        about: dict[str, Any] = {"per": config.per, "title": title, "theme": theme, "everyone": list(config.arms)}
        return differences(table, metric, baseline, arms or None, width=width, height=280, **about)

    if arms:
        parts.chart(lambda: drawn("container", parts.theme()))
    else:
        parts.empty(state.Problem("No arm is chosen.", "Choose at least one above."))
    with st.container(horizontal=True):
        file = f"{found.name}-{metric}-differences-to-{baseline}"
        parts.exports("Differences", file, lambda: drawn(720, "light", found.title), lambda: table)
    parts.difference_table(found, metric, baseline, arms)
    st.caption("† Another encoder or input size than the baseline: the difference is not pretraining’s alone.")


show()
