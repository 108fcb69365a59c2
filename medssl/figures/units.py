"""How one arm errs: confusion, ROC and calibration; and what every arm and draw said of one unit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import altair as alt
import pandas as pd

from medssl.figures.style import INK, Theme, arm_colours, arm_shapes, configure
from medssl.figures.words import interval

Width = int | Literal["container"]
LETTERS = 14  # letters of all classes that fit side by side below a narrow matrix
SHARES = alt.Scale(domain=[0, 1], nice=False)


def confusion_matrix(
    table: pd.DataFrame, *, title: str = "", width: Width = 300, height: int = 260, theme: Theme = "light"
) -> alt.LayerChart:
    """Truth down, prediction across; the mean number of units and its share of the class, darker for more.

    Args:
        table: of `medssl.statistics.units.confusion`.
    """
    ink = INK[theme]
    table = table.assign(text=[f"{u:.1f}".removesuffix(".0") for u in table["units"]])
    names = list(dict.fromkeys(table["truth"]))
    slant = -30 if sum(map(len, names)) > LETTERS else 0
    x = alt.X("predicted:N").scale(domain=names).axis(title="Predicted", labelAngle=slant, ticks=False, domain=False)
    y = alt.Y("truth:N").scale(domain=names).axis(title="Truth", ticks=False, domain=False)
    ends = ["#edf2f8", "#1f6fd0"] if theme == "light" else ["#1b2430", "#4d95ea"]
    tips = [
        alt.Tooltip("truth:N", title="Truth"),
        alt.Tooltip("predicted:N", title="Predicted"),
        alt.Tooltip("units:Q", title="Units a draw", format=".1f"),
        alt.Tooltip("share:Q", title="Of the class", format=".1%"),
    ]
    base = alt.Chart(table).encode(x=x, y=y)
    boxes = base.mark_rect().encode(
        color=alt.Color("share:Q", legend=None).scale(domain=[0, 1], range=ends), tooltip=tips
    )
    turned = ("#ffffff", 0.55) if theme == "light" else ("#10151c", 0.75)  # ink of full cells, and from where on
    ink_of = alt.condition(f"datum.share > {turned[1]}", alt.value(turned[0]), alt.value(ink.text))
    count = base.mark_text(fontSize=12.5, dy=-8).encode(text="text:N", color=ink_of)
    share = base.mark_text(fontSize=11.5, dy=9).encode(text=alt.Text("share:Q", format=".0%"), color=ink_of)
    return _finished(alt.layer(boxes, count, share), title, width, height, theme)


def roc_curve(
    table: pd.DataFrame,
    colour: str,
    *,
    axes: tuple[str, str] = ("False-positive rate", "Sensitivity"),
    title: str = "",
    width: Width = 300,
    height: int = 260,
    theme: Theme = "light",
) -> alt.LayerChart:
    """Sensitivity against false-positive rate, mean and range over draws.

    Args:
        table: of `medssl.statistics.units.roc`.
        colour: of the arm.
    """
    base = alt.Chart(table)
    x = alt.X("false_positive:Q").scale(SHARES).axis(title=axes[0], tickCount=5, format=".1f")
    y = alt.Y("sensitivity:Q").scale(SHARES).axis(title=axes[1], tickCount=5, format=".1f")
    tips = [
        alt.Tooltip("false_positive:Q", title="False positives", format=".0%"),
        alt.Tooltip("sensitivity:Q", title="Sensitivity", format=".1%"),
        alt.Tooltip("low:Q", title="Least of a draw", format=".1%"),
        alt.Tooltip("high:Q", title="Most of a draw", format=".1%"),
    ]
    band = base.mark_area(opacity=0.18, color=colour).encode(x=x, y=alt.Y("low:Q").scale(SHARES).title(""), y2="high:Q")
    line = base.mark_line(color=colour, strokeWidth=2.25).encode(x=x, y=y)
    touch = base.mark_point(size=120, opacity=0, filled=True).encode(x=x, y=y, tooltip=tips)
    return _finished(alt.layer(_diagonal(theme), band, line, touch), title, width, height, theme)


def calibration_curve(
    table: pd.DataFrame, colour: str, *, title: str = "", width: Width = 300, height: int = 260, theme: Theme = "light"
) -> alt.LayerChart:
    """Observed share against predicted probability; the larger the point, the more units.

    Args:
        table: of `medssl.statistics.units.calibration`.
    """
    table = table.assign(interval=[interval(a, b) for a, b in zip(table["low"], table["high"], strict=True)])
    base = alt.Chart(table)
    x = alt.X("predicted:Q").scale(SHARES).axis(title="Predicted probability", tickCount=5, format=".1f")
    y = alt.Y("observed:Q").scale(SHARES).axis(title="Observed share", tickCount=5, format=".1f")
    tips = [
        alt.Tooltip("predicted:Q", title="Predicted", format=".2f"),
        alt.Tooltip("observed:Q", title="Observed", format=".2f"),
        alt.Tooltip("interval:N", title="95 % interval"),
        alt.Tooltip("units:Q", title="Units a draw", format=".1f"),
    ]
    whisker = base.mark_rule(color=colour, strokeWidth=1.75, opacity=0.6)
    line = base.mark_line(color=colour, strokeWidth=1.5, opacity=0.7)
    size = alt.Size("units:Q", legend=None).scale(range=[30, 220], zero=True)
    layers = alt.layer(
        _diagonal(theme),
        whisker.encode(x=x, y=alt.Y("low:Q").scale(SHARES).title(""), y2="high:Q"),
        line.encode(x=x, y=y),
        base.mark_point(filled=True, color=colour, opacity=1).encode(x=x, y=y, size=size, tooltip=tips),
    )
    return _finished(layers, title, width, height, theme)


def unit_strip(
    table: pd.DataFrame, arms: Sequence[str], truth: str, *, title: str = "", width: Width = 480, theme: Theme = "light"
) -> alt.LayerChart:
    """The probability of the true class by arm: a point a draw, a bar at their mean.

    Args:
        table: of `medssl.statistics.units.scores_of_unit`.
        arms: all of the experiment, for their colours.
        truth: the true class.
    """
    ink = INK[theme]
    table = table[table["cls"] == truth]
    names = [a for a in arms if a in set(table["arm"])]
    colours, shapes = arm_colours(arms), arm_shapes(arms)
    colour = alt.Color("arm:N", legend=None).scale(domain=names, range=[colours[a] for a in names])
    shape = alt.Shape("arm:N", legend=None).scale(domain=names, range=[shapes[a] for a in names])
    x = alt.X("score:Q").scale(SHARES).axis(title=f"Probability of the truth, {truth}", tickCount=5, format=".1f")
    y = (
        alt.Y("arm:N")
        .scale(domain=names)
        .axis(title=None, ticks=False, domain=False, labelColor=ink.text, labelLimit=180)
    )
    tips: list[Any] = [
        alt.Tooltip("arm:N", title="Arm"),
        alt.Tooltip("draw:Q", title="Draw"),
        alt.Tooltip("score:Q", title="Probability", format=".3f"),
    ]
    means = table.groupby("arm", as_index=False)["score"].mean()
    layers = alt.layer(
        alt.Chart(table)
        .mark_point(size=46, filled=True, opacity=0.55)
        .encode(x=x, y=y, color=colour, shape=shape, tooltip=tips),
        alt.Chart(means).mark_tick(thickness=3, size=20, opacity=1).encode(x=x, y=y, color=colour),
    )
    return _finished(layers, title, width, 26 * len(names), theme)


def _diagonal(theme: Theme) -> alt.Chart:
    frame = pd.DataFrame({"a": [0.0, 1.0], "b": [0.0, 1.0]})
    line = alt.Chart(frame).mark_line(color=INK[theme].muted, strokeDash=[4, 3], strokeWidth=1)
    return line.encode(x=alt.X("a:Q").scale(SHARES).title(""), y=alt.Y("b:Q").scale(SHARES).title(""))


def _finished(chart: Any, title: str, width: Width, height: int, theme: Theme) -> Any:
    if title:
        chart = chart.properties(title=alt.TitleParams(title, fontSize=13, offset=8))
    return configure(chart.properties(width=width, height=height), theme, fill=width == "container")
