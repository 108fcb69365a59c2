"""Thumbnails in a grid, and downloads of charts: what the pages on scans share."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from html import escape
from typing import Any, NamedTuple

import streamlit as st

from medssl.cohort import Cohort, Samples, browse
from medssl.experiment import pictures
from medssl.figures import to_png, to_svg

THUMB = 132  # pixels that a thumbnail takes on the page; drawn at twice as many

CSS = """
<style>
.m-thumbs { display: grid; grid-template-columns: repeat(auto-fill, minmax(132px, 1fr)); gap: .9rem .8rem; }
.m-thumbs.pairs { grid-template-columns: repeat(auto-fill, minmax(276px, 1fr)); }
.m-pair { display: grid; grid-template-columns: 1fr 1fr; gap: .4rem; min-width: 0; }
.m-thumbs.small { grid-template-columns: repeat(auto-fill, minmax(84px, 1fr)); gap: .5rem; }
.m-thumbs figure { margin: 0; min-width: 0; }
.m-thumbs img, .m-scan img { display: block; width: 100%; aspect-ratio: 1; border-radius: 4px; background: #000; }
.m-thumbs figure.ring img { outline: 3px solid #1f6fd0; outline-offset: 2px; }
.m-thumbs figcaption { font-size: .82rem; line-height: 1.3; padding-top: .3rem; overflow-wrap: anywhere; }
.m-thumbs figcaption small { display: block; font-size: .76rem;
  color: color-mix(in srgb, currentColor 66%, transparent); }
.m-thumbs .bad { color: #c23a55; font-weight: 600; }
.m-scan { max-width: 420px; }
@media (prefers-color-scheme: dark) { .m-thumbs .bad { color: #ef7a90; } }
</style>
"""


class Thumb(NamedTuple):
    """A picture (PNG), a line under it, smaller lines, and whether it is ringed or its first line stands out."""

    png: bytes
    line: str
    small: Sequence[str] = ()
    ring: bool = False
    bad: bool = False


def thumbs(items: Sequence[Thumb], small: bool = False) -> None:
    """A grid as wide as the page."""
    cells = "".join(_figure(thumb) for thumb in items)
    st.html(f'{CSS}<div class="m-thumbs{" small" if small else ""}">{cells}</div>')


def pairs(items: Sequence[tuple[Thumb, Thumb]]) -> None:
    """The same of two that belong together; no line ends between them."""
    cells = "".join(f'<div class="m-pair">{_figure(one)}{_figure(other)}</div>' for one, other in items)
    st.html(f'{CSS}<div class="m-thumbs pairs">{cells}</div>')


def scan(png: bytes, alt: str) -> None:
    """One picture, large."""
    st.html(f'{CSS}<div class="m-scan"><img src="{_src(png)}" alt="{escape(alt)}"></div>')


@st.cache_data(max_entries=4000, show_spinner=False)
def thumbnail(folder: str, key: str, place: int, veil: bool, _cohort: Cohort, _samples: Samples) -> bytes:
    """PNG of a sample, drawn once; `folder` and the samples' `key` stand for cohort and samples."""
    return pictures.to_png(pictures.picture(_cohort, _samples, place, 2 * THUMB, veil))


def draw_thumbnail(cohort: Cohort, samples: Samples, place: int) -> bytes:
    """The same, blurred where its pixels may name the patient."""
    return thumbnail(str(cohort.path), samples.key, place, veiled(cohort, samples, place), cohort, samples)


def veiled(cohort: Cohort, samples: Samples, place: int) -> bool:
    """Whether the pixels of a sample may carry burned-in text."""
    found = browse.rows_of(cohort, [str(samples.table["scan"].iloc[place])])
    return bool(found and found[0]["veiled"])


def downloads(name: str, files: Sequence[tuple[str, str, Callable[[], Any]]]) -> None:
    """Buttons whose files are made when they are asked for.

    Args:
        name: files begin with it.
        files: label, ending (csv, png, svg), and what makes a frame (csv) or a chart.
    """
    mimes = {"csv": "text/csv", "png": "image/png", "svg": "image/svg+xml"}
    makers: dict[str, Callable[[Any], str | bytes]] = {
        "csv": lambda f: f.to_csv(index=False),
        "png": to_png,
        "svg": to_svg,
    }
    with st.container(horizontal=True):
        for label, ending, make in files:
            file = f"{name}-{label.split(',')[0].lower().replace(' ', '-')}.{ending}"

            def content(make: Callable[[], Any] = make, ending: str = ending) -> str | bytes:
                return makers[ending](make())

            st.download_button(label, content, file, mimes[ending], key=f"download {name} {label}", on_click="ignore")


def short(key: str) -> str:
    """The first digits of a key: enough to tell scans of a page apart."""
    return key.rpartition("/")[2][:9]


def _src(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _figure(thumb: Thumb) -> str:
    line = f'<span class="bad">{escape(thumb.line)}</span>' if thumb.bad else escape(thumb.line)
    words = f"<figcaption>{line}{''.join(f'<small>{escape(s)}</small>' for s in thumb.small)}</figcaption>"
    ring = ' class="ring"' if thumb.ring else ""
    image = (
        f'<img src="{_src(thumb.png)}" alt="{escape(f"Scan, {thumb.line}" if thumb.line else "Scan")}" loading="lazy">'
    )
    return f"<figure{ring}>{image}{words if thumb.line else ''}</figure>"
