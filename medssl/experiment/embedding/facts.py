"""What is known of each scan beside its pixels, as words: labels, part of the split, and what tells of the scanner."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pandas as pd

from medssl.cohort import Cohort
from medssl.experiment.groups import attribute_values

FEW = 6  # different numbers that are shown as they are; more become thirds
MANY = 20  # different values of a label, from which on it counts as a number where it is one
LABEL, PART, PATIENT, BODY = "label: ", "part of the split", "patient", "body part"
ATTRIBUTES = {"slice_thickness_mm": ("slice thickness", "mm"), "echo_time_ms": ("echo time", "ms")}


def facts(cohort: Cohort, scans: np.ndarray) -> pd.DataFrame:
    """A row a scan, in this order; a column a fact, words or None where it is not known.

    Columns are those in which at least two values occur: `label: TARGET`, `part of the split`, `body part`, then what
    the scanner decides (vendor, modality, pixel spacing, image size, slice thickness, echo time), and always `patient`,
    the key.
    """
    table = cohort.scans().set_index("scan").loc[scans].reset_index()
    found: dict[str, list[str | None]] = {}
    for target in cohort.targets():
        labels = cohort.labels(target).set_index("scan")["value"]
        found[LABEL + target] = _label(table["scan"].map(labels))
    found[PART] = _parts(cohort, table["patient"])
    for column in ("body_part", "vendor", "modality"):
        found[column.replace("_", " ")] = [None if v in (None, "", "unknown") else str(v) for v in table[column]]
    found["pixel spacing"] = banded(table["spacing"].map(lambda s: s[-1] if s else None), "mm")
    found["image size"] = _sizes(table["shape"])
    for name, (shown, unit) in ATTRIBUTES.items():
        if any(name in (row or {}) for row in table["attributes"]):
            found[shown] = banded(attribute_values(table, name), unit)
    frame = pd.DataFrame(found, dtype=object)
    frame = frame.where(frame.notna(), None)
    kept = [name for name in frame if frame[name].nunique() > 1]
    return frame[kept].assign(**{PATIENT: table["patient"]})


def banded(values: pd.Series, unit: str = "") -> list[str | None]:
    """Numbers as words: as they are where they are few, else thirds of the scans."""
    numbers = pd.to_numeric(values, errors="coerce").astype(float).map(lambda v: float(f"{v:.3g}"))
    unit = f" {unit}" if unit else ""
    known = numbers.dropna()
    if known.nunique() <= FEW:
        return [None if np.isnan(v) else f"{v:g}{unit}" for v in numbers]
    edges = sorted({*known.quantile([0, 1 / 3, 2 / 3, 1])})
    places = pd.cut(numbers, edges, labels=False, include_lowest=True)
    return [None if pd.isna(p) else f"{edges[int(p)]:.3g} to {edges[int(p) + 1]:.3g}{unit}" for p in places]


def _label(values: pd.Series) -> list[str | None]:
    numbers = pd.to_numeric(values, errors="coerce")
    if values.nunique() > MANY and numbers.notna().sum() == values.notna().sum():
        return banded(numbers)
    return [None if pd.isna(v) else str(v) for v in values]


def _sizes(shapes: pd.Series) -> list[str | None]:
    """Height and width in pixels; the areas in thirds where there are many."""
    pairs = [(int(s[-2]), int(s[-1])) for s in shapes]
    if len(set(pairs)) <= FEW:
        return [f"{h} × {w}" for h, w in pairs]
    return banded(pd.Series([h * w / 1e6 for h, w in pairs]), "megapixels")


def _parts(cohort: Cohort, patients: pd.Series) -> list[str | None]:
    """pool, validation or test, by the cohort's splits; nothing where it has none yet. Where sites are held out in turn
    there are several, and whoever is tested in one of them is `test`."""
    part: dict[str, str] = {}
    splits = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(cohort.path.glob("split*.json"))]
    for name in ("pool", "validation", "test"):
        part |= {patient: name for raw in splits for patient in raw.get(name, [])}
    look: Callable[[str], str | None] = part.get
    return [look(patient) for patient in patients]
