"""The map of a cohort's scans under an encoder, and how well facts can be read from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import altair as alt
import pandas as pd

from medssl.figures.style import INK, PALETTE, SHAPES, Theme, configure
from medssl.figures.words import interval

NOT_KNOWN, OTHERS = "not known", "others"
GRAY = "#9aa3ad"
PICK = "pick"  # name of the selection: the scan that was clicked at


def embedding_map(
    frame: pd.DataFrame,
    fact: str,
    *,
    axes: tuple[str, str] = ("First axis", "Second axis"),
    chosen: str | None = None,
    title: str = "",
    subtitle: str | Sequence[str] | None = None,
    width: int | Literal["container"] = 640,
    height: int = 480,
    theme: Theme = "light",
) -> alt.LayerChart:
    """A point a scan.

    Args:
        frame: columns `x, y, value, scan, patient`; `value` is a word or None, `scan` and `patient` are keys.
        fact: what `value` is. The eight most frequent values have colours and shapes of their own, in a fixed order.
        axes: titles.
        chosen: a scan that is ringed.
    """
    frame, names = _with_groups(frame)
    ink = INK[theme]
    slots = [name for name in PALETTE if name != "pixels"]
    colours = [GRAY if n in (NOT_KNOWN, OTHERS) else PALETTE[slots[i % len(slots)]] for i, n in enumerate(names)]
    shapes = ["circle" if n in (NOT_KNOWN, OTHERS) else SHAPES[slots[i % len(slots)]] for i, n in enumerate(names)]
    legend = alt.Legend(title=None, orient="top", direction="horizontal", columns=4, symbolSize=70, offset=8)
    plain = alt.Axis(labels=False, ticks=False, grid=False, domain=False)
    x = alt.X("x:Q").scale(domain=_span(frame["x"]), nice=False, zero=False).axis(plain).title(axes[0])
    y = alt.Y("y:Q").scale(domain=_span(frame["y"]), nice=False, zero=False).axis(plain).title(axes[1])
    pick = alt.selection_point(name=PICK, fields=["scan"], on="click", nearest=True, empty=False)
    points = (
        alt.Chart(frame)
        .mark_point(filled=True, size=26 if len(frame) > 1500 else 42, opacity=0.75 if theme == "light" else 1)
        .encode(
            x=x,
            y=y,
            color=alt.Color("group:N", legend=legend).scale(domain=names, range=colours),
            shape=alt.Shape("group:N", legend=legend).scale(domain=names, range=shapes),
            order=alt.Order("rank:Q"),
            tooltip=[
                alt.Tooltip("shown:N", title=fact[:1].upper() + fact[1:]),
                alt.Tooltip("scan:N", title="Scan"),
                alt.Tooltip("patient:N", title="Patient (key)"),
            ],
        )
        .add_params(pick)
    )
    ring = alt.Chart(frame[frame["scan"] == chosen]).mark_point(size=260, strokeWidth=2.5, color=ink.text, opacity=1)
    layers = alt.layer(points, ring.encode(x=x, y=y))
    heading = alt.TitleParams(text=title, subtitle=subtitle if subtitle is not None else "")
    chart = layers.properties(width=width, height=height, **({"title": heading} if title else {}))
    return configure(chart, theme, fill=width == "container")


def readings(
    table: pd.DataFrame,
    *,
    title: str = "",
    width: int | Literal["container"] = 640,
    theme: Theme = "light",
) -> alt.LayerChart:
    """AUC and interval of each fact, with a line at chance.

    Args:
        table: columns `fact, auc, low, high, kind, values, scans, patients`; `kind` is `label`, `anatomy` or
            `scanner`.
    """
    ink = INK[theme]
    table = table.assign(interval=[interval(a, b) for a, b in zip(table["low"], table["high"], strict=True)])
    low = min(0.45, float(table["low"].min()) - 0.02)
    scale = alt.Scale(domain=[low, 1.0], nice=False, zero=False)
    x_axis = alt.Axis(tickCount=6, format=".1f", title="AUC of a probe; the line is chance")
    x = alt.X("auc:Q").scale(scale).axis(x_axis)
    y = alt.Y("fact:N").sort(None).axis(title=None, labelLimit=220, ticks=False, domain=False, labelColor=ink.text)
    looks = {"label": ("simclr", "circle"), "anatomy": ("rotation", "square"), "scanner": ("imagenet", "diamond")}
    kinds = [kind for kind in looks if kind in set(table["kind"])]
    legend = alt.Legend(title=None, orient="top", symbolSize=70, offset=6)
    colour = alt.Color("kind:N", legend=legend).scale(domain=kinds, range=[PALETTE[looks[k][0]] for k in kinds])
    shape = alt.Shape("kind:N", legend=legend).scale(domain=kinds, range=[looks[k][1] for k in kinds])
    tips = [
        alt.Tooltip("fact:N", title="Fact"),
        alt.Tooltip("auc:Q", title="AUC", format=".3f"),
        alt.Tooltip("interval:N", title="95 % interval"),
        alt.Tooltip("values:N", title="Told apart"),
        alt.Tooltip("scans:Q", title="Scans"),
        alt.Tooltip("patients:Q", title="Patients"),
    ]
    base = alt.Chart(table)
    rule = alt.Chart(pd.DataFrame({"x": [0.5]})).mark_rule(color=ink.muted, strokeDash=[4, 3])
    chart = alt.layer(
        rule.encode(x=alt.X("x:Q").scale(scale).axis(x_axis)),
        base.mark_rule(strokeWidth=2.5).encode(
            x=alt.X("low:Q").scale(scale).axis(x_axis), x2="high:Q", y=y, color=colour
        ),
        base.mark_point(filled=True, size=90, opacity=1).encode(x=x, y=y, color=colour, shape=shape, tooltip=tips),
    )
    heading = alt.TitleParams(text=title)
    chart = chart.properties(width=width, height=34 * len(table), **({"title": heading} if title else {}))
    return configure(chart, theme, fill=width == "container")


def _with_groups(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """With `group` (its value, or one of the gray ones), `shown`, and `rank`: gray points lie below the others."""
    slots = len(PALETTE) - 1
    counts = frame["value"].value_counts()
    own = sorted(counts.index[:slots] if len(counts) > slots else counts.index, key=_order)
    group = [NOT_KNOWN if v is None or v != v else v if v in own else OTHERS for v in frame["value"]]
    names = [*own, *(n for n in (OTHERS, NOT_KNOWN) if n in set(group))]
    rank = {name: int(name not in (OTHERS, NOT_KNOWN)) for name in names}
    shown = [NOT_KNOWN if v is None or v != v else v for v in frame["value"]]
    return frame.assign(group=group, shown=shown, rank=[rank[g] for g in group]), names


def _order(name: Any) -> tuple[float, str]:
    """Values that begin with a number in its order, the others by name."""
    try:
        return float(str(name).split()[0]), str(name)
    except (ValueError, IndexError):
        return float("inf"), str(name)


def _span(values: pd.Series) -> list[float]:
    low, high = float(values.min()), float(values.max())
    room = 0.04 * (high - low) or 1.0
    return [low - room, high + room]
