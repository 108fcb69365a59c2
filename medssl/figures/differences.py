"""Paired differences to a baseline, with intervals, at each budget."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import altair as alt
import pandas as pd

from medssl.config import LOWER_IS_BETTER
from medssl.errors import UserError
from medssl.figures.style import INK, Theme, arm_colours, arm_shapes, configure
from medssl.figures.words import SIGNED, budget_key, budget_name, budget_rank, interval, metric_name, number

ACROSS = " †"  # mark of a comparison across encoders or input sizes


def differences(
    table: pd.DataFrame,
    metric: str = "auc",
    baseline: str | None = None,
    arms: Sequence[str] | None = None,
    *,
    per: str = "class",
    title: str = "",
    subtitle: str | Sequence[str] | None = None,
    width: int | Literal["container"] = 640,
    height: int = 260,
    theme: Theme = "light",
    everyone: Iterable[str] | None = None,
) -> alt.LayerChart:
    """Arm minus baseline on the same draws and patients; budgets side by side, so that no interval hides another.

    Args:
        table: `Results.differences()`. Full marker: a verdict, after correction for all arms and budgets; open: none.
        metric: which rows of `table`.
        baseline: which baseline; default the first.
        arms: those to draw; default all.
        per: what a budget counts, `class` or `total`.
        everyone: all arms of the experiment, which decide the colours; default those in `table`.

    Raises:
        UserError: nothing to draw.
    """
    known = [*table["arm"], *table["baseline"]] if everyone is None else list(everyone)
    colours, shapes = arm_colours(known), arm_shapes(known)
    frame = table[table["metric"] == metric]
    baseline = baseline or (str(frame["baseline"].iloc[0]) if len(frame) else "")
    frame = frame[(frame["baseline"] == baseline) & frame["difference"].notna()]
    if arms is not None:
        frame = frame[frame["arm"].isin(list(arms))]
    if frame.empty:
        raise UserError("no differences to draw", baseline, "Choose another baseline, or at least one other arm.")
    frame = _worded(frame, per)
    names = list(frame.groupby("arm")["difference"].mean().sort_values(ascending=False).index)
    across = set(frame.loc[~frame["same_encoder"].astype(bool), "arm"])
    labels = {a: a + ACROSS if a in across else a for a in names}
    frame["label"] = frame["arm"].map(labels)
    ink = INK[theme]

    budgets = [str(b) for b in sorted(frame["key"].unique(), key=budget_rank)]
    title_x = "Labels a class" if per == "class" else "Labels"
    x = alt.X("budget:N").scale(domain=budgets, paddingInner=0.25, paddingOuter=0.12)
    x = x.axis(title=title_x, labelAngle=0, ticks=False, domain=False, grid=False)
    offset = alt.XOffset("label:N").scale(domain=[labels[a] for a in names], paddingInner=0, paddingOuter=0.5)
    scale = alt.Scale(domain=_domain(frame), nice=False)
    short = metric_name(metric)
    y = alt.Y("difference:Q").scale(scale).axis(labelExpr=SIGNED, tickCount=6, title=f"Difference in {short}")
    domain = [labels[a] for a in names]
    legend = alt.Legend(title=None, orient="top", direction="horizontal", columns=4, symbolSize=60, offset=8)
    colour = alt.Color("label:N", legend=legend).scale(domain=domain, range=[colours[a] for a in names])
    shape = alt.Shape("label:N", legend=legend).scale(domain=domain, range=[shapes[a] for a in names])
    shown = [
        "arm",
        "baseline",
        "budget",
        "label",
        "difference",
        "low",
        "high",
        "sure",
        "words",
        "interval",
        "verdict",
        "labels",
    ]
    frame = frame[shown]

    zero = alt.Chart(pd.DataFrame({"zero": [0.0]})).mark_rule(color=ink.text, strokeWidth=1.25)
    bars = (
        alt.Chart(frame[frame["low"].notna()])
        .mark_rule(strokeWidth=2)
        .encode(x=x, xOffset=offset, y=alt.Y("low:Q").scale(scale).title(""), y2="high:Q", color=colour)
    )
    points = (
        alt.Chart(frame)
        .mark_point(size=56, strokeWidth=1.75, opacity=1)
        .encode(
            x=x,
            xOffset=offset,
            y=y,
            color=colour,
            shape=shape,
            fill=alt.condition("datum.sure", colour, alt.value(ink.paper)),
            tooltip=[
                alt.Tooltip("arm:N", title="Arm"),
                alt.Tooltip("baseline:N", title="Against"),
                alt.Tooltip("labels:N", title="Labels"),
                alt.Tooltip("words:N", title="Difference"),
                alt.Tooltip("interval:N", title="95 % interval"),
                alt.Tooltip("verdict:N", title="Verdict"),
            ],
        )
    )
    lines = (
        [subtitle]
        if isinstance(subtitle, str)
        else list(subtitle)
        if subtitle is not None
        else _subtitle(bool(across), metric)
    )
    heading = alt.TitleParams(text=title or f"Difference in {short} to {baseline}", subtitle=lines)
    chart = alt.layer(zero.encode(y=alt.Y("zero:Q").scale(scale).title("")), bars, points)
    return configure(chart.properties(width=width, height=height, title=heading), theme, fill=width == "container")


def _worded(frame: pd.DataFrame, per: str) -> pd.DataFrame:
    frame = frame.copy()
    frame["key"] = frame["budget"].map(budget_key)
    frame["budget"] = frame["key"].map(str)
    frame["labels"] = [budget_name(k, per) for k in frame["key"]]
    frame["words"] = [number(v, sign=True) for v in frame["difference"]]
    frame["interval"] = [interval(a, b, sign=True) for a, b in zip(frame["low"], frame["high"], strict=True)]
    frame["sure"] = frame["verdict"].isin(["helps", "hurts"])
    return frame


def _domain(frame: pd.DataFrame) -> list[float]:
    """Zero and all intervals, with room above and below."""
    values = pd.concat([frame["difference"], frame["low"], frame["high"], pd.Series([0.0])]).astype(float)
    low, high = float(values.min()), float(values.max())
    room = 0.08 * max(high - low, 0.02)
    return [round(low - room, 4), round(high + room, 4)]


def _subtitle(across: bool, metric: str) -> list[str]:
    better = "Below" if metric in LOWER_IS_BETTER else "Above"
    lines = [
        f"{better} zero: better than the baseline. Bars: 95 % intervals, one by one.",
        "Full markers: helps or hurts, after correction for all arms and budgets (the claim stands alone).",
    ]
    return [*lines, "† another encoder or input size: the difference is not pretraining’s alone."] if across else lines
