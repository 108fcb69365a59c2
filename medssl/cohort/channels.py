"""What a View's channels are: gray or colour of a scan, several contrasts of an exam, or several windows of a CT."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from medssl.config import View
from medssl.errors import UserError, unknown
from medssl.progress import say

COLUMNS = ("modality", "vendor", "body_part", "kind", "unit")  # of the catalog, beside its attributes
SAME_GRID_MM = 0.01

Drawn = list[tuple[dict, View]]  # scans of one sample, each with the View of the channels that it gives


def drawn(rows: list[dict], view: View, cohort: str) -> list[Drawn]:
    """Which scans make the channels of each sample, in the order of the first one.

    Args:
        rows: scans as `Cohort.scans` gives them.

    Raises:
        UserError: several channels and nothing said about them; contrasts that no scan has, that an exam has twice, or
            that lie on different grids.
    """
    one = view.model_copy(update={"channels": 1, "windows": None, "contrasts": None})
    if view.windows:
        windows = [one.model_copy(update={"intensity": "window", "window": window}) for window in view.windows]
        return [[(row, window) for window in windows] for row in rows]
    if view.contrasts:
        return [[(row, one) for row in exam] for exam in _exams(rows, list(view.contrasts), cohort)]
    if view.channels not in (1, 3):
        fix = "Say with view.contrasts or view.windows what they are."
        raise UserError(f"a View of {view.channels} channels does not say what they show", "view.channels", fix)
    return [[(row, view)] for row in rows]


def _exams(rows: list[dict], contrasts: list[dict[str, Any]], cohort: str) -> list[list[dict]]:
    """The scans of each exam that has every contrast, in the order of the contrasts."""
    known = {*COLUMNS, *(name for row in rows for name in row["attributes"] or {})}
    for name in {name for contrast in contrasts for name in contrast} - known:
        raise unknown("attribute of a scan", name, sorted(known), "view.contrasts")
    found = list(_by_contrast(rows, contrasts).values())
    twice = sum(any(len(scans) > 1 for scans in exam) for exam in found)
    if twice:
        fix = "Add what tells them apart, such as echo_time_ms."
        raise UserError(f"in {twice} of {len(found)} exams several scans fit one contrast", "view.contrasts", fix)
    whole = [[scans[0] for scans in exam] for exam in found if all(exam)]
    if not whole:
        fix = "See the catalog's attributes with Cohort.scans()."
        raise UserError(f"none of {len(found)} exams has a scan for each contrast", "view.contrasts", fix)
    if len(whole) < len(found):
        say(f"{len(found) - len(whole)} of {len(found)} exams of '{cohort}' lack a contrast and give no samples")
    apart = sum(not _same_grid(exam) for exam in whole)
    if apart:
        fix = "Register them and resample them to one grid before ingestion."
        raise UserError(f"in {apart} of {len(whole)} exams the contrasts lie on different grids", "view.contrasts", fix)
    order = {row["scan"]: place for place, row in enumerate(rows)}
    return sorted(whole, key=lambda exam: order[exam[0]["scan"]])


def unclear_exams(rows: list[dict], view: View) -> set[str]:
    """Exams for which `drawn` would refuse all: several scans fit one contrast, or they lie on different grids."""
    found = _by_contrast(rows, list(view.contrasts or ()))
    twice = {exam for exam, fit in found.items() if any(len(scans) > 1 for scans in fit)}
    whole = {exam: [scans[0] for scans in fit] for exam, fit in found.items() if fit and all(fit)}
    return twice | {exam for exam, scans in whole.items() if not _same_grid(scans)}


def _by_contrast(rows: list[dict], contrasts: list[dict[str, Any]]) -> dict[str, list[list[dict]]]:
    """The scans of each exam that fit each contrast."""
    exams: dict[str, list[dict]] = defaultdict(list)
    for row in rows:
        exams[row["exam"]].append(row)
    return {name: [[row for row in exam if _fits(row, c)] for c in contrasts] for name, exam in exams.items()}


def _fits(row: dict, contrast: dict[str, Any]) -> bool:
    has = {**(row["attributes"] or {}), **{name: row[name] for name in COLUMNS}}
    return all(name in has and _equal(has[name], value) for name, value in contrast.items())


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    return bool(np.isclose(float(one), float(other)))


def _same_grid(exam: list[dict]) -> bool:
    first = exam[0]
    for row in exam[1:]:
        if row["shape"] != first["shape"] or (row["affine"] is None) != (first["affine"] is None):
            return False
        if first["affine"] is not None and not np.allclose(row["affine"], first["affine"], rtol=0, atol=SAME_GRID_MM):
            return False
    return True
