"""What a person should see before a cohort is trusted: findings, duplicates and outliers, and its data card."""

from __future__ import annotations

import json
import re
from html import escape
from typing import Any

import parts
import scans
import state
import streamlit as st

from medssl.cohort import Cohort, browse
from medssl.cohort.browse import Filter
from medssl.cohort.card import Piece, edit_card, pieces, read_page, write_card
from medssl.cohort.card.markdown import QUESTION
from medssl.cohort.check import check
from medssl.cohort.summary import SEVERITIES, Summary
from medssl.errors import MedsslError
from medssl.ingest import is_complete

UNFINISHED = (
    "These scans have not been read to the end.",
    "An ingest is still under way, or it stopped or was refused: the same `medssl ingest` again goes on and says why.",
)
STRIP, CASES = 6, 8  # small pictures of a finding or case, and cases on a page
LEFT_OUT = {"scan", "scans", "values"}  # of a case: shown as pictures, or perhaps free text


def findings(cohort: Cohort, counted: Summary) -> None:
    """Every kind of thing that ingestion noticed, with pictures of the first scans that have it."""
    found = [f for f in counted.findings if f["scans"]]
    files = [f for f in counted.findings if not f["scans"]]
    if not is_complete(cohort.path):
        parts.empty(state.Problem(*UNFINISHED))
    elif not counted.findings:
        parts.empty(state.Problem("Nothing was noticed when this cohort was ingested.", ""))
        return
    kinds = ["all", *(s for s in SEVERITIES if any(f["severity"] == s for f in counted.findings))]
    key = state.linked("severity", kinds, "all")
    kind = st.segmented_control(
        "Severity", kinds, key=key, on_change=state.link, args=("severity", "all"), required=True
    )
    for finding in (f for f in found if kind in ("all", f["severity"])):
        with st.container(border=True):
            text, button = st.columns([6, 1], vertical_alignment="top")
            with text:
                st.html(_sentence(finding, f"{finding['scans']:,} scan{'' if finding['scans'] == 1 else 's'}"))
                scans.strip(cohort, browse.page(cohort, Filter(finding=finding["code"]), 0, STRIP))
            with button:
                to = {"show": "Scans", "finding": finding["code"], "page": None, "scan": None}
                st.button("Scans", key=f"finding {finding['code']}", on_click=state.go, args=(to,), width="stretch")
    rest = [f for f in files if kind in ("all", f["severity"])]
    if rest:
        st.header("Files that gave no scan", anchor=False)
        for finding in rest:
            st.html(_sentence(finding, f"{finding['files']:,} file{'' if finding['files'] == 1 else 's'}"))


def _sentence(finding: dict[str, Any], how_many: str) -> str:
    kind, todo = escape(finding["severity"]), escape(finding["todo"])
    say = f'<p><span class="m-line {kind}">{kind}</span>{escape(finding["sentence"])} <b>{how_many}</b></p>'
    return say + (f'<p class="m-meta">{todo}</p>' if todo else "")


def checked(cohort: Cohort, counted: Summary) -> None:
    """What `medssl check` found, case by case; it is run here where nobody has run it."""
    path = cohort.path / "check.json"
    try:
        known = state.once_of(cohort, "check", lambda: json.loads(path.read_text())) if path.exists() else None
        concerns = known["concerns"] if known else []
    except (ValueError, KeyError, OSError):
        known, concerns = None, []
    if known is None:
        parts.empty(
            state.Problem(
                "This cohort has not been checked yet.",
                "The check looks for duplicates, patients under two keys, labels that disagree, outliers, and leaks. "
                "The first time it takes some seconds for a thousand scans.",
            )
        )
    elif path.stat().st_mtime_ns < (cohort.path / "catalog.sqlite").stat().st_mtime_ns:
        st.caption("The cohort has changed since it was checked: check it again.")
    if st.button("Check this cohort" if known is None else "Check again"):
        _check(cohort)
    if known is None:
        return
    if not concerns:
        st.markdown("The check found nothing.")
        return
    concerns.sort(key=lambda c: not c["decide"])
    words = {
        c["code"]: f"{'To decide: ' if c['decide'] else ''}{c['sentence'].rstrip('.')} ({c['count']:,})"
        for c in concerns
    }
    key = state.linked("concern", list(words), next(iter(words)))
    code = st.selectbox(
        "What was found",
        list(words),
        key=key,
        format_func=lambda c: words[c],
        on_change=state.link,
        args=("concern", next(iter(words)), ("page",)),
    )
    concern = next(c for c in concerns if c["code"] == code)
    if concern["todo"]:
        st.caption(concern["todo"])
    _cases(cohort, counted, concern["cases"])


def _check(cohort: Cohort) -> None:
    with st.spinner("Looking at every scan …"):
        try:
            check(cohort)
        except MedsslError as error:
            parts.empty(state.Problem(error.what[:1].upper() + error.what[1:] + ".", error.fix))
            return
    st.rerun()


def _cases(cohort: Cohort, counted: Summary, cases: list[dict[str, Any]]) -> None:
    last = max(1, (len(cases) + CASES - 1) // CASES)
    key = state.linked("page", [1, last], 1)
    number = int(st.session_state[key])
    for at, case in enumerate(cases[(number - 1) * CASES : number * CASES]):
        with st.container(border=True):
            names = [case["scan"]] if "scan" in case else list(case.get("scans", []))
            rows = browse.rows_of(cohort, names[:STRIP])
            known = [f"{k.replace('_', ' ')} {_value(v)}" for k, v in case.items() if k not in LEFT_OUT]
            if case.get("values") and counted.classes.get(case.get("target", "")):
                known.append(f"labels {', '.join(case['values'])}")
            st.markdown(parts.plain("; ".join(known)) or f"{len(names)} scan")
            scans.strip(cohort, rows, width=128)
            with st.container(horizontal=True):
                for row in rows:
                    label = f"Open {row['scan'][:9]}"
                    st.button(label, key=f"case {at} {row['scan']}", on_click=scans.open_scan, args=(row["scan"],))
    if last > 1:
        st.number_input(f"Page, of {last:,}", 1, last, key=key, on_change=state.link, args=("page", 1), width=140)


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value[:4])) + (f" and {len(value) - 4} more" if len(value) > 4 else "")
    return str(value)


def card(cohort: Cohort) -> None:
    """The data card as it stands; what people write can be edited, figures are made."""
    text = read_page(cohort)
    if text is None:
        parts.empty(
            state.Problem(
                "This cohort has no data card yet.",
                "A card says what the data are, where they come from and what they are good for. medssl fills in the "
                "figures and asks you the rest.",
            )
        )
        if st.button("Make the data card"):
            _renew(cohort)
        return
    with st.container(horizontal=True):
        if st.button("Renew the figures"):
            _renew(cohort)
        st.download_button("Card, Markdown", text, f"{cohort.name}.md", "text/markdown", on_click="ignore")
        machine = cohort.path / f"{cohort.name}.croissant.json"
        if machine.exists():
            st.download_button(
                "Card, Croissant", machine.read_bytes, machine.name, "application/json", on_click="ignore"
            )
    heading = None
    for number, piece in enumerate(pieces(text)):
        if piece.heading and piece.heading != heading:
            (st.header if piece.level < 3 else st.subheader)(parts.plain(piece.heading), anchor=False)
        heading = piece.heading
        if piece.written:
            _written(cohort, text, piece, number)
        else:
            st.markdown(piece.text)


def _written(cohort: Cohort, card: str, piece: Piece, number: int) -> None:
    """A part that people write: as it stands, and a form to change it."""
    asked = bool(QUESTION.fullmatch(piece.text))
    if piece.text and piece.heading != "Front matter":
        st.markdown(re.sub(r"!\[", r"!\\[", piece.text))  # a picture from elsewhere would be asked of the internet
    name = piece.heading or "the beginning"
    with st.expander(f"Write: {name}" if asked or not piece.text else f"Change: {name}"):
        with st.form(f"piece {number}", border=False):
            hint = piece.text.strip("_") if asked else ""
            new = st.text_area(name, "" if asked else piece.text, placeholder=hint, height=160)
            st.caption("Write nothing here that names a patient.")
            if not st.form_submit_button("Save"):
                return
        try:
            edit_card(cohort, card, piece, new.strip() or (piece.text if asked else ""))
        except MedsslError as error:
            st.error(f"{error.what[:1].upper()}{error.what[1:]}. {error.fix}")
            return
        except OSError as error:
            st.error(f"The card could not be written ({error.strerror}).")
            return
        st.rerun()


def _renew(cohort: Cohort) -> None:
    with st.spinner("Counting …"):
        try:
            write_card(cohort)
        except MedsslError as error:
            st.error(f"{error.what[:1].upper()}{error.what[1:]}. {error.fix}")
            return
    st.rerun()
