"""Scans that are far from the others of their kind: in gray values, in spacing, in size.

Robust z-scores (distance from the median over 1.4826 times the median absolute deviation; Iglewicz and Hoaglin 1993)
within scans of one modality, kind, unit and depth of bits. The deviation is taken above and below the median apart, for
gray values are skewed. In a group whose values are nearly all alike everything else would be an outlier, so it is at
least a difference that matters (`Feature.floor`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from medssl.cohort.cohort import Cohort

if TYPE_CHECKING:
    import pandas as pd

FAR = 5.0  # robust z from which on a scan is an outlier
BELOW_AIR = -1100.0  # HU; air is -1000, and noise makes it some tens less
FEWEST = 20  # scans of a kind that say what is usual

Found = tuple[str, str, str, list[dict[str, Any]]]  # code, sentence, todo, cases


class Feature(NamedTuple):
    """A number of each scan.

    Attributes:
        floor: the least spread that is taken for real, in the unit in which scans are compared.
        of: from a row of `Cohort.scans` to the number, as it is compared.
        shown: from that number to what a person reads.
    """

    name: str
    floor: float
    of: Callable[[dict[str, Any]], float]
    shown: Callable[[float], float] = float


def constant(cohort: Cohort, scans: pd.DataFrame) -> list[str]:
    """Scans all of whose values are the same: they show nothing."""
    return [row["scan"] for row in _rows(scans) if _range(row) == 0 and _is_constant(cohort.array(row["scan"]))]


def blank_pictures(cohort: Cohort, scans: pd.DataFrame) -> set[str]:
    """Content hashes of those of the scans that are constant: equal in many patients, and pictures of none."""
    unique = scans.drop_duplicates("content_hash")
    return set(unique.loc[unique["scan"].isin(constant(cohort, unique)), "content_hash"])


def find(scans: pd.DataFrame) -> Iterator[Found]:
    """CT that is not in HU, or not as HU should be, and outliers in intensity and geometry; cases may be empty."""
    rows = _rows(scans)
    ct = [row for row in rows if row["modality"] == "CT"]
    yield (
        "ct_not_hu",
        "A CT is not in HU.",
        "Check its origin; windows in HU make no sense for it.",
        [{"scan": row["scan"], "unit": row["unit"]} for row in ct if row["unit"] != "HU"],
    )
    yield (
        "ct_without_air",
        "A CT in HU has no negative value, so neither air nor fat: its values are shifted, or it is no CT image.",
        "Check its rescale values.",
        [
            {"scan": row["scan"], "lowest": _percentile(row, "0.5")}
            for row in ct
            if row["unit"] == "HU" and _percentile(row, "0.5") >= 0
        ],
    )
    yield (
        "ct_below_air",
        "A CT has values far below those of air: padding that its header does not declare.",
        "Nothing where a window cuts it off, as the default does; else mask it.",
        [
            {"scan": row["scan"], "lowest": _percentile(row, "0.5")}
            for row in ct
            if row["unit"] == "HU" and _percentile(row, "0.5") < BELOW_AIR
        ],
    )
    yield (
        "intensity_outliers",
        "The gray values of the scan are far from those of the others of its kind.",
        "Look at it: another protocol, a wrong rescale, or a damaged image.",
        list(_far(rows, lambda r: (r["modality"], r["kind"], r["unit"], r["dtype"] == "uint8"), _intensities)),
    )
    yield (
        "geometry_outliers",
        "Size or spacing of the scan are far from those of the others of its kind.",
        "Look at it: another protocol, a localizer, or a wrong header.",
        list(_far(rows, lambda r: (r["modality"], r["kind"]), _sizes)),
    )


def _rows(scans: pd.DataFrame) -> list[dict[str, Any]]:
    return scans.to_dict("records")  # type: ignore[return-value]  # its columns are names


def _far(
    rows: list[dict[str, Any]],
    kind: Callable[[dict[str, Any]], tuple],
    features: Callable[[dict[str, Any]], list[Feature]],
) -> Iterator[dict[str, Any]]:
    """The outliers of each kind, the farthest first, each with the one feature that it is farthest in."""
    groups: dict[tuple, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(kind(row), []).append(row)
    cases = []
    for group in groups.values():
        if len(group) < FEWEST:
            continue
        scores, table = [], []
        chosen = features(group[0])
        for feature in chosen:
            values = np.array([feature.of(row) for row in group])
            middle = np.nanmedian(values) if np.isfinite(values).any() else np.nan
            scores.append(_distance(values, middle, feature.floor))
            table.append((values, middle))
        best = np.argmax(scores, axis=0)
        for n in np.flatnonzero(np.max(scores, axis=0) > FAR):
            feature, (values, middle) = chosen[best[n]], table[best[n]]
            case = {"scan": group[n]["scan"], "what": feature.name, "value": feature.shown(values[n])}
            cases.append((scores[best[n]][n], case | {"usual": feature.shown(middle), "of": len(group)}))
    yield from (case for _, case in sorted(cases, key=lambda c: (-c[0], c[1]["scan"])))


def _distance(values: np.ndarray, middle: float, floor: float) -> np.ndarray:
    """Robust z of each value, 0 where there is none."""
    away = values - middle
    above, below = (np.median(side) if len(side) else 0.0 for side in (away[away >= 0], -away[away <= 0]))
    spread = np.where(away >= 0, max(1.4826 * above, floor), max(1.4826 * below, floor))
    return np.nan_to_num(np.abs(away) / spread)


def _intensities(row: dict[str, Any]) -> list[Feature]:
    """HU and 8-bit values are compared as they are; others have a scale of their own, so its size and the place of the
    median in it are."""
    if row["unit"] == "HU" or row["dtype"] == "uint8":
        floor, least = (40.0, -1024.0) if row["unit"] == "HU" else (8.0, 0.0)
        return [
            Feature(f"{p} % percentile", floor, partial(_at_least, least, p), partial(round, ndigits=1))
            for p in ("5", "50", "95")
        ]
    return [
        Feature("range of values", 0.3, lambda r: np.log(max(_range(r), 1e-12)), lambda v: float(f"{np.exp(v):.3g}")),
        Feature("median within the range", 0.06, _middle, lambda v: round(v, 3)),
    ]


def _sizes(row: dict[str, Any]) -> list[Feature]:
    first = 1 if row["kind"].startswith("colour") else 0
    axes = ("z", "y", "x")[-len(row["shape"][first:]) :]
    features = []
    for n, axis in enumerate(axes):
        features.append(Feature(f"pixels along {axis}", 0.1, partial(_pixels, first + n), _exp))
        features.append(Feature(f"mm a pixel along {axis}", 0.1, partial(_step, n), _exp))
    return features


def _pixels(axis: int, row: dict[str, Any]) -> float:
    return float(np.log(row["shape"][axis]))


def _step(axis: int, row: dict[str, Any]) -> float:
    return float(np.log(row["spacing"][axis])) if row["spacing"] else np.nan


def _exp(value: float) -> float:
    return float(f"{np.exp(value):.4g}")


def _percentile(row: dict[str, Any], name: str) -> float:
    return float((row["percentiles"] or {}).get(name, np.nan))


def _at_least(least: float, name: str, row: dict[str, Any]) -> float:
    return max(_percentile(row, name), least)


def _range(row: dict[str, Any]) -> float:
    return _percentile(row, "99.5") - _percentile(row, "0.5")


def _middle(row: dict[str, Any]) -> float:
    size = _range(row)
    return (_percentile(row, "50") - _percentile(row, "0.5")) / size if size > 0 else np.nan


def _is_constant(array: np.ndarray) -> bool:
    return bool((array == array.flat[0]).all())
