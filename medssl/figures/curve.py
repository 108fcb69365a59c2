"""The label-efficiency curve: score against number of labels, one line an arm, with interval bands."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import altair as alt
import pandas as pd

from medssl.errors import UserError
from medssl.figures.style import INK, Theme, arm_colours, arm_dashes, arm_shapes, configure, text_width
from medssl.figures.words import SIGNED, budget_key, budget_name, counts_by_budget, interval, metric_name

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
    log: bool = True,
    full: str = "",
    relative_to: str = "",
    everyone: Iterable[str] | None = None,
    domain: tuple[float, float] | None = None,
) -> alt.LayerChart:
    """Score against labels.

    Args:
        scores: `Results.scores()`; an interval that is NaN gets no band, and its marker is open.
        label_counts: `Results.label_counts()`: labeled units in total for each budget.
        metric: which rows of `scores`.
        arms: those to draw; default all. An arm keeps its colour when others are off.
        per: what a budget counts, `class` or `total`.
        unit: what is labeled: `image`, `exam` or `patient`.
        title, subtitle: default: what is drawn, and what band and marker mean.
        width, height: of the plot in pixels; `container` fills the page.
        log: the number of labels on a logarithmic axis.
        full: an arm whose score with the most labels is drawn across, to be measured against.
        relative_to: the scores are differences to this arm (see `relative`), and zero is drawn across.
        everyone: all arms of the experiment, which decide the colours; default those in `scores`.
        domain: (lowest, highest) of the vertical axis, where several charts are to be compared; see `y_domain`.

    Raises:
        UserError: nothing to draw for this metric and these arms.
    """
    known = list(scores["arm"]) if everyone is None else list(everyone)
    colours, shapes, dashes = (of(known) for of in (arm_colours, arm_shapes, arm_dashes))
    counts = counts_by_budget(label_counts)
    frame = _frame(scores, counts, metric, arms, per, unit, sign=bool(relative_to))
    names = [a for a in colours if a in set(frame["arm"])]
    ink = INK[theme]

    across = _across(scores, counts, metric, full, relative_to)
    low, high = domain or y_domain(frame, metric if not relative_to else "", across["score"])
    least, most = min(counts.values()), max(counts.values())
    x_low, x_high = (least * 0.86, most * 1.1) if log else (0.0, most * 1.04)
    x = alt.X("labels:Q").scale(type="log" if log else "linear", domain=[x_low, x_high], nice=False)
    x = x.axis(
        values=list(counts.values()),
        labelExpr=_tick_labels(counts, x_low, x_high, 640 if width == "container" else width, log),
        labelOverlap=False,
        labelLineHeight=15,
        grid=True,
        title=_x_title(per, unit, log),
    )
    scale = alt.Scale(domain=[low, high], nice=False, zero=False)
    y = alt.Y("score:Q").scale(scale)
    if relative_to:
        y = y.axis(tickCount=6, labelExpr=SIGNED, title=f"{metric_name(metric)}, difference to {relative_to}")
    else:
        y = y.axis(tickCount=6, format=".2f", title=metric_name(metric, long=True))
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
        tooltip=_tooltip(metric, relative_to),
    )
    target = base.mark_point(size=420, opacity=0, filled=True).encode(y=y, tooltip=_tooltip(metric, relative_to))
    ends = _ends(frame, names, low, high, height)
    leader, *name = _names(ends, colour, shape, x, scale, ink.text)
    layers = [*_lines_across(across, scale, ink.text), band, *rims, alone, leader, line, points, *name, target]
    test = frame.iloc[0]
    drawn = f"{metric_name(metric)} against number of labels"
    heading = alt.TitleParams(
        text=title or (f"{drawn}: difference to {relative_to}" if relative_to else drawn),
        subtitle=_lines(subtitle) if subtitle is not None else _subtitle(frame, test),
    )
    chart = alt.layer(*layers).properties(width=width, height=height, title=heading)
    return configure(chart, theme, fill=width == "container")


def y_domain(frame: pd.DataFrame, metric: str, also: Iterable[float] = ()) -> tuple[float, float]:
    """Lowest and highest value shown, intervals included, with room above and below.

    Args:
        frame: columns `score`, `low` and `high`.
        metric: one that is bounded gets no room far beyond its bound.
        also: other values that must be seen.
    """
    low = min([float(frame[["score", "low"]].min().min()), *also])
    high = max([float(frame[["score", "high"]].max().max()), *also])
    room = 0.07 * max(high - low, 0.05)
    top = min(high + room, 1 + 0.3 * room) if metric in BOUNDED else high + room
    return round(low - room, 4), round(top, 4)


def _frame(
    scores: pd.DataFrame,
    counts: dict[int | str, int],
    metric: str,
    arms: Sequence[str] | None,
    per: str,
    unit: str,
    sign: bool = False,
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
    frame["interval"] = [interval(a, b, sign) for a, b in zip(frame["low"], frame["high"], strict=True)]
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


def _across(
    scores: pd.DataFrame, counts: dict[int | str, int], metric: str, full: str, relative_to: str
) -> pd.DataFrame:
    """Lines that are drawn across, `score` and `words`: an arm with the most labels, or zero."""
    if relative_to:
        return pd.DataFrame({"score": [0.0], "words": [""]})
    most = list(counts)[-1]
    keys = scores["budget"].map(budget_key)
    found = scores[(scores["arm"] == full) & (scores["metric"] == metric) & (keys == most) & scores["score"].notna()]
    words = f"{full} with {'all' if most == 'all' else most} labels"
    return pd.DataFrame({"score": found["score"].astype(float), "words": words})


def _lines_across(across: pd.DataFrame, scale: alt.Scale, ink: str) -> list[alt.Chart]:
    y = alt.Y("score:Q").scale(scale).title("")
    rule = alt.Chart(across).mark_rule(color=ink, strokeWidth=1.25, strokeDash=[5, 4], opacity=0.75).encode(y=y)
    words = alt.Chart(across).mark_text(color=ink, align="left", baseline="bottom", dx=6, dy=-3, fontSize=11.5)
    return [rule, words.encode(x=alt.value(0), y=y, text="words:N")] if len(across) else []


def _tick_labels(counts: dict[int | str, int], low: float, high: float, width: int, log: bool) -> str:
    """Vega expression: budget on the first line and total below; what would touch its neighbour is left out, first the
    total, then, where small budgets crowd on a linear axis, the smaller budget."""

    def place(n: int) -> float:
        share = math.log(n / low) / math.log(high / low) if log else (n - low) / (high - low)
        return width * share

    totals: list[float] = []
    budgets: list[float] = []
    parts = []
    for budget, n in sorted(counts.items(), key=lambda item: item[1], reverse=not log):
        at, half = place(n), text_width(f"({n})", 12) / 2
        fits = all(abs(at - other) > 2 * half + 4 for other in totals)
        named = log or all(abs(at - other) > text_width(str(budget), 12) + 6 for other in budgets)
        totals += [at] if fits else []
        budgets += [at] if named else []
        label = f"['{budget}', '({n})']" if fits and named else f"['{budget}', '']" if named else "''"
        parts.append(f"datum.value == {n} ? {label} : ")
    return "".join(parts) + "''"


def _x_title(per: str, unit: str, log: bool) -> str:
    counted = "labels a class" if per == "class" else "labels"
    return f"{counted.capitalize()} (labeled {unit}s in total below){', log scale' if log else ''}"


def _subtitle(frame: pd.DataFrame, test: Any) -> list[str]:
    what = f"Mean over draws of the labels, on {test['test'].replace(' of ', ' from ')} never used for training."
    if frame["estimable"].all():
        return [what, "Bands: 95 % interval over draws and test patients together."]
    if not frame["estimable"].any():
        return [what, "Open markers: the interval is not estimable."]
    return [what, "Bands: 95 % interval over draws and test patients together. Open markers: not estimable."]


def _tooltip(metric: str, relative_to: str) -> list[alt.Tooltip]:
    of, signed = (f"Difference to {relative_to}", "+.3f") if relative_to else (metric_name(metric), ".3f")
    return [
        alt.Tooltip("arm:N", title="Arm"),
        alt.Tooltip("budget_words:N", title="Labels"),
        alt.Tooltip("score:Q", title=of, format=signed),
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
