"""A cohort: what it is made of, its scans, what was noticed in them, its split and its data card."""

from __future__ import annotations

import curation
import parts
import scans
import state
import streamlit as st

from medssl.cohort import Cohort
from medssl.cohort.splits import PARTS, Split
from medssl.cohort.summary import Summary, listed, product
from medssl.errors import MedsslError
from medssl.experiment import Results
from medssl.report import content

SECTIONS = ["Overview", "Scans", "Findings", "Duplicates and outliers", "Split and budgets", "Data card"]


def show() -> None:
    st.title("Cohort", anchor=False)
    place = state.workspace()
    if isinstance(place, state.Problem):
        parts.empty(place)
        return
    name = state.chosen_cohort()
    if name is None:
        parts.no_cohorts()
        return
    found = state.cohort(name)
    if isinstance(found, state.Problem):
        parts.empty(found)
        return
    counted = state.summary(found)
    if isinstance(counted, state.Problem):
        parts.empty(counted)
        return
    if not counted.scans:
        parts.empty(
            state.Problem(
                "This cohort has no scans.",
                "Its ingest was stopped, or every file was left out: read its scans again on the page *New run*, and "
                "look at `ingest_report.html` in the cohort's folder.",
            )
        )
        return
    key = state.linked("show", SECTIONS, SECTIONS[0])
    forget = ("scan", "at", "page")
    section = st.segmented_control(
        "Show", SECTIONS, key=key, on_change=state.link, args=("show", SECTIONS[0], forget), required=True
    )
    if section == "Overview":
        _overview(counted)
    elif section == "Scans":
        scans.show(found, counted)
    elif section == "Findings":
        curation.findings(found, counted)
    elif section == "Duplicates and outliers":
        curation.checked(found, counted)
    elif section == "Split and budgets":
        _split(found)
    else:
        curation.card(found)


def _overview(counted: Summary) -> None:
    fewest, middle, most = counted.scans_per_patient
    per = f"{fewest}" if fewest == most else f"{fewest} to {most}, median {middle:g}"
    files, (groups, copies) = counted.files, counted.exact
    rows = {
        "Patients": f"{counted.patients:,} (scans of each: {per})",
        "Scans": f"{counted.scans:,}, in {counted.series:,} series of {counted.exams:,} exams",
        "Masks": f"{counted.masks:,} scans have one" if counted.masks else "none",
        "Equal scans": f"{copies:,} in {groups:,} group{'' if groups == 1 else 's'}" if groups else "none",
        "Files": f"{files['found']:,} found: {files['accepted']:,} accepted, {files['rejected']:,} rejected, "
        f"{files['ignored']:,} ignored",
    }
    parts.facts(rows)
    st.header("Scans by modality and kind", anchor=False)
    parts.table(
        ["Scans of", "Vendors", "Body parts", "Pixels", "Spacing, mm", "Unit", "Scans", "Patients"],
        [
            [
                part.name,
                listed(part.vendors),
                listed(part.body_parts),
                product(part.shape),
                (product(part.spacing) or "none")
                + (f" ({part.without_spacing:,} without)" if part.spacing and part.without_spacing else ""),
                listed(part.units),
                f"{part.scans:,}",
                f"{part.patients:,}",
            ]
            for part in counted.parts
        ],
        words=6,
    )
    st.header("Labels", anchor=False)
    if not counted.values:
        parts.empty(
            state.Problem(
                "No scan of this cohort has a label.",
                "Add a table on the page *New run*, which shows what fits before it is added, or with "
                "`medssl label COHORT labels.csv`. Where its names matched no scan, name the column of scans with "
                "`--scan-column`, or of patients with `--patient-column`.",
            )
        )
    for target, rows_of in counted.classes.items():
        if not rows_of:
            st.markdown(
                f"`{target}`: {counted.values[target]:,} different values, which are not shown: they may be free "
                "text, dates or ids."
            )
            continue
        total = sum(row["scans"] for row in rows_of)
        body = [
            [r["value"], f"{r['scans']:,}", f"{100 * r['scans'] / total:.1f} %", f"{r['patients']:,}"] for r in rows_of
        ]
        parts.table([target, "Scans", "Share", "Patients"], body)


def _split(found: Cohort) -> None:
    """The one split of the cohort, and what the chosen experiment draws from it."""
    try:
        split = Split.load(found.path / "split.json") if (found.path / "split.json").exists() else None
    except (MedsslError, ValueError, KeyError):
        parts.empty(state.Problem("The split of this cohort is damaged: it was changed by hand.", "Restore the file."))
        return
    if split is None:
        parts.empty(
            state.Problem(
                "This cohort has not been split by patient as a whole.",
                "The first experiment on it draws the split, and all later ones share it. One that holds out a site "
                "or is cross-fitted keeps its own: see below.",
            )
        )
    else:
        st.header("One split for all experiments", anchor=False)
        named = {"pool": "to pretrain on and to draw labels from", "validation": "to choose recipes", "test": "frozen"}
        rows = [[part, named[part], f"{len(getattr(split, part)):,}"] for part in PARTS]
        parts.table(["Part", "What for", "Patients"], rows, words=2)
    name = state.chosen()
    if name is None:
        return
    results = state.results(name)
    st.header(f"Experiment {parts.plain(name)}", anchor=False)
    if isinstance(results, state.Problem):
        parts.empty(results)
    elif results.settings.cohort.name != found.name:
        parts.empty(
            state.Problem(
                f"The chosen experiment is about another cohort, `{results.settings.cohort.name}`.",
                "Choose one of this cohort's in the sidebar, or that cohort above.",
            )
        )
    else:
        _budgets(results)


def _budgets(results: Results) -> None:
    about, counts, unit = content.cohort(results), results.label_counts(), results.settings.target.unit
    if not about["rows"] or not counts:
        parts.empty(state.Problem("This experiment has not drawn its budgets yet.", "Run its config again."))
        return
    heads = ["Part", "Patients", "Labeled patients", f"Labeled {unit}s", *about["classes"]]
    rows = [
        [row["part"], *(f"{row[k]:,}" for k in ("patients", "labeled", "units")), *(f"{n:,}" for n in row["classes"])]
        for row in about["rows"]
    ]
    parts.table(heads, rows)
    per = "Labels a class" if results.settings.per == "class" else "Labels"
    st.subheader("Budgets", anchor=False)
    parts.table([per, f"Labeled {unit}s in total"], [[str(b), f"{n:,}"] for b, n in counts.items()])
    st.caption(
        "Budgets nest: the labels of a small one are among those of the next. Each draw takes other patients, and all "
        "arms get the same ones."
    )


show()
