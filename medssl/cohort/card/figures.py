"""The parts of a card that software can fill in: tables of what the catalog holds, and the first front matter."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import medssl
from medssl.cohort.cohort import Cohort
from medssl.cohort.summary import Summary, listed, product

SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)
PATIENT_FROM = {"id": "patient id", "labels": "label table", "exam": "exam only", "file": "not known (one a file)"}


def front_matter(summary: Summary) -> dict[str, Any]:
    """What a new card starts with; of these, only `size_categories` is made again later."""
    tasks = ["image-classification"] if summary.classes else []
    tasks += ["image-segmentation"] if summary.masks else []
    modalities = [p.modality for p in summary.parts if p.modality not in ("unknown", "other")]
    return {
        "pretty_name": summary.name,
        "license": "unknown",
        "task_categories": tasks or ["image-feature-extraction"],
        "tags": ["medical", *dict.fromkeys(modalities)],
        "size_categories": [size_category(summary.scans)],
    }


def size_category(scans: int) -> str:
    """Hugging Face's word for the number of scans."""
    return next((name for below, name in SIZES if scans < below), "10M<n<100M")


def blocks(cohort: Cohort, summary: Summary) -> dict[str, str]:
    """Markdown by the name of the mark that it goes between."""
    return {
        "figures": "\n\n".join([_counts(cohort, summary), _parts(summary), *_labels(summary)]),
        "exclusions": "\n\n".join(_exclusions(summary)),
        "origin": f"Figures made by `medssl card` {medssl.__version__} from the cohort with the content hash "
        f"`{cohort.hash}`.",
    }


def _counts(cohort: Cohort, summary: Summary) -> str:
    files, (fewest, middle, most) = summary.files, summary.scans_per_patient
    per = f"{fewest}" if fewest == most else f"{fewest} to {most}, median {middle:g}"
    near, scans = cohort.near_duplicates(), cohort.scans()
    owner = dict(zip(scans["scan"], scans["patient"], strict=True))
    across = sum(owner[a] != owner[b] for a, b in zip(near["first"], near["second"], strict=True))
    groups, copies = summary.exact
    rows = [
        (
            "files",
            f"{files['found']:,} found = {files['accepted']:,} accepted + {files['rejected']:,} rejected + "
            f"{files['ignored']:,} ignored",
        ),
        ("scans", f"{summary.scans:,}, in {summary.series:,} series of {summary.exams:,} exams"),
        ("patients", f"{summary.patients:,} (scans of each: {per})"),
        ("patients known from", ", ".join(f"{PATIENT_FROM.get(k, k)} {n:,}" for k, n in summary.patient_from.items())),
        ("masks", f"{summary.masks:,} scans" if summary.masks else "none"),
        ("exact duplicates", f"{copies:,} scans in {groups:,} group{'' if groups == 1 else 's'}" if groups else "none"),
        ("near duplicates", f"{len(near):,} pairs, {across:,} of them across patients" if len(near) else "none found"),
    ]
    return _table(("", ""), rows)


def _parts(summary: Summary) -> str:
    heads = (
        "scans of",
        "scans",
        "patients",
        "vendors",
        "body parts",
        "pixels (z × y × x)",
        "spacing, mm",
        "unit, type",
    )
    rows = []
    for part in summary.parts:
        spacing = product(part.spacing) or "none"
        if part.spacing and part.without_spacing:
            spacing += f" ({part.without_spacing:,} without)"
        kinds = f"{listed(part.units)}; {listed(part.dtypes)}"
        names = listed(part.vendors), listed(part.body_parts)
        rows.append((part.name, f"{part.scans:,}", f"{part.patients:,}", *names, product(part.shape), spacing, kinds))
    return _table(heads, rows)


def _labels(summary: Summary) -> Iterable[str]:
    for target, rows in summary.classes.items():
        if not rows:
            yield f"Target `{_cell(target)}`: {summary.values[target]:,} different values, not listed here."
            continue
        total = sum(row["scans"] for row in rows)
        table = [
            (row["value"], f"{row['scans']:,}", f"{row['scans'] / total:.1%}", f"{row['patients']:,}") for row in rows
        ]
        yield _table((f"target `{target}`", "scans", "share", "patients"), table)


def _exclusions(summary: Summary) -> Iterable[str]:
    sentence = {finding["code"]: finding["sentence"] for finding in summary.findings}
    rows = [("rejected", sentence.get(code, words(code)), n) for code, n in summary.rejected.items()]
    rows += [("ignored", words(code), n) for code, n in summary.ignored.items()]
    if rows:
        yield _table(("files left out", "why", "files"), [(what, why, f"{n:,}") for what, why, n in rows])
    else:
        yield "No file was left out."
    noticed = [(f["sentence"], f"{f['scans']:,}") for f in summary.findings if f["scans"]]
    if noticed:
        yield _table(("noticed in scans that were kept", "scans"), noticed)


def words(code: str) -> str:
    return code.replace("_", " ")


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [[_cell(text) for text in row] for row in (heads, *rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(text: str) -> str:
    """One line that can neither end its cell nor open a mark of the card."""
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")
