"""Areas under the ROC and the precision-recall curve, mean over several yes-or-no questions about the same units.

A question is `(positive, score)`: (N,) bool, and (D, N) of D draws. `weights` are (B, N); results (D, B), NaN where a
replicate has no positive or no negative unit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Question = tuple[np.ndarray, np.ndarray]


def mean_auc(questions: Sequence[Question], weights: np.ndarray, folds: np.ndarray | None = None) -> np.ndarray:
    """Area under the ROC curve: the weighted Mann-Whitney statistic, the share of (positive, negative) pairs in the
    right order, ties half. Negatives are sorted once a draw and their weights summed up; a positive then looks up the
    weight below it, in all replicates at once.

    Args:
        folds: (D, N) number of the fold in which each unit was scored, where the predictors are one a fold: only pairs
            of units of one fold are compared. Scores of two models have no common scale, so that pairs across folds
            would bias the area (Airola 2011; Forman & Scholz 2010). Folds are summed before dividing, since a replicate
            may leave one of them without a class.
    """
    by_unit = np.ascontiguousarray(weights.T, dtype=np.float32)  # (N, B): sums run over rows, all replicates abreast
    out = np.zeros((len(questions[0][1]), weights.shape[0]))
    for positive, scores in questions:
        if folds is None:
            w_positive, w_negative = by_unit[positive], by_unit[~positive]
            pairs = _pairs(w_positive, w_negative)
        for d, score in enumerate(scores):
            if folds is None:
                right = _concordance(score[positive], score[~positive], w_positive, w_negative)
            else:
                right, pairs = np.zeros(len(weights)), np.zeros(len(weights))
                for fold in np.unique(folds[d]):
                    p, n = positive & (folds[d] == fold), ~positive & (folds[d] == fold)
                    right += _concordance(score[p], score[n], by_unit[p], by_unit[n])
                    pairs += _pairs(by_unit[p], by_unit[n])
            with np.errstate(invalid="ignore", divide="ignore"):
                out[d] += right / pairs
    return out / len(questions)


def mean_average_precision(questions: Sequence[Question], weights: np.ndarray) -> np.ndarray:
    """Average precision: precision at each score of a unit, weighted by the recall that is gained there. Units of equal
    score come together, and nothing is interpolated (Davis & Goadrich 2006)."""
    by_unit = np.ascontiguousarray(weights.T, dtype=np.float64)
    out = np.zeros((len(questions[0][1]), weights.shape[0]))
    for positive, scores in questions:
        for d, score in enumerate(scores):
            order = np.argsort(-score, kind="stable")
            ends = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)  # of runs of equal scores
            found = np.cumsum(by_unit[order] * positive[order, None], 0)[ends]
            taken = np.cumsum(by_unit[order], 0)[ends]
            gained = np.diff(found, axis=0, prepend=0)
            precision = np.divide(found, taken, out=np.zeros_like(found), where=taken > 0)
            negatives = taken[-1] - found[-1]
            with np.errstate(invalid="ignore", divide="ignore"):
                out[d] += np.where(negatives > 0, (precision * gained).sum(0) / found[-1], np.nan)
    return out / len(questions)


def from_zero(summed: np.ndarray) -> np.ndarray:
    """Cumulative sums (N, B) with a row of zeros before them."""
    return np.concatenate([np.zeros_like(summed[:1]) if len(summed) else np.zeros((1, summed.shape[1])), summed])


def _pairs(w_positive: np.ndarray, w_negative: np.ndarray) -> np.ndarray:
    return w_positive.sum(0, dtype=np.float64) * w_negative.sum(0, dtype=np.float64)


def _concordance(
    positive: np.ndarray, negative: np.ndarray, w_positive: np.ndarray, w_negative: np.ndarray
) -> np.ndarray:
    """Weighted count of pairs in the right order, (B,), from scores (P,), (M,) and weights (P, B), (M, B)."""
    order = np.argsort(negative, kind="stable")
    ranked = negative[order]
    summed = from_zero(np.cumsum(w_negative[order], 0))
    low, high = np.searchsorted(ranked, positive, "left"), np.searchsorted(ranked, positive, "right")
    below = summed[low] if (low == high).all() else (summed[low] + summed[high]) * np.float32(0.5)
    return np.einsum("pb,pb->b", w_positive, below, dtype=np.float64)
