"""Colours, marker shapes and typography that all charts share."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

Theme = Literal["light", "dark"]

# Eight hues that stay apart (CIELAB distance over 16) for normal, deutan, protan and tritan sight by the model of
# Machado, Oliveira and Fernandes (2009), and that show on white as on near-black (contrast over 2.6). The usual arms
# have their own; a name that is not listed takes the colour that its hash points at, or the next one that is free.
PALETTE = {
    "simclr": "#1f6fd0",
    "scratch": "#a8243c",
    "imagenet": "#d98200",
    "rotation": "#0f8f62",
    "inpainting": "#844890",
    "imagenet_simclr": "#24a8e4",
    "random": "#b49c60",
    "pixels": "#6f7780",
}
SHAPES = {
    "simclr": "circle",
    "scratch": "square",
    "imagenet": "diamond",
    "rotation": "triangle-up",
    "inpainting": "triangle-down",
    "imagenet_simclr": "cross",
    "random": "triangle-right",
    "pixels": "triangle-left",
}
_NAMES = list(PALETTE)
DASHES = ([1, 0], [7, 4], [2, 3], [9, 3, 2, 3])

FONT = "'Source Sans', 'Source Sans 3', 'Helvetica Neue', Helvetica, Arial, 'Liberation Sans', sans-serif"


@dataclass(frozen=True)
class Ink:
    """Colours of everything in a chart that is not data."""

    paper: str
    text: str
    muted: str
    grid: str
    axis: str


INK: dict[Theme, Ink] = {
    "light": Ink(paper="#ffffff", text="#1d2733", muted="#5a6673", grid="#e7eaee", axis="#aab3bd"),
    "dark": Ink(paper="#11151b", text="#e8ebef", muted="#a3adb8", grid="#2a313b", axis="#5b6672"),
}


def arm_colours(names: Iterable[str]) -> dict[str, str]:
    """A colour for each arm, the same in every figure, table and page of an experiment.

    Args:
        names: all arms of the experiment, not only those shown: arms whose hashes point at one colour part ways here.
            More than eight share colours, and are told apart by `arm_shapes` and `arm_dashes`.
    """
    return {name: PALETTE[slot] for name, (slot, _) in _slots(names).items()}


def arm_shapes(names: Iterable[str]) -> dict[str, str]:
    """A marker shape for each arm, for those who see no colour; another one where a colour is shared."""
    shift = {name: (_NAMES.index(slot) + 3 * turn) % len(_NAMES) for name, (slot, turn) in _slots(names).items()}
    return {name: SHAPES[_NAMES[place]] for name, place in shift.items()}


def arm_dashes(names: Iterable[str]) -> dict[str, list[int]]:
    """A dash pattern (pixels drawn, pixels left out) for each arm: solid for the first of a colour."""
    return {name: DASHES[turn % len(DASHES)] for name, (_, turn) in _slots(names).items()}


def _slots(names: Iterable[str]) -> dict[str, tuple[str, int]]:
    """Arm -> (key of PALETTE, how many arms had it before): listed names their own, others one that is free, by hash.

    Where none is free, an arm shares the colour of the listed name that it begins with (`simclr_probe`: simclr).
    """
    unique = sorted(set(names))
    taken = {name: (name, 0) for name in unique if name in PALETTE}
    free = [slot for slot in _NAMES if slot not in taken]
    turns = dict.fromkeys(_NAMES, 1)
    for name in (n for n in unique if n not in PALETTE):
        first = int(hashlib.sha256(name.encode()).hexdigest(), 16) % len(_NAMES)
        around = _NAMES[first:] + _NAMES[:first]
        if free:
            slot = next(s for s in around if s in free)
            free.remove(slot)
            taken[name] = (slot, 0)
        else:
            family = max((s for s in _NAMES if name.startswith(f"{s}_")), key=len, default=around[0])
            taken[name] = (family, turns[family])
            turns[family] += 1
    return {name: taken[name] for name in unique}


def configure(chart: Any, theme: Theme, fill: bool = False) -> Any:
    """The house's typography on a top-level chart.

    Args:
        fill: the chart takes the width of the page; its height stays that of the plot, whatever title and axes need.
    """
    ink = INK[theme]
    if fill:
        chart = chart.properties(autosize={"type": "fit-x", "contains": "padding"})
    return (
        chart.properties(background=ink.paper, padding={"left": 8, "top": 10, "right": 12, "bottom": 8})
        .configure(font=FONT)
        .configure_view(stroke=None)
        .configure_axis(
            labelColor=ink.muted,
            titleColor=ink.text,
            labelFontSize=12,
            titleFontSize=12.5,
            titleFontWeight=500,
            titlePadding=10,
            labelPadding=6,
            gridColor=ink.grid,
            domainColor=ink.axis,
            tickColor=ink.axis,
        )
        .configure_title(
            color=ink.text,
            subtitleColor=ink.muted,
            fontSize=16,
            fontWeight=600,
            subtitleFontSize=12,
            subtitleLineHeight=16,
            subtitlePadding=6,
            anchor="start",
            offset=16,
        )
        .configure_legend(
            labelColor=ink.text,
            titleColor=ink.muted,
            labelFontSize=12,
            titleFontSize=12,
            titleFontWeight=500,
            labelLimit=260,
            symbolStrokeWidth=2,
        )
        .configure_header(labelColor=ink.text, labelFontSize=13, labelFontWeight=600)
    )


def text_width(text: str, size: float = 12) -> float:
    """Pixels that a line of text takes, roughly and rather too many."""
    return 0.53 * size * len(text)
