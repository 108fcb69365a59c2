"""Subgroups of test units, by an attribute of their scans in the catalog."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from medssl.cohort.cohort import UNIT_COLUMN
from medssl.errors import unknown

COLUMNS = ("vendor", "modality", "body_part", "kind")
REPORTED = ("vendor", "sex", "age")  # names, or beginnings of names, of attributes that every report looks into
AGES = (0, 18, 40, 65, 120)  # years: children, and three bands of adults


def reported_attributes(cohort: Path, unit: str, units: list[str]) -> list[str]:
    """Attributes of which these units have at least two known values; none where the cohort is not there."""
    from medssl.cohort import catalog

    if not catalog.exists(cohort):
        return []
    scans = _scans(cohort)
    names = [name for name in attribute_names(scans) if name.startswith(REPORTED)]
    found = []
    for name in names:
        groups = _groups(scans, unit, name)
        if len({groups[u] for u in units if u in groups} - {"unknown"}) > 1:
            found.append(name)
    return found


def group_units(cohort: Path, unit: str, attribute: str) -> dict[str, str]:
    """Unit -> the value that its first scan has; numbers become bands (ages as adults and children, others by thirds).

    Raises:
        UserError: no scan has this attribute; names the nearest.
    """
    return _groups(_scans(cohort), unit, attribute)


def attribute_values(scans: pd.DataFrame, attribute: str, where: str = "subgroups") -> pd.Series:
    """A column of the catalog, or one of its `attributes`; None where a scan has no value.

    Raises:
        UserError: no scan has this attribute; names the nearest.
    """
    if attribute not in attribute_names(scans):
        raise unknown("attribute", attribute, attribute_names(scans), where)
    return scans[attribute] if attribute in COLUMNS else scans["attributes"].map(lambda a: (a or {}).get(attribute))


def _scans(cohort: Path) -> pd.DataFrame:
    from medssl.cohort import Cohort

    return Cohort.open(cohort).scans()


def attribute_names(scans: pd.DataFrame) -> list[str]:
    return sorted({*COLUMNS, *(key for values in scans["attributes"] if values for key in values)})


def _groups(scans: pd.DataFrame, unit: str, attribute: str) -> dict[str, str]:
    values = attribute_values(scans, attribute)
    frame = pd.DataFrame({"unit": scans[UNIT_COLUMN[unit]], "value": values}).dropna().drop_duplicates("unit")
    return dict(zip(frame["unit"], _bands(frame["value"], attribute), strict=True))


def _bands(values: pd.Series, attribute: str) -> list[str]:
    if not len(values) or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        return [str(v) for v in values]
    numbers = values.astype(float)
    edges = list(AGES) if attribute.startswith("age") else sorted({*numbers.quantile([0, 1 / 3, 2 / 3, 1])})
    if len(edges) < 2:
        return [str(v) for v in values]
    places = pd.cut(numbers, edges, labels=False, include_lowest=True)
    return ["unknown" if pd.isna(p) else f"{edges[int(p)]:g} to {edges[int(p) + 1]:g}" for p in places]
