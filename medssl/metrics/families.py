"""A family of metrics for each form that a target's truth can have, and the one call that scores by name.

A metric called `calibrated_NAME` is NAME of the probabilities at the temperature that was fitted on validation labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from medssl.errors import unknown
from medssl.metrics import classification, multilabel, ordinal, regression

CALIBRATED = "calibrated_"
OF_PROBABILITIES = ("brier", "ece")
Metric = Callable[..., np.ndarray]

UNIT = (0.0, 1.0)
RANGES = {  # (lowest, highest) of what is no share of something
    "mae": (0.0, np.inf),
    "rmse": (0.0, np.inf),
    "r2": (-np.inf, 1.0),
    **dict.fromkeys(("kappa", "pearson", "spearman"), (-1.0, 1.0)),
}


@dataclass(frozen=True)
class Family:
    """The metrics of targets whose truth has one form.

    Attributes:
        metrics: by name; the first says most.
        truth: evidence as it is stored, (N, C) a column a class, -> the truth that the metrics take.
        groups: that truth and C -> masks (N,): the sides that all need enough test units for an interval.
        group_words: what such a side is called after "fewer than 15 units".
        within_folds: metrics that take `folds`, since they compare units.
        cross_fitted: metrics that can be told from predictors that are one a fold.
        ordered: the order of the classes means something, and evidence keeps it.
        tempered: (scores, temperatures (D,)) -> scores; None where there are no probabilities.
    """

    metrics: dict[str, Metric]
    truth: Callable[[np.ndarray], np.ndarray]
    groups: Callable[[np.ndarray, int], list[np.ndarray]]
    group_words: str
    within_folds: dict[str, Metric] = field(default_factory=dict)
    cross_fitted: frozenset[str] = frozenset()
    ordered: bool = False
    tempered: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None

    @property
    def names(self) -> list[str]:
        """Of all metrics, calibrated ones too."""
        return [*self.metrics, *(CALIBRATED + name for name in OF_PROBABILITIES if self.tempered)]


def _of_classes(truth: np.ndarray, classes: int) -> list[np.ndarray]:
    return [truth == c for c in range(classes)]


def _of_labels(truth: np.ndarray, labels: int) -> list[np.ndarray]:
    return [truth[:, c] == side for c in range(labels) for side in (0, 1)]


def _halves(truth: np.ndarray, columns: int) -> list[np.ndarray]:
    middle = np.median(truth)
    return [truth <= middle, truth > middle]


FAMILIES = {
    "classification": Family(
        classification.METRICS,
        lambda columns: columns.argmax(1),
        _of_classes,
        "of a class",
        {"auc": classification.auc_within_folds},
        classification.CROSS_FITTED,
        tempered=classification.tempered,
    ),
    "multilabel": Family(
        multilabel.METRICS,
        lambda columns: columns.astype(np.int64),
        _of_labels,
        "with a label or without it",
        tempered=multilabel.tempered,
    ),
    "ordinal": Family(
        ordinal.METRICS,
        lambda columns: columns.argmax(1),
        _of_classes,
        "of a grade",
        {"auc": ordinal.auc},
        ordinal.CROSS_FITTED,
        ordered=True,
        tempered=ordinal.tempered,
    ),
    "regression": Family(
        regression.METRICS,
        lambda columns: columns[:, 0].astype(np.float64),
        _halves,
        "on either side of the median value",
        cross_fitted=regression.CROSS_FITTED,
    ),
}


def check_metric(name: str, family: str, where: str = "metrics") -> None:
    """
    Raises:
        UserError: no such metric of this family.
    """
    if name not in FAMILIES[family].names:
        raise unknown(f"metric of a target of kind {family}", name, FAMILIES[family].names, where)


def metric_range(name: str) -> tuple[float, float]:
    """(lowest, highest) value that a metric can have; the Brier score of classes goes beyond, to 2."""
    return RANGES.get(name.removeprefix(CALIBRATED), UNIT)


def score_metric(
    name: str,
    truth: np.ndarray,
    scores: np.ndarray,
    weights: np.ndarray,
    folds: np.ndarray | None = None,
    family: str = "classification",
    temperature: np.ndarray | None = None,
) -> np.ndarray:
    """A metric by its name, (D, B).

    Args:
        truth, scores, weights: as the family's file says.
        folds: (D, N), of cross-fitted scores.
        family: of the target.
        temperature: (D,) of each draw's predictor, which a `calibrated_` metric needs; NaN where it was not fitted.
    """
    known = FAMILIES[family]
    if name.startswith(CALIBRATED):
        name = name.removeprefix(CALIBRATED)
        missing = np.full(len(scores), np.nan)
        assert known.tempered is not None, f"targets of kind {family} have no probabilities"
        scores = known.tempered(scores, missing if temperature is None else temperature)
        if np.isnan(scores).any():
            return np.full((len(scores), len(weights)), np.nan)
    if folds is not None and name in known.within_folds:
        return known.within_folds[name](truth, scores, weights, folds)
    return known.metrics[name](truth, scores, weights)
