"""Subgroups of test units, by an attribute of their scans in the catalog."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from medssl.errors import unknown

COLUMNS = ("vendor", "modality", "body_part", "kind")
AGES = (0, 18, 40, 65, 200)  # years: children, and three bands of adults


def group_units(cohort: Path, unit: str, attribute: str) -> dict[str, str]:
    """Unit -> the value that its first scan has; numbers become bands (ages by decade of life, others by thirds).

    Raises:
        UserError: no scan has this attribute; names the nearest.
    """
    from medssl.cohort import Cohort

    scans = Cohort.open(cohort).scans()
    named = {key for values in scans["attributes"] if values for key in values}
    if attribute not in {*COLUMNS, *named}:
        raise unknown("attribute", attribute, sorted({*COLUMNS, *named}), "subgroups")
    values = scans[attribute] if attribute in COLUMNS else scans["attributes"].map(lambda a: (a or {}).get(attribute))
    key = {"image": "scan", "exam": "exam", "patient": "patient"}[unit]
    frame = pd.DataFrame({"unit": scans[key], "value": values}).dropna().drop_duplicates("unit")
    return dict(zip(frame["unit"], _bands(frame["value"], attribute), strict=True))


def _bands(values: pd.Series, attribute: str) -> list[str]:
    if not len(values) or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        return [_text(v) for v in values]
    numbers = values.astype(float)
    edges = list(AGES) if attribute.startswith("age") else sorted({*numbers.quantile([0, 1 / 3, 2 / 3, 1])})
    if len(edges) < 2:
        return [_text(v) for v in values]
    places = pd.cut(numbers, edges, labels=False, include_lowest=True)
    return ["unknown" if pd.isna(p) else f"{edges[int(p)]:g} to {edges[int(p) + 1]:g}" for p in places]


def _text(value: Any) -> str:
    return str(value)
