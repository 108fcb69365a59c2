"""From scans to the samples of a predictor's View, with what is unlike the training cohort."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medssl.cohort import Cohort, catalog
from medssl.cohort.channels import unclear_exams
from medssl.cohort.cohort import UNIT_COLUMN
from medssl.cohort.samples import make_samples
from medssl.errors import UserError
from medssl.experiment.predictor.about import About
from medssl.experiment.predictor.known import DOUBT, LEFT_OUT, UNLIKE, Known
from medssl.workspace import Workspace


@dataclass(frozen=True)
class Drawn:
    """Scans as samples.

    Attributes:
        images: (N, C, *spatial) uint8; `unit_of`: (N,) row in `units` of each.
        units: `unit, patient` of all units that have a sample.
        scans: those that were drawn, as `Cohort.scans` gives them; `out`: code in `LEFT_OUT` -> the others.
        column: of the catalog, that holds the unit.
    """

    images: np.ndarray
    unit_of: np.ndarray
    units: pd.DataFrame
    scans: pd.DataFrame
    out: dict[str, pd.DataFrame]
    column: str


@contextmanager
def opened(scans: Any, workspace: Workspace) -> Iterator[tuple[Cohort, dict[str, Any] | None]]:
    """A cohort of these scans, and what ingestion reports of them; None where they were a cohort already.

    Files and folders are ingested into a folder of the workspace that is gone afterwards, so that nothing is scored but
    what is there now, and no copy of it stays.

    Args:
        scans: a Cohort, its folder, or one or several files and folders.
    """
    from medssl.ingest import ingest

    if isinstance(scans, Cohort):
        yield scans, None
        return
    places = [Path(p) for p in ([scans] if isinstance(scans, (str, Path)) else scans)]
    if len(places) == 1 and catalog.exists(places[0]):
        yield Cohort.open(places[0]), None
        return
    with workspace.passing() as folder:
        report = ingest(places, folder / "scans", workspace=workspace)
        about = report.as_json()
        yield Cohort.open(folder / "scans"), {key: about[key] for key in ("files", "findings", "rejected_files")}


def draw(cohort: Cohort, about: About, known: Known) -> Drawn:
    """The samples of all scans that the View can draw.

    Raises:
        UserError: it can draw none; says why of most of them, and what to do.
    """
    scans, column = cohort.scans(), UNIT_COLUMN[about.target.unit]
    codes: list[Any] = [known.why_left_out(row, about.view) for row in scans.to_dict("records")]
    why = pd.Series(codes, scans.index, object)
    unclear = unclear_exams(scans[why.isna()].to_dict("records"), about.view)
    why[why.isna() & scans["exam"].isin(unclear)] = "unclear_contrasts"
    kept = scans[why.isna()]
    if kept.empty:
        code = str(why.mode()[0])
        raise UserError(f"none of {len(scans)} scans can be used. {LEFT_OUT[code][0]}", "scans", LEFT_OUT[code][1])
    samples = make_samples(cohort.path, kept, about.view)
    owner = samples.table[column]
    units = pd.DataFrame({"unit": owner, "patient": samples.table["patient"]}).drop_duplicates("unit")
    units = units.reset_index(drop=True)
    number = pd.Series(range(len(units)), index=units["unit"])
    out = {str(code): scans[why == code] for code in why.dropna().unique()}
    empty = kept[~kept[column].isin(units["unit"])]  # exams that lack a contrast
    if len(empty) and about.target.unit != "image":
        out["no_sample"] = empty
    return Drawn(samples.images, owner.map(number).to_numpy(), units, kept, out, column)


def about_scans(drawn: Drawn, about: About, known: Known) -> list[dict[str, Any]]:
    """Findings on scans: left out, or unlike the training cohort's; `units` are those that they belong to."""
    found = [
        _finding(code, "left_out", *LEFT_OUT[code], scans["scan"].tolist(), scans[drawn.column].tolist())
        for code, scans in drawn.out.items()
    ]
    rows = drawn.scans.to_dict("records")
    codes = [known.unlike(row) for row in rows]
    for code in UNLIKE:
        mine = [row for row, own in zip(rows, codes, strict=True) if code in own]
        if mine:
            units = [row[drawn.column] for row in mine]
            found.append(_finding(code, "warning", UNLIKE[code], DOUBT, [row["scan"] for row in mine], units))
    return found


def about_units(drawn: Drawn, far: np.ndarray) -> list[dict[str, Any]]:
    """The finding on units whose embedding lies far out, (len(units),) bool; none where there are none."""
    units = drawn.units.loc[far, "unit"].tolist()
    return [_finding("embedding", "warning", UNLIKE["embedding"], DOUBT, units, units)] if units else []


def _finding(code: str, severity: str, sentence: str, todo: str, keys: list[str], units: list[str]) -> dict[str, Any]:
    about = {"code": code, "severity": severity, "sentence": sentence, "todo": todo}
    return {**about, "count": len(keys), "keys": keys, "units": list(dict.fromkeys(units))}
