"""Pieces of pages: typography, verdicts, tables, empty states."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape
from typing import Any, Literal

import state
import streamlit as st
from sheet import CSS

from medssl.errors import UserError
from medssl.experiment import Results
from medssl.figures import to_png, to_svg
from medssl.report import content

NAMED = re.compile(r"\*([A-Za-z ]+)\*")
AGAIN = (
    "Resume it on the page *New run* if it was started there, else run its config again with `medssl run`: jobs that "
    "are done are kept."
)
NARROW = 4  # columns up to which a table is no wider than it must be


def style() -> None:
    st.html(CSS)


def theme() -> Literal["light", "dark"]:
    """What the browser shows now; charts carry their own colours."""
    return "dark" if st.context.theme.type == "dark" else "light"


def empty(problem: state.Problem) -> None:
    """A place with nothing to show: one sentence, and what to do next."""
    todo = f"<p>{_code(problem.todo)}</p>" if problem.todo else ""
    st.html(f'<div class="m-empty" role="status"><p><strong>{_code(problem.what)}</strong></p>{todo}</div>')


def chosen_results(page: str) -> Results | None:
    """The chosen experiment, below the title of the page; or None after saying why there is none."""
    place = state.workspace()
    name = state.chosen()
    found = place if isinstance(place, state.Problem) else state.results(name) if name else None
    if isinstance(found, Results):
        heading(found, page)
        return found
    st.title(page, anchor=False)
    if found is None:
        no_experiments()
    else:
        if name:
            st.subheader(plain(name), anchor=False)
        empty(found)
    return None


def no_experiments() -> None:
    empty(
        state.Problem(
            "This workspace has no experiments yet.",
            "Start one on the page *New run*. Or in a terminal: `medssl demo` makes virtual patients and runs the "
            "whole way in minutes, `medssl run CONFIG` runs your own; then reload this page.",
        )
    )


def no_cohorts() -> None:
    empty(
        state.Problem(
            "This workspace has no cohorts yet.",
            "Make one of a folder of scans on the page *New run*. Or in a terminal: `medssl ingest SCANS --cohort "
            "WORKSPACE/cohorts/NAME`; then reload this page.",
        )
    )


def heading(found: Results, page: str) -> None:
    """Title of the page, what the experiment is about, and how far it is."""
    config = found.settings
    draws = found.cross_fitted or f"{config.draws} draw{'' if config.draws == 1 else 's'}"
    facts = [f"cohort {config.cohort.name}", f"predicts {config.target.name}", draws, progress(found)]
    looks = len(found.looks())
    facts.append(f"test patients looked at {looks} time{'' if looks == 1 else 's'}")
    st.title(page, anchor=False)
    st.subheader(plain(found.title), anchor=False)
    st.html('<p class="m-meta">' + "".join(f"<span>{escape(f)}</span>" for f in facts) + "</p>")


def progress(found: Results) -> str:
    """How far the experiment is, in a few words."""
    jobs, _ = found.progress()
    if set(jobs) == {"done"}:
        return "finished"
    if not jobs:
        return "not started"
    done = f"{jobs.get('done', 0):,} of {sum(jobs.values()):,} jobs done"
    return f"{done}, {jobs['failed']:,} failed" if jobs.get("failed") else done


def notes(found: Results) -> None:
    """The experiment's own note stands open; the others one click away."""
    said = state.once(found, "notes", lambda: found.notes)
    own, others = found.settings.note, [n for n in said if n != found.settings.note]
    if own:
        st.info(plain(own))
    if others:
        with st.expander(f"Before you read: {len(others)} note{'' if len(others) == 1 else 's'}"):
            st.markdown("\n".join(f"- {plain(n)}" for n in others))


def verdicts(rows: list[dict[str, str]]) -> None:
    """Sentences coloured by what they say."""
    items = "".join(f'<li class="{escape(r["kind"])}">{escape(r["sentence"])}</li>' for r in rows)
    st.html(f'<ul class="m-verdicts">{items}</ul>')


def main_verdict(found: Results) -> list[dict[str, str]]:
    """The sentence for the claim's budget, else for the smallest; none before a comparison is finished."""
    table, claim = found.verdicts(), found.settings.claim
    at = table.index[table["claim"]] if claim else table.index
    return [content.verdicts(found)[i] for i in list(at)[:1]]


def chart(make: Callable[[], Any]) -> None:
    """A chart, or the sentence that says why there is none."""
    try:
        drawn = make()
    except UserError as error:
        empty(state.Problem(error.what[:1].upper() + error.what[1:] + ".", error.fix))
        return
    st.altair_chart(drawn, theme=None, width="stretch")


def exports(name: str, file: str, drawn: Callable[[], Any], table: Callable[[], Any]) -> None:
    """Buttons below a chart: PNG, SVG and CSV, made when they are asked for and not on every click elsewhere.

    Args:
        name: of the chart, as the buttons say it.
        file: beginning of the files' names.
        drawn: the chart of fixed width, on white.
        table: the frame behind it.
    """
    files: list[tuple[str, str, Callable[[], str | bytes]]] = [
        ("PNG", "image/png", lambda: to_png(drawn())),
        ("SVG", "image/svg+xml", lambda: to_svg(drawn())),
        ("CSV", "text/csv", lambda: table().to_csv(index=False)),
    ]
    for kind, mime, make in files:
        label = f"{name}, {kind}"
        st.download_button(label, make, f"{file}.{kind.lower()}", mime, key=f"download {label}", on_click="ignore")


def score_table(found: Results, metric: str, arms: list[str]) -> None:
    rows = content.score_table(found, found.scores(), arms, metric)
    _grid(found, rows, lambda c: f"{c['value']}<small>{escape(c['interval'])}</small>")


def ways_table(found: Results) -> None:
    """What each arm learns from beside its labels, and by which of Schaal's eight ways."""
    rows = [[row["arm"], row["way"], row["source"] or "–", row["other_labels"]] for row in content.ways(found)]
    if not rows:  # nothing is known of it before the first run
        return
    st.header("What each arm learns from", anchor=False)
    st.caption(
        "Beside the labels of its budget. Same task: the classes that are predicted, or guesses of them; any other "
        "label and every pretext task is another. Same domain: scans of this cohort. In sequence: before the labels; "
        "jointly: together with them."
    )
    table(["Arm", "Way", "Learnt", "Other labels"], rows, words=3)


def difference_table(found: Results, metric: str, baseline: str, arms: list[str]) -> None:
    rows = content.difference_table(found, found.differences(), arms, metric, baseline)

    def cell(c: dict[str, Any]) -> str:
        interval = "" if c["verdict"] == "not estimable" else f"<small>{escape(c['interval'])}</small>"
        return f'{c["value"]}{interval}<span class="m-v {escape(c["kind"])}">{escape(c["verdict"])}</span>'

    _grid(found, rows, cell)


def savings_table(found: Results) -> None:
    """How many times the labels of an arm the main baseline needs."""
    _grid(found, content.savings_table(found), lambda c: f"{c['value']}<small>{escape(c['interval'])}</small>")


def curve_table(rows: list[dict[str, str]]) -> None:
    """Rows of `content.curve_table`."""
    heads = ("Arm", "By its mean", "Surely", "Area", "95 % interval")
    top = "".join(f'<th scope="col">{head}</th>' for head in heads)
    body = ""
    for row in rows:
        name = f'<span class="m-swatch" style="background: {row["colour"]}"></span>{escape(row["arm"])}'
        cells = "".join(f"<td>{escape(row[k])}</td>" for k in ("budget", "surely", "area", "interval"))
        body += f'<tr><th scope="row">{name}</th>{cells}</tr>'
    st.html(f'<div class="m-table"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>')


def external_tables(found: Results) -> None:
    """Scores on each external test cohort, by the main metric."""
    for far in content.external_tables(found):
        st.subheader(plain(far["name"]), anchor=False)
        st.caption(f"{far['units']} {found.settings.target.unit}s of {far['patients']} patients from elsewhere")
        _grid(found, far["scores"], lambda c: f"{c['value']}<small>{escape(c['interval'])}</small>")


def facts(rows: dict[str, str]) -> None:
    """Names and values, one below the other; what has no value is left out."""
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows.items() if value)
    st.html(f'<dl class="m-facts">{items}</dl>')


def table(heads: list[str], rows: list[list[str]], words: int = 1) -> None:
    """Plain cells; the first `words` columns are text and stand at the left."""
    top = "".join(f'<th{_words(i, words)} scope="col">{escape(h)}</th>' for i, h in enumerate(heads))
    body = "".join(
        "<tr>" + "".join(f"<td{_words(i, words)}>{escape(c)}</td>" for i, c in enumerate(row)) + "</tr>" for row in rows
    )
    narrow = " narrow" if len(heads) <= NARROW else ""  # numbers far from their names are hard to follow
    st.html(f'<div class="m-table{narrow}"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>')


def _grid(found: Results, rows: list[dict[str, Any]], cell: Any) -> None:
    heads = "".join(
        f'<th scope="col">{h["budget"]}<small>{escape(h["total"])}</small></th>' for h in content.budget_heads(found)
    )
    body = ""
    for row in rows:
        mark = " †" if row.get("across") else ""
        name = f'<span class="m-swatch" style="background: {row["colour"]}"></span>{escape(row["arm"])}{mark}'
        cells = "".join(f"<td>{cell(c) if c else '–'}</td>" for c in row["cells"])
        body += f'<tr><th scope="row">{name}</th>{cells}</tr>'
    per = "Labels a class" if found.settings.per == "class" else "Labels"
    head = f'<tr><th scope="col">Arm<small>{per}, and in total</small></th>{heads}</tr>'
    st.html(f'<div class="m-table"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>')


def _words(column: int, words: int) -> str:
    return ' class="words"' if column < words else ""


def _code(text: str) -> str:
    """Escaped, with `code` between backticks and *names* of pages between stars."""
    pieces = escape(text).split("`")
    return "".join(f"<code>{p}</code>" if i % 2 else NAMED.sub(r"<em>\1</em>", p) for i, p in enumerate(pieces))


def plain(text: str) -> str:
    """Text from a config, so that Markdown shows it as it is."""
    return "".join("\\" + c if c in "\\`*_{}[]<>()#+-!|~$:" else c for c in text)
