"""Scans of a cohort: pages of small pictures with filters, and a viewer with slices, windows and masks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import parts
import state
import streamlit as st

from medssl.cohort import Cohort, browse, viewing
from medssl.cohort.browse import Filter
from medssl.cohort.rendering import is_volume, slice_position
from medssl.cohort.splits import Split
from medssl.cohort.summary import Summary, product
from medssl.errors import MedsslError

PAGE, COLUMNS = 24, 6
PLANES = ["axial", "coronal", "sagittal"]
ANY = ""
VEIL = "Its pixels may carry burned-in text, which may name the patient. The picture is blurred."


def show(cohort: Cohort, counted: Summary) -> None:
    wanted = _filters(cohort, counted)
    if st.query_params.get("scan"):
        _viewer(cohort, counted, wanted, st.query_params["scan"])
    else:
        _grid(cohort, wanted)


def strip(cohort: Cohort, rows: list[dict[str, Any]], width: int = 96) -> None:
    """Small pictures side by side."""
    with st.container(horizontal=True, gap="small"):
        for picture in (_small(cohort, row) for row in rows):
            if picture is not None:
                st.image(picture, width=width)


def open_scan(scan: str, at: int | None = None) -> None:
    """Show this scan in the viewer (for a button's `on_click`)."""
    state.go({"show": "Scans", "scan": scan, "at": None if at is None else str(at), "slice": None})


def _filters(cohort: Cohort, counted: Summary) -> Filter:
    """Choices that stand in the URL; a filter that would have one choice is not shown."""
    modalities = list(dict.fromkeys(part.modality for part in counted.parts))
    vendors = list(dict.fromkeys(v for part in counted.parts for v in part.vendors))
    said = {f["code"]: f"{f['sentence']} ({f['scans']:,})" for f in counted.findings if f["scans"]}
    labels = [f"{target}: {row['value']}" for target, rows in counted.classes.items() for row in rows]
    choices: list[tuple[str, str, list[str], Callable[[str], str]]] = [
        ("modality", "Modality", modalities, str),
        ("vendor", "Vendor", vendors, str),
        ("label", "Label", labels, str),
        ("finding", "Finding", list(said), lambda code: said.get(code, code)),
    ]
    chosen = dict.fromkeys(("modality", "vendor", "label", "finding"), ANY)
    offered = [c for c in choices if len(c[2]) > 1 or (c[0] == "finding" and c[2])]
    for place, (key, name, options, words) in zip(st.columns(max(2, len(offered))), offered, strict=False):
        everything: list[str] = [ANY, *options]
        widget, forget = state.linked(key, everything, ANY), ("page", "scan", "at")
        shown = partial(_or_all, words)
        with place:
            picked = st.selectbox(
                name, everything, key=widget, format_func=shown, on_change=state.link, args=(key, ANY, forget)
            )
        chosen[key] = str(picked)
    target, _, value = chosen["label"].partition(": ")
    return Filter(chosen["modality"], chosen["vendor"], chosen["finding"], target, value)


def _or_all(words: Callable[[str], str], value: str) -> str:
    return words(value) if value else "all"


def _grid(cohort: Cohort, wanted: Filter) -> None:
    total = state.once_of(cohort, ("count", wanted), lambda: browse.count(cohort, wanted))
    if not total:
        parts.empty(state.Problem("No scan passes these filters.", "Set one of them to “all”."))
        return
    last = (total + PAGE - 1) // PAGE
    key = state.linked("page", [1, last], 1)
    number = int(st.session_state[key])
    rows = browse.page(cohort, wanted, (number - 1) * PAGE, PAGE)
    for start in range(0, len(rows), COLUMNS):
        for offset, place in enumerate(st.columns(COLUMNS, gap="small")):
            if start + offset < len(rows):
                with place:
                    _tile(cohort, rows[start + offset], (number - 1) * PAGE + start + offset)
    if any(row["veiled"] for row in rows):
        st.caption("Blurred: the pixels may carry burned-in text.")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.button("Previous", disabled=number == 1, on_click=state.go, args=({"page": str(number - 1)},))
        if last > 1:
            st.number_input(f"Page, of {last:,}", 1, last, key=key, on_change=state.link, args=("page", 1), width=140)
        st.button("Next", disabled=number == last, on_click=state.go, args=({"page": str(number + 1)},))
        st.caption(f"{total:,} scan{'' if total == 1 else 's'}")


def _tile(cohort: Cohort, row: dict[str, Any], at: int) -> None:
    small = _small(cohort, row)
    if small is None:
        st.caption("The picture is gone.")
    else:
        st.image(small, width="stretch")
    st.button(row["scan"][:9], key=f"tile {row['scan']}", on_click=open_scan, args=(row["scan"], at), width="stretch")


def _small(cohort: Cohort, row: dict[str, Any]) -> bytes | None:
    try:
        return viewing.thumbnail(cohort, row, row["veiled"])
    except (MedsslError, OSError, ValueError):
        state.LOG.exception("no small picture of a scan of %s", cohort.name)
        return None


def _viewer(cohort: Cohort, counted: Summary, wanted: Filter, scan: str) -> None:
    found = browse.rows_of(cohort, [scan])
    back = {"scan": None, "at": None, "slice": None}
    with st.container(horizontal=True):
        st.button("All scans", on_click=state.go, args=(back,))
        _neighbours(cohort, wanted)
    if not found:
        parts.empty(state.Problem("This scan is not in the cohort.", "It was removed or replaced: see all scans."))
        return
    row = found[0]
    left, right = st.columns([5, 3], gap="large")
    with right:
        plane, index, window, mask = _controls(cohort, row)
    with left:
        _picture(cohort, row, plane, index, window, mask)
    with right:
        _about(cohort, counted, row, plane, index)


def _neighbours(cohort: Cohort, wanted: Filter) -> None:
    at = st.query_params.get("at", "")
    if not at.isdecimal() or len(at) > 9:
        return
    here = int(at)
    for name, there in (("Scan before", here - 1), ("Scan after", here + 1)):
        beside = browse.page(cohort, wanted, there, 1) if there >= 0 else []
        scan = beside[0]["scan"] if beside else ""
        st.button(name, disabled=not beside, on_click=open_scan, args=(scan, there))


def _controls(cohort: Cohort, row: dict[str, Any]) -> tuple[str, int, tuple[float, float], bool]:
    plane, index, mask = "axial", 0, False
    if is_volume(row):
        key = state.linked("plane", PLANES, "axial")
        plane = str(
            st.segmented_control(
                "Plane", PLANES, key=key, on_change=state.link, args=("plane", "axial", ("slice",)), required=True
            )
        )
        count = viewing.slices(row, plane)
        if count > 1:
            key = state.linked("slice", [1, count], count // 2 + 1)
            index = st.slider("Slice", 1, count, key=key, on_change=state.link, args=("slice", count // 2 + 1)) - 1
    presets = viewing.windows(row)
    name = next(iter(presets))
    if len(presets) > 1:
        key = state.linked("window", list(presets), name)
        unit = row["unit"] if row["unit"] == "HU" else ""
        name = st.selectbox(
            "Window",
            list(presets),
            key=key,
            format_func=lambda n: f"{n} ({presets[n][0]:g} to {presets[n][1]:g} {unit}".rstrip() + ")",
            on_change=state.link,
            args=("window", name),
        )
    if cohort.mask(row["scan"]) is not None:
        key = state.linked("mask", [], True)
        mask = st.toggle("Mask", key=key, on_change=state.link, args=("mask", True))
    return plane, index, presets[name], mask


def _picture(
    cohort: Cohort, row: dict[str, Any], plane: str, index: int, window: tuple[float, float], mask: bool
) -> None:
    if row["veiled"] and not st.session_state.get(f"unveiled {row['scan']}"):
        strip(cohort, [row], width=viewing.SIDE)
        st.warning(VEIL)
        st.button("Show the pixels", on_click=st.session_state.update, args=({f"unveiled {row['scan']}": True},))
        return
    try:
        image = viewing.picture(cohort, row, index, plane, window, mask)
    except (MedsslError, OSError, ValueError):
        state.LOG.exception("a scan of %s cannot be drawn", cohort.name)
        parts.empty(state.Problem("The array of this scan cannot be read.", "Ingest the source again."))
        return
    st.image(viewing.png(image), width="stretch")
    if mask and (values := viewing.mask_values(cohort, row, index, plane)):
        swatches = "".join(
            f'<span><span class="m-swatch" style="background: rgb{colour}"></span>{value}</span>&emsp;'
            for value, colour in values.items()
        )
        st.html(f'<p class="m-meta">Mask: {swatches}</p>')


def _about(cohort: Cohort, counted: Summary, row: dict[str, Any], plane: str, index: int) -> None:
    labels, noticed = browse.said_of(cohort, row["scan"])
    where = slice_position(row, plane, np.array([index]))[0] if is_volume(row) else np.nan
    shown = {t: v for t, v in labels.items() if counted.classes.get(t)}  # others may be free text
    parts.facts(
        {
            "Scan": row["scan"],
            "Patient": row["patient"],
            "Part": state.once_of(cohort, "parts", lambda: _parts(cohort)).get(row["patient"], ""),
            "Modality": row["modality"] or "unknown",
            "Vendor": row["vendor"] or "unknown",
            "Body part": row["body_part"] or "unknown",
            "Pixels": product([(n, n) for n in row["shape"]]),
            "Spacing": product([(s, s) for s in row["spacing"]]) + " mm" if row["spacing"] else "not known",
            "Slice at": "" if np.isnan(where) else f"{where:.1f} mm",
            **{f"Label {target}": value for target, value in shown.items()},
        }
    )
    for finding in noticed:
        st.html(_finding(finding))
    if is_volume(row):
        st.caption("Axial and coronal slices show the patient's right on your left.")


def _finding(finding: dict[str, str]) -> str:
    from html import escape

    kind = escape(finding["severity"])
    return f'<p><span class="m-line {kind}">{kind}</span>{escape(finding["sentence"])}</p>'


def _parts(cohort: Cohort) -> dict[str, str]:
    """Patient -> part of the cohort's split; empty before it is drawn."""
    path = cohort.path / "split.json"
    try:
        return Split.load(path).part_of() if path.exists() else {}
    except (MedsslError, ValueError, KeyError):
        return {}
