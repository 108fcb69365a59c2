"""Pretraining histories: loss over steps, one small chart a run, since losses of different tasks share no scale; or
several runs in one chart, to compare them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import altair as alt
import numpy as np
import pandas as pd

from medssl.errors import UserError
from medssl.figures.style import INK, Theme, arm_colours, arm_dashes, configure
from medssl.figures.words import metric_name

MOST_POINTS = 150  # a run with more steps is drawn as means of equal stretches


def history(
    histories: Mapping[str, pd.DataFrame],
    metric: str = "loss",
    *,
    only: str | None = None,
    columns: int = 3,
    width: int | Literal["container"] = 240,
    height: int = 150,
    title: str = "",
    theme: Theme = "light",
    levels: Mapping[str, Mapping[str, float]] | None = None,
) -> alt.ConcatChart | alt.Chart | alt.LayerChart | alt.FacetChart:
    """One chart a run, each with its own explicit scales.

    Args:
        histories: run -> DataFrame with `step` and the metric's column, as `Results.histories()` gives them.
        metric: the column to draw; runs without it are left out.
        only: draw this run alone, in the colour that it has among all (a page lays the charts out itself).
        columns: charts in a row.
        levels: run -> words -> value, drawn as dashed lines: what an untrained network has, where an alarm begins.

    Raises:
        UserError: no run has this column.
    """
    drawn = {name: _thin(frame, metric) for name, frame in histories.items() if metric in frame and "step" in frame}
    drawn = {name: frame for name, frame in drawn.items() if len(frame) and only in (None, name)}
    if not drawn:
        raise UserError(f"no pretraining run has recorded '{metric}'", "", "Run an experiment with a pretrained arm.")
    colours = arm_colours(histories)
    held = levels or {}
    charts = [
        _run(name, frame, metric, colours[name], width, height, held.get(name, {}), INK[theme].muted)
        for name, frame in drawn.items()
    ]
    if only is not None:
        return configure(charts[0], theme, fill=width == "container")
    chart = alt.concat(*charts, columns=min(columns, len(charts)), spacing=28)
    return configure(chart.properties(title=title) if title else chart, theme)


def overlaid(
    histories: Mapping[str, pd.DataFrame],
    metric: str = "loss",
    *,
    width: int | Literal["container"] = 640,
    height: int = 300,
    theme: Theme = "light",
) -> alt.Chart:
    """All runs in one chart, on one scale.

    Args:
        histories, metric: as for `history`.

    Raises:
        UserError: no run has this column.
    """
    frames = {name: _thin(frame, metric) for name, frame in histories.items() if metric in frame and "step" in frame}
    drawn = pd.concat([frame.assign(run=name) for name, frame in frames.items()] or [pd.DataFrame()])
    if drawn.empty:
        raise UserError(f"no pretraining run has recorded '{metric}'", "", "Run an experiment with a pretrained arm.")
    names = [name for name, frame in frames.items() if len(frame)]
    colours, dashes = arm_colours(histories), arm_dashes(histories)
    colour = alt.Color("run:N").scale(domain=names, range=[colours[n] for n in names])
    dash = alt.StrokeDash("run:N").scale(domain=names, range=[dashes[n] for n in names])
    legend = alt.Legend(title=None, orient="top", direction="horizontal", columns=3, symbolType="stroke")
    x = alt.X("step:Q").scale(nice=False).axis(title="Step", tickCount=6, format="~s", grid=False)
    y = alt.Y("value:Q").scale(zero=False).axis(title=metric_name(metric), tickCount=5)
    tips = [
        alt.Tooltip("run:N", title="Run"),
        alt.Tooltip("step:Q", title="Step", format=",.0f"),
        alt.Tooltip("value:Q", title=metric_name(metric), format=".4~g"),
    ]
    lines = alt.Chart(drawn).mark_line(strokeWidth=1.75)
    chart = lines.encode(x=x, y=y, color=colour.legend(legend), strokeDash=dash.legend(legend), tooltip=tips)
    return configure(chart.properties(width=width, height=height), theme, fill=width == "container")


def _run(
    name: str,
    frame: pd.DataFrame,
    metric: str,
    colour: str,
    width: int | Literal["container"],
    height: int,
    levels: Mapping[str, float],
    ink: str,
) -> alt.Chart | alt.LayerChart | alt.FacetChart:
    values = [float(frame["value"].min()), float(frame["value"].max()), *levels.values()]
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    span = [float(frame["step"].min()), float(frame["step"].max())]
    x = (
        alt.X("step:Q")
        .scale(domain=span, nice=False)
        .axis(title="Step", tickCount=min(4, max(1, int(span[1] - span[0]))), format="~s", grid=False)
    )
    y = alt.Y("value:Q").scale(domain=[low - room, high + room], nice=False, zero=False)
    tips = [
        alt.Tooltip("step:Q", title="Step", format=",.0f"),
        alt.Tooltip("value:Q", title=metric_name(metric), format=".4~g"),
    ]
    lines = alt.Chart(frame).mark_line(color=colour, strokeWidth=1.75, point=len(frame) == 1)
    lines = lines.encode(x=x, y=y.axis(title=metric_name(metric), tickCount=4), tooltip=tips)
    lines = lines.properties(width=width, height=height, title=alt.TitleParams(name, fontSize=13, offset=8))
    if not levels:
        return lines
    rows = pd.DataFrame({"value": list(levels.values()), "words": list(levels), "step": span[1]})
    rules = alt.Chart(rows).mark_rule(color=ink, strokeDash=[4, 3]).encode(y=y)
    # A word stands inside the chart: below a line in its upper half, above one in its lower half.
    words = [
        alt.Chart(part).mark_text(color=ink, align="right", dy=dy, fontSize=11.5).encode(x=x, y=y, text="words:N")
        for part, dy in ((rows[rows["value"] > (low + high) / 2], 9), (rows[rows["value"] <= (low + high) / 2], -8))
        if len(part)
    ]
    return alt.layer(rules, lines, *words)


def _thin(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Step and value, finite rows only, at most MOST_POINTS of them."""
    frame = frame[["step", metric]].rename(columns={metric: "value"}).astype(float)
    frame = frame[np.isfinite(frame["value"])].sort_values("step").reset_index(drop=True)
    if len(frame) <= MOST_POINTS:
        return frame
    stretch = np.arange(len(frame)) * MOST_POINTS // len(frame)
    return frame.groupby(stretch).mean().reset_index(drop=True)
