"""The label-efficiency curve: score against number of labels, one line an arm, with interval bands."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import altair as alt
import pandas as pd

from medssl.errors import UserError
from medssl.figures.style import INK, Theme, arm_colours, arm_dashes, arm_shapes, configure, text_width
from medssl.figures.words import budget_key, budget_name, counts_by_budget, interval, metric_name

LABEL_GAP = 17  # pixels between two arm names at the right edge
BOUNDED = {  # metrics that cannot exceed 1
    *("auc", "accuracy", "balanced_accuracy", "sensitivity_at_90", "f1", "dice"),
    *("average_precision", "kappa", "r2", "pearson", "spearman"),
}


def label_efficiency(
    scores: pd.DataFrame,
    label_counts: Mapping[Any, int],
    metric: str = "auc",
    arms: Sequence[str] | None = None,
    *,
    per: str = "class",
    unit: str = "image",
    title: str = "",
    subtitle: str | Sequence[str] | None = None,
    width: int | Literal["container"] = 640,
    height: int = 380,
    theme: Theme = "light",
) -> alt.LayerChart:
    """Score against labels.

    Args:
        scores: `Results.scores()`; an interval that is NaN gets no band, and its marker is open.
        label_counts: `Results.label_counts()`: labelled units in total for each budget.
        metric: which rows of `scores`.
        arms: those to draw; default all. An arm keeps its colour when others are off.
        per: what a budget counts, `class` or `total`.
        unit: what is labelled: `image`, `exam` or `patient`.
        title, subtitle: default: what is drawn, and what band and marker mean.
        width, height: of the plot in pixels; `container` fills the page.

    Raises:
        UserError: nothing to draw for this metric and these arms.
    """
    colours, shapes, dashes = (of(scores["arm"]) for of in (arm_colours, arm_shapes, arm_dashes))
    counts = counts_by_budget(label_counts)
    frame = _frame(scores, counts, metric, arms, per, unit)
    names = [a for a in colours if a in set(frame["arm"])]
    ink = INK[theme]

    low, high = y_domain(frame, metric)
    x_low, x_high = min(counts.values()) * 0.86, max(counts.values()) * 1.1
    x = alt.X("labels:Q").scale(type="log", domain=[x_low, x_high], nice=False)
    x = x.axis(
        values=list(counts.values()),
        labelExpr=_tick_labels(counts, x_low, x_high, 640 if width == "container" else width),
        labelOverlap=False,
        labelLineHeight=15,
        grid=True,
        title=_x_title(per, unit),
    )
    scale = alt.Scale(domain=[low, high], nice=False, zero=False)
    y = alt.Y("score:Q").scale(scale).axis(tickCount=6, format=".2f", title=metric_name(metric, long=True))
    colour = alt.Color("arm:N").scale(domain=names, range=[colours[a] for a in names]).legend(None)
    shape = alt.Shape("arm:N").scale(domain=names, range=[shapes[a] for a in names]).legend(None)

    base = alt.Chart(frame).encode(x=x, color=colour)
    banded = alt.Chart(frame[frame["run"].notna()]).encode(x=x, color=colour, detail="run:N")
    lower, upper = alt.Y("low:Q").scale(scale).title(""), alt.Y("high:Q").scale(scale).title("")
    band = banded.mark_area(opacity=min(0.14, 0.45 / len(names))).encode(y=lower, y2="high:Q")
    rim = banded.mark_line(strokeWidth=0.75, opacity=0.45)  # a band can be followed where several lie on each other
    rims = [rim.encode(y=lower), rim.encode(y=upper)]
    alone = (  # an interval whose neighbours have none: a band needs two points
        alt.Chart(frame[frame["alone"]])
        .mark_rule(strokeWidth=2, opacity=0.45)
        .encode(x=x, y=alt.Y("low:Q").scale(scale).title(""), y2="high:Q", color=colour)
    )
    dash = alt.StrokeDash("arm:N").scale(domain=names, range=[dashes[a] for a in names]).legend(None)
    line = base.mark_line(strokeWidth=2.25).encode(y=y, strokeDash=dash)
    points = base.mark_point(size=52, strokeWidth=1.75, opacity=1).encode(
        y=y,
        shape=shape,
        fill=alt.condition("datum.estimable", colour, alt.value(ink.paper)),
        tooltip=_tooltip(metric),
    )
    target = base.mark_point(size=420, opacity=0, filled=True).encode(y=y, tooltip=_tooltip(metric))
    ends = _ends(frame, names, low, high, height)
    leader, *name = _names(ends, colour, shape, x, scale, ink.text)
    layers = [band, *rims, alone, leader, line, points, *name, target]
    test = frame.iloc[0]
    heading = alt.TitleParams(
        text=title or f"{metric_name(metric)} against number of labels",
        subtitle=_lines(subtitle) if subtitle is not None else _subtitle(frame, test),
    )
    chart = alt.layer(*layers).properties(width=width, height=height, title=heading)
    return configure(chart, theme, fill=width == "container")


def y_domain(frame: pd.DataFrame, metric: str) -> tuple[float, float]:
    """Lowest and highest value shown, intervals included, with room above and below."""
    low = float(frame[["score", "low"]].min().min())
    high = float(frame[["score", "high"]].max().max())
    room = 0.07 * max(high - low, 0.05)
    top = min(high + room, 1 + 0.3 * room) if metric in BOUNDED else high + room
    return round(low - room, 4), round(top, 4)


def _frame(
    scores: pd.DataFrame, counts: dict[int | str, int], metric: str, arms: Sequence[str] | None, per: str, unit: str
) -> pd.DataFrame:
    """The rows to draw, with x positions, words for the tooltip and a key for each unbroken stretch of intervals."""
    frame = scores[(scores["metric"] == metric) & scores["score"].notna()].copy()
    if arms is not None:
        frame = frame[frame["arm"].isin(list(arms))]
    frame["key"] = frame["budget"].map(budget_key)
    frame = frame[frame["key"].isin(list(counts))]
    if frame.empty:
        raise UserError(
            f"no scores to draw for metric '{metric}'",
            "",
            "Choose another metric, or at least one arm that has scores.",
        )
    frame["labels"] = frame["key"].map(counts).astype(int)
    frame = frame.sort_values(["arm", "labels"]).reset_index(drop=True)
    frame["estimable"] = frame["low"].notna() & frame["high"].notna()
    frame["interval"] = [interval(a, b) for a, b in zip(frame["low"], frame["high"], strict=True)]
    frame["budget_words"] = [
        f"{budget_name(k, per)} ({n} {unit}s in total)" for k, n in zip(frame["key"], frame["labels"], strict=True)
    ]
    frame["test"] = [f"{u} {unit}s of {p} patients" for u, p in zip(frame["units"], frame["patients"], strict=True)]
    stretch = (~frame["estimable"]).groupby(frame["arm"]).cumsum()
    runs = (frame["arm"] + " " + stretch.astype(str)).where(frame["estimable"])
    length = runs.map(runs.value_counts())
    frame["alone"] = frame["estimable"] & (length == 1)
    frame["run"] = runs.where(length > 1)
    wanted = ["arm", "labels", "score", "low", "high", "estimable", "run", "alone", "interval", "budget_words"]
    return frame[[*wanted, "draws", "units", "patients", "test"]]


def _tick_labels(counts: dict[int | str, int], low: float, high: float, width: int) -> str:
    """Vega expression: budget on the first line and total below; a total that would touch its neighbour is left out."""
    place = {b: width * math.log(n / low) / math.log(high / low) for b, n in counts.items()}
    shown: list[float] = []
    parts = []
    for budget, n in counts.items():
        half = text_width(f"({n})", 12) / 2
        fits = all(abs(place[budget] - other) > 2 * half + 4 for other in shown)
        shown += [place[budget]] if fits else []
        label = f"['{budget}', '({n})']" if fits else f"['{budget}', '']"
        parts.append(f"datum.value == {n} ? {label} : ")
    return "".join(parts) + "''"


def _x_title(per: str, unit: str) -> str:
    counted = "labels a class" if per == "class" else "labels"
    return f"{counted.capitalize()} (labelled {unit}s in total below), log scale"


def _subtitle(frame: pd.DataFrame, test: Any) -> list[str]:
    what = f"Mean over draws of the labels, on {test['test'].replace(' of ', ' from ')} never used for training."
    if frame["estimable"].all():
        return [what, "Bands: 95 % interval over draws and test patients together."]
    if not frame["estimable"].any():
        return [what, "Open markers: the interval is not estimable."]
    return [what, "Bands: 95 % interval over draws and test patients together. Open markers: not estimable."]


def _tooltip(metric: str) -> list[alt.Tooltip]:
    return [
        alt.Tooltip("arm:N", title="Arm"),
        alt.Tooltip("budget_words:N", title="Labels"),
        alt.Tooltip("score:Q", title=metric_name(metric), format=".3f"),
        alt.Tooltip("interval:N", title="95 % interval"),
        alt.Tooltip("draws:Q", title="Draws"),
        alt.Tooltip("test:N", title="Tested on"),
    ]


def _ends(frame: pd.DataFrame, names: list[str], low: float, high: float, height: int) -> pd.DataFrame:
    """Where each arm's name stands at the right edge: at its last point, moved apart where two would touch."""
    last = frame.sort_values("labels").groupby("arm").tail(1).sort_values("score", ascending=False)
    down = [height * (high - s) / (high - low) for s in last["score"]]  # pixels from the top
    place: list[float] = []
    for pixel in down:
        place.append(max(pixel, place[-1] + LABEL_GAP) if place else pixel)
    excess = place[-1] - height
    for i in range(len(place) - 1, -1, -1):  # pushed past the bottom: move back up as far as needed
        limit = height if i == len(place) - 1 else place[i + 1] - LABEL_GAP
        place[i] = min(place[i], limit) if excess > 0 else place[i]
    ends = last[["arm", "labels", "score", "estimable"]].copy()
    ends["name_at"] = [high - p * (high - low) / height for p in place]
    return ends


def _names(ends: pd.DataFrame, colour: Any, shape: Any, x: Any, scale: alt.Scale, ink: str) -> list[alt.Chart]:
    """Names at the ends of the lines, each with its marker and a thin line to its last point: no legend to look up."""
    y = alt.Y("name_at:Q").scale(scale).title("")
    edge = alt.value("width")
    leader = (
        alt.Chart(ends)
        .mark_rule(strokeWidth=1, opacity=0.5, x2Offset=10)
        .encode(x=x, x2=edge, y=alt.Y("score:Q").scale(scale).title(""), y2="name_at:Q", color=colour)
    )
    marker = (
        alt.Chart(ends)
        .mark_point(size=52, filled=True, opacity=1, xOffset=17)
        .encode(x=edge, y=y, color=colour, shape=shape)
    )
    name = (
        alt.Chart(ends)
        .mark_text(align="left", baseline="middle", fontSize=12.5, dx=26, color=ink)
        .encode(x=edge, y=y, text="arm:N")
    )
    return [leader, marker, name]


def _lines(text: str | Sequence[str]) -> list[str]:
    return [text] if isinstance(text, str) else list(text)
