"""What the scans of the training cohort are like (`training.json`), and what is unlike them in new ones."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from medssl.cohort.rendering import is_volume
from medssl.config import Strict, View

MARGIN = 0.1  # of an intensity range's width, on either side
COARSER = 1.5  # times the largest spacing, or as much below the smallest

LEFT_OUT = {  # code -> what is wrong with a scan that the View cannot draw, and what to do
    "flat": (
        "The scan is 2-D, and the predictor's View (spatial_dims: 3) draws volumes.",
        "Give volumes: DICOM series or NIfTI.",
    ),
    "no_spacing_for_view": (
        "The scan has no pixel spacing in mm, and the predictor's View asks for one (view.spacing).",
        "Give DICOM or NIfTI files that have it, or refit an arm whose View has no spacing.",
    ),
    "no_window_for_view": (
        "The scan is not in HU, and the predictor's View has a window in HU (view.window).",
        "Give CT series with their rescale values, or refit an arm whose View takes percentiles.",
    ),
    "no_orientation_for_view": (
        "The volume says nothing of its orientation, so the slices of the predictor's View (view.plane) are not known.",
        "Give DICOM series or NIfTI files with an affine.",
    ),
    "unclear_contrasts": (
        "Several scans of the exam fit one contrast of the predictor's View, or its contrasts lie on different grids.",
        "Give one scan for each of view.contrasts in predictor.json, resampled to one grid.",
    ),
    "no_sample": (
        "The exam lacks a contrast that the predictor's View asks for.",
        "Give a scan for each of view.contrasts in predictor.json.",
    ),
}
UNLIKE = {  # code -> how a scan that was scored differs from the training cohort's
    "modality": "The modality is not among those of the training cohort.",
    "kind": "The scan is of another kind (volume, image, colour) than those of the training cohort.",
    "value_unit": "The values are in another unit than those of the training cohort, so grays are made otherwise.",
    "spacing": "The pixel spacing lies outside that of the training cohort, or is unknown.",
    "intensity": "The range of intensities lies outside that of the training cohort.",
    "embedding": "The embedding is further from the training cohort's than 99 % of its own units.",
}
DOUBT = "Do not rely on its score without looking at the scan."


class Known(Strict):
    """What the scans of the training cohort are like, in sums and ranges.

    Attributes:
        modality, kind, unit: number of scans by each value of these columns of the catalog.
        spacing: mm, the smallest and largest (geometric mean over a scan's axes); None where not all have one.
        ranges: by unit of the values, the lowest .5th and the highest 99.5th percentile of any scan.
        oriented: all volumes have an affine.
        distance: of embeddings, the 99th percentile; None where there were too few units.
        distance_from: which units that percentile is of, in words.
    """

    scans: int
    patients: int
    modality: dict[str, int]
    kind: dict[str, int]
    unit: dict[str, int]
    spacing: tuple[float, float] | None
    ranges: dict[str, tuple[float, float]]
    oriented: bool
    distance: float | None = None
    distance_from: str = ""

    @classmethod
    def of(cls, scans: pd.DataFrame) -> Known:
        """From rows of `Cohort.scans`."""
        rows = scans.to_dict("records")
        spacings = [_spacing(row) for row in rows]
        whole = [s for s in spacings if s is not None]
        ranges: dict[str, tuple[float, float]] = {}
        for row in rows:
            low, high = _range(row)
            before = ranges.get(row["unit"], (low, high))
            ranges[row["unit"]] = min(before[0], low), max(before[1], high)
        return cls(
            scans=len(rows),
            patients=int(scans["patient"].nunique()),
            **{name: dict(Counter(scans[name])) for name in ("modality", "kind", "unit")},
            spacing=(min(whole), max(whole)) if whole and len(whole) == len(rows) else None,
            ranges=ranges,
            oriented=all(row["affine"] is not None for row in rows if is_volume(row)),
        )

    def why_left_out(self, row: dict[Any, Any], view: View) -> str | None:
        """Code in `LEFT_OUT` of a scan (a row of `Cohort.scans`) that the View cannot draw; else None."""
        if view.spatial_dims == 3 and not is_volume(row):
            return "flat"
        if view.spacing is not None and row["spacing"] is None:
            return "no_spacing_for_view"
        if set(self.unit) == {"HU"} and view.intensity in ("auto", "window") and row["unit"] != "HU":
            return "no_window_for_view"
        if is_volume(row) and self.oriented and row["affine"] is None:
            return "no_orientation_for_view"
        return None

    def unlike(self, row: dict[Any, Any]) -> list[str]:
        """Codes in `UNLIKE` of a scan."""
        codes = [code for code, name in (("modality", "modality"), ("kind", "kind"), ("value_unit", "unit"))
                 if row[name] not in getattr(self, name)]  # fmt: skip
        if self.spacing is not None:
            mm, (low, high) = _spacing(row), self.spacing
            if mm is None or not low / COARSER <= mm <= high * COARSER:
                codes.append("spacing")
        if row["unit"] in self.ranges:
            (low, high), (darkest, brightest) = self.ranges[row["unit"]], _range(row)
            margin = MARGIN * (high - low)
            if darkest < low - margin or brightest > high + margin:
                codes.append("intensity")
        return codes


def _range(row: dict[Any, Any]) -> tuple[float, float]:
    values = [float(v) for v in row["percentiles"].values()]
    return min(values), max(values)


def _spacing(row: dict[Any, Any]) -> float | None:
    return float(np.exp(np.mean(np.log(row["spacing"])))) if row["spacing"] else None
