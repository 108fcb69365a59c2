"""Metrics of grades, which have an order: how far off, and not only whether.

Shapes: `truth` (N,) numbers of grades from 0, `scores` (D, N, K) probabilities of the K grades, `weights` (B, N);
result (D, B), NaN where a replicate cannot be scored. The predicted grade is the median of the probabilities, which is
the best guess by the absolute error.
"""

from __future__ import annotations

import numpy as np

from medssl.metrics.areas import mean_auc
from medssl.metrics.classification import brier, ece
from medssl.metrics.means import weighted_mean
from medssl.metrics.multilabel import tempered as tempered_odds


def median_grade(scores: np.ndarray) -> np.ndarray:
    """(..., K) probabilities -> (...) the first grade by which half of the probability is reached."""
    below = np.cumsum(scores[..., :-1], -1, dtype=np.float64)
    return (below < 0.5 - 1e-9).sum(-1)


def auc(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray, folds: np.ndarray | None = None) -> np.ndarray:
    """Area under the ROC curve of "above this grade", mean over all grades but the last; `folds` as in `mean_auc`."""
    above = _above(scores)
    return mean_auc([(truth > k, above[:, :, k]) for k in range(above.shape[2])], weights, folds)


def kappa(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Cohen's kappa with quadratic weights (Cohen 1968): 1 minus the mean squared distance in grades over the one that
    chance would give at the same frequencies. 0 is chance; NaN where truth and prediction are one and the same grade.
    """
    weights, said = weights.astype(np.float64), median_grade(scores).astype(np.float64)
    total, known = weights.sum(1), truth @ weights.T
    apart = (said - truth) ** 2 @ weights.T
    by_chance = truth**2 @ weights.T + said**2 @ weights.T - 2 * known * (said @ weights.T) / total
    return 1 - np.divide(apart, by_chance, out=np.full_like(apart, np.nan), where=by_chance > 1e-9 * total)


def mae(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean distance of the predicted grade from the true one, in grades."""
    return weighted_mean(np.abs(median_grade(scores) - truth).astype(np.float64), weights)


def accuracy(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of units whose predicted grade is the true one."""
    return weighted_mean((median_grade(scores) == truth).astype(np.float64), weights)


def tempered(scores: np.ndarray, temperature: np.ndarray) -> np.ndarray:
    """The probabilities (D, N, K) if the log odds of lying above each grade were divided by each draw's temperature."""
    above = tempered_odds(_above(scores), temperature)
    ends = np.pad(above, ((0, 0), (0, 0), (1, 1)), constant_values=((0, 0), (0, 0), (1, 0)))
    return ends[:, :, :-1] - ends[:, :, 1:]


def _above(scores: np.ndarray) -> np.ndarray:
    """(D, N, K - 1) probabilities of lying above each grade but the last."""
    return np.cumsum(scores[:, :, ::-1], 2)[:, :, -2::-1]


METRICS = {"auc": auc, "kappa": kappa, "mae": mae, "accuracy": accuracy, "brier": brier, "ece": ece}
CROSS_FITTED = frozenset(METRICS)
