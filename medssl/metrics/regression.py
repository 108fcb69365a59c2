"""Metrics of a number a unit.

Shapes: `truth` (N,), `scores` (D, N, 1) predicted values of D draws, `weights` (B, N) whole numbers: how often each
unit is there; result (D, B), NaN where a replicate cannot be scored (no spread).
"""

from __future__ import annotations

import numpy as np

from medssl.metrics.means import weighted_mean


def mae(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean absolute error, in the target's unit."""
    return weighted_mean(np.abs(scores[:, :, 0] - truth), weights)


def rmse(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Root of the mean squared error, in the target's unit."""
    return np.sqrt(weighted_mean((scores[:, :, 0] - truth) ** 2, weights))


def r2(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of the variance that is explained: 1 minus squared error over that of the test units' own mean. It is below
    0 where the mean would have been the better guess."""
    weights, known = weights.astype(np.float64), truth - truth.mean()
    error = weighted_mean((scores[:, :, 0] - truth) ** 2, weights)
    spread = weighted_mean(known[None] ** 2, weights) - weighted_mean(known[None], weights) ** 2
    return 1 - error / np.where(spread > 1e-12 * known.var(), spread, np.nan)


def pearson(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Correlation of prediction and truth."""
    by_unit = weights.T.astype(np.float64)
    known = truth[:, None]
    return np.stack([_correlation(known, score[:, None], by_unit) for score in scores[:, :, 0].astype(np.float64)])


def spearman(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Correlation of their ranks, which are found anew in each replicate; ties share the mean of their ranks."""
    by_unit = weights.T.astype(np.float64)
    known = _ranks(truth, by_unit)
    return np.stack([_correlation(known, _ranks(score, by_unit), by_unit) for score in scores[:, :, 0]])


def _ranks(values: np.ndarray, by_unit: np.ndarray) -> np.ndarray:
    """(N, B) mean rank of each unit among all, where it is there `by_unit` (N, B) times."""
    _, first, place = np.unique(np.sort(values), return_index=True, return_inverse=True)
    order = np.argsort(values, kind="stable")
    size = np.add.reduceat(by_unit[order], first, 0)  # of each run of equal values
    place, upto = place[np.argsort(order)], np.cumsum(size, 0)
    return (upto - (size - 1) / 2)[place]


def _correlation(x: np.ndarray, y: np.ndarray, by_unit: np.ndarray) -> np.ndarray:
    """(B,) of x and y (N, B), with weights (N, B)."""
    share = by_unit / by_unit.sum(0)
    x, y = x - x[:1], y - y[:1]  # what has no spread is zero then, to the last digit
    least = 1e-18 * x.var(0) * y.var(0)
    x, y = x - (share * x).sum(0), y - (share * y).sum(0)
    spread = (share * x**2).sum(0) * (share * y**2).sum(0)
    product = (share * x * y).sum(0)
    return np.divide(product, np.sqrt(spread), out=np.full(len(spread), np.nan), where=spread > least)


METRICS = {"mae": mae, "rmse": rmse, "r2": r2, "pearson": pearson, "spearman": spearman}
CROSS_FITTED = frozenset({"mae", "rmse", "r2"})  # errors are each model's own; ranks of several have no common scale
