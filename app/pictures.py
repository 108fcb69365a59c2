"""Small pictures in pages: panels of pretext tasks as they were seen, side by side, each with its caption."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from typing import Any, Literal

import streamlit as st

from medssl.figures import panel_png

Kind = Literal["", "helps", "hurts"]  # green, or red
LARGEST = 176  # pixels a side of a panel in a row


class Panels:
    """One row of pictures, encoded once.

    Attributes:
        images: PNG as data URLs.
        captions: one an image.
        ratio: width of the widest image by its height.
    """

    def __init__(self, panels: Sequence[Any], captions: Sequence[str]) -> None:
        self.images = [url(panel) for panel in panels]
        self.captions = list(captions)
        self.ratio = max((panel.shape[-1] / panel.shape[-2] for panel in panels), default=1.0)


def url(panel: Any) -> str:
    """A panel, (C, H, W) in [0, 1], as a data URL: nothing about it is asked of the server again."""
    return "data:image/png;base64," + b64encode(panel_png(panel)).decode()


def rows(shown: Sequence[Panels]) -> None:
    """Rows below each other, panels in columns; pixels stay sharp, since they are what the network saw."""
    columns = max(len(row.images) for row in shown)
    cells = ""
    for row in shown:
        for image, caption in zip(row.images, row.captions, strict=True):
            words = escape(caption)
            cells += f'<figure><img src="{image}" alt="{words}"><figcaption>{words}</figcaption></figure>'
        cells += "<span></span>" * (columns - len(row.images))
    grid = f"grid-template-columns: repeat({columns}, minmax(0, {LARGEST}px))"
    st.html(f'<div class="m-rows" style="{grid}">{cells}</div>')


def image(data: str, caption: str, width: int, kind: Kind = "", alt: str = "") -> None:
    """One picture, drawn smoothly and at most so many pixels wide, as a person looks at it."""
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    picture = f'<img src="{data}" alt="{escape(alt or caption)}">'
    st.html(f'<figure class="m-image {kind}" style="max-width: {width}px">{picture}{below}</figure>')
