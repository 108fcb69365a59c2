"""Predictions: what an arm said of each scan, where it errs, and what it looked at."""

from __future__ import annotations

from typing import Any

import gallery
import numpy as np
import pandas as pd
import parts
import reading_units
import scans
import state
import streamlit as st

from medssl.experiment import Results, pictures
from medssl.figures import arm_colours, budget_key, budget_name
from medssl.figures.units import calibration_curve, confusion_matrix, roc_curve, unit_strip
from medssl.statistics import units as statistics

A_PAGE = 12
LARGE = 420  # pixels of the picture of one scan
ORDERS = {
    "error": ("largest error", ["error"], [False]),
    "sure": ("smallest error", ["error"], [True]),
    "spread": ("draws disagree most", ["spread"], [False]),
}


def show() -> None:
    found = parts.chosen_results("Predictions")
    if found is None:
        return
    kind = found.settings.target.kind_name
    if kind != "classification":
        parts.empty(
            state.Problem(f"This page shows classifications, and this experiment is a {kind}.", "See its curve.")
        )
        return
    problem = reading_units.evidence_problem(found)
    if problem:
        parts.empty(problem)
        return
    arm, budget, cls = _controls(found)
    table = reading_units.table(found, arm, budget)
    _errors(found, arm, budget, cls)
    shown = _filtered(found, table)
    if shown.empty:
        parts.empty(state.Problem("No scan fits this filter.", "Choose another class, or show the right ones too."))
        return
    pictured: reading_units.Pictured | None = None
    answer = reading_units.pictured(found, arm)
    if isinstance(answer, state.Problem):
        st.info(f"{answer.what} {answer.todo}")
    else:
        pictured = answer
    _one(found, arm, budget, table, shown, pictured)
    _all(found, shown, pictured)


def _controls(found: Results) -> tuple[str, Any, str]:
    """Arm, budget and class."""
    cells, name = list(found.arrays.scores), found.name
    arms = [a for a in found.settings.arms if any(a == arm for arm, _ in cells)]
    left, middle, right = st.columns([2, 3, 2], gap="medium")
    with left:
        first = found.main_comparison[0] if found.main_comparison[0] in arms else arms[0]
        arm = str(st.selectbox("Arm", arms, key=state.choice(name, "arm", arms, first)))
        state.keep(name, "arm", arm, first)
    budgets = [str(b) for b in found.settings.budgets if (arm, b) in cells]
    with middle:
        claim = found.settings.claim
        usual = str(claim.budget) if claim and str(claim.budget) in budgets else budgets[-1]
        per = "Labels a class" if found.settings.per == "class" else "Labels"
        key = state.choice(name, "budget", budgets, usual)
        budget = str(st.segmented_control(per, budgets, key=key, required=True))
        state.keep(name, "budget", budget, usual)
    with right:
        classes = found.arrays.classes
        key = state.choice(name, "class", classes, classes[-1])
        cls = str(st.selectbox("Class, in ROC and calibration", classes, key=key))
        state.keep(name, "class", cls, classes[-1])
    return arm, budget_key(budget), cls


def _errors(found: Results, arm: str, budget: Any, cls: str) -> None:
    """Confusion, ROC and calibration side by side."""
    evidence, colour = found.arrays, arm_colours(found.settings.arms)[arm]
    confusion, roc, area, calibration = reading_units.errors(found, arm, budget, cls)

    def draw_confusion(**how: Any) -> Any:
        return confusion_matrix(confusion, title="Confusion (units a draw)", **how)

    def draw_roc(**how: Any) -> Any:
        return roc_curve(roc, colour, title=f"ROC of {cls}: area {area:.3f}", **how)

    def draw_calibration(**how: Any) -> Any:
        return calibration_curve(calibration, colour, title=f"Calibration of {cls}", **how)

    how: dict[str, Any] = {"width": "container", "height": 230, "theme": parts.theme()}
    for place, make in zip(st.columns(3, gap="small"), (draw_confusion, draw_roc, draw_calibration), strict=True):
        with place:
            st.altair_chart(make(**how), theme=None, width="stretch")
    runs, draws, number, _ = evidence.scores[arm, budget].shape
    models = "repeats of the folds" if found.cross_fitted else "models"
    of = f"{runs * draws} {models}" if runs * draws > 1 else "one model"
    part = "" if found.cross_fitted else f" of the {found.settings.evaluate} part"
    unit, patients = found.settings.target.unit, len(np.unique(evidence.patients))
    labels = budget_name(budget, found.settings.per)
    st.caption(
        f"{number:,} {unit}s of {patients:,} patients{part}, by {of} ({labels}). Bands: range over them; bars: 95 % "
        "interval over patients; dashed: a coin, and perfect calibration. Look here to understand errors, not to tune: "
        "a recipe that was changed after a look at test scans needs new test scans."
    )
    files: list[tuple[str, str, Any]] = [("Units, CSV", "csv", lambda: statistics.unit_scores(evidence, arm, budget))]
    for label, frame, chart in (
        ("Confusion", confusion, draw_confusion),
        ("ROC", roc, draw_roc),
        ("Calibration", calibration, draw_calibration),
    ):
        files += [(f"{label}, {e.upper()}", e, chart) for e in ("png", "svg")]
        files.append((f"{label}, CSV", "csv", lambda frame=frame: frame))
    with st.popover("Download"):
        gallery.downloads(f"{found.name}-{arm}-{budget}", files)


def _filtered(found: Results, table: pd.DataFrame) -> pd.DataFrame:
    """The rows that are asked for, in the order that is asked for."""
    st.header(f"{found.settings.target.unit.capitalize()}s by error", anchor=False)
    name = found.name
    left, middle, right = st.columns([2, 2, 1], gap="medium", vertical_alignment="bottom")
    with left:
        orders = list(ORDERS)
        key = state.choice(name, "order", orders, "error")
        order = str(st.selectbox("First", orders, key=key, format_func=lambda o: ORDERS[o][0]))
        state.keep(name, "order", order, "error")
    with middle:
        classes = ["all", *found.arrays.classes]
        truth = str(st.selectbox("Truth", classes, key=state.choice(name, "truth", classes, "all")))
        state.keep(name, "truth", truth, "all")
    with right:
        yes = ["all", "wrong"]
        st.session_state.setdefault(f"wrong {name}", st.query_params.get("only") == "wrong")
        wrong = st.checkbox("Wrong ones only", key=f"wrong {name}")
        state.keep(name, "only", yes[int(wrong)], "all")
    shown = table if truth == "all" else table[table["truth"] == truth]
    shown = shown[shown["truth"] != shown["predicted"]] if wrong else shown
    _, columns, rising = ORDERS[order]
    return shown.sort_values(columns, ascending=rising, kind="stable").reset_index(drop=True)


def _one(
    found: Results,
    arm: str,
    budget: Any,
    table: pd.DataFrame,
    shown: pd.DataFrame,
    pictured: reading_units.Pictured | None,
) -> None:
    """One unit closely: picture with mask and saliency, and what every arm said."""
    key = st.session_state.get(f"unit {found.name}", st.query_params.get("unit"))
    row = table[table["unit"] == key].iloc[0] if (table["unit"] == key).any() else shown.iloc[0]
    unit = str(row["unit"])
    with st.container(border=True):
        left, right = st.columns([2, 3], gap="large")
        with right:
            st.subheader(f"{found.settings.target.unit.capitalize()} {gallery.short(unit)}", anchor=False)
            verdict = "right" if row["truth"] == row["predicted"] else "wrong"
            st.markdown(
                f"Truth **{parts.plain(row['truth'])}**, predicted **{parts.plain(row['predicted'])}** ({verdict}). "
                f"Probability of the truth {row['score']:.2f}, over draws {row['low']:.2f} to {row['high']:.2f}; "
                f"{100 * row['right']:.0f} % of the models are right. Patient {int(row['patient']) + 1}."
            )
            strip = statistics.scores_of_unit(found.arrays, unit, budget)
            arms = list(found.settings.arms)
            chart = unit_strip(strip, arms, str(row["truth"]), width="container", theme=parts.theme())
            st.altair_chart(chart, theme=None, width="stretch")
            st.caption(
                f"Every arm with {budget_name(budget, found.settings.per)}: a point a draw, a bar at their mean."
            )
            gallery.downloads(
                f"{found.name}-{gallery.short(unit)}",
                [
                    ("Scores, PNG", "png", lambda: unit_strip(strip, arms, str(row["truth"]))),
                    ("Scores, SVG", "svg", lambda: unit_strip(strip, arms, str(row["truth"]))),
                    ("Scores, CSV", "csv", lambda: strip),
                ],
            )
        with left:
            if pictured is None or unit not in pictured.places:
                st.caption("There is no picture of it.")
            else:
                _picture(found, arm, budget, row, pictured)


def _picture(found: Results, arm: str, budget: Any, row: pd.Series, pictured: reading_units.Pictured) -> None:
    unit, classes = str(row["unit"]), found.arrays.classes
    options = {"nothing": "No heat", **{c: f"Heat for {c}" for c in classes}}
    key = state.choice(found.name, "heat", list(options), "nothing")
    cls = str(st.selectbox("Saliency", list(options), key=key, format_func=options.__getitem__))
    state.keep(found.name, "heat", cls, "nothing")
    place, heat, said = pictured.middle(unit), None, ""
    if cls != "nothing":
        answer = reading_units.heat(found, arm, budget, unit, cls, pictured.cohort)
        if isinstance(answer, state.Problem):
            said = f"{answer.what} {answer.todo}"
        elif answer is not None:
            found_heat, model = answer
            place, heat = found_heat.place, found_heat.heat
            many = f" Of {found_heat.of} slices the one that speaks most for it." if found_heat.of > 1 else ""
            said = f"{model} Orange: what speaks for {cls} ({found_heat.probability:.2f} by this model).{many}"
    edge = pictures.outline(pictured.cohort, pictured.samples, place, LARGE)
    asked = f"unveiled {unit}"
    veil = gallery.veiled(pictured.cohort, pictured.samples, place) and not st.session_state.get(asked)
    image = pictures.picture(pictured.cohort, pictured.samples, place, LARGE, veil)
    if edge is not None:
        edge = edge if st.checkbox("Outline of the mask", value=True, key=f"mask {found.name}") else None
    shown = pictures.overlaid(image, heat, edge)
    gallery.scan(pictures.to_png(shown), f"Scan of class {row['truth']}, predicted {row['predicted']}")
    if veil:
        st.caption(scans.VEIL)
        st.button("Show the pixels", on_click=st.session_state.update, args=({asked: True},))
    if said:
        st.caption(said)


def _all(found: Results, shown: pd.DataFrame, pictured: reading_units.Pictured | None) -> None:
    """The units of one page, as thumbnails with buttons."""
    pages = -(-len(shown) // A_PAGE)
    name, box = found.name, f"page {found.name}"
    asked = str(st.query_params.get("page", "1"))
    st.session_state.setdefault(box, int(asked) if asked.isdigit() else 1)
    st.session_state[box] = min(max(1, st.session_state[box]), pages)
    left, right = st.columns([1, 4], vertical_alignment="bottom")
    with left:
        page = int(st.number_input(f"Page, of {pages:,}", 1, pages, key=box))
    with right:
        first, last = (page - 1) * A_PAGE, min(page * A_PAGE, len(shown))
        st.caption(f"{first + 1} to {last} of {len(shown):,}")
    state.keep(name, "page", str(page), "1")
    with st.container(horizontal=True, gap="medium"):
        for row in shown.iloc[first:last].to_dict("records"):
            with st.container(width=150, gap="small"):
                _card(name, row, pictured)


def _card(name: str, row: dict[Any, Any], pictured: reading_units.Pictured | None) -> None:
    unit, wrong = str(row["unit"]), row["truth"] != row["predicted"]
    line = f"{row['truth']} taken for {row['predicted']}" if wrong else f"{row['truth']}, as predicted"
    small = [f"{row['score']:.2f} ({row['low']:.2f} to {row['high']:.2f})", f"patient {int(row['patient']) + 1}"]
    if pictured is not None and unit in pictured.places:
        png = gallery.draw_thumbnail(pictured.cohort, pictured.samples, pictured.middle(unit))
        gallery.thumbs([gallery.Thumb(png, line, small, bad=wrong)])
    else:
        st.markdown(parts.plain(line))
        st.caption(" · ".join(small))
    st.button(
        "Look", key=f"look {name} {unit}", on_click=_choose, args=(name, unit), help=f"{gallery.short(unit)} closely"
    )


def _choose(name: str, unit: str) -> None:
    st.session_state[f"unit {name}"] = unit
    st.query_params["unit"] = unit


show()
