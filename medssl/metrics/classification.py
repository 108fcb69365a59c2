"""Metrics of classification, for many draws and many sets of weights at once.

Shapes: `truth` (N,) class numbers, `scores` (D, N, C) for D draws, `weights` (B, N) for B replicates; result (D, B),
NaN where a replicate cannot be scored (no unit of a class). Probabilities where a metric needs them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

SPECIFICITY = 0.9  # at which `sensitivity_at_90` reads the ROC curve
BINS = 15  # of equal width, for the calibration error (Guo 2017)


def macro_auc(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve, one class against the rest, mean over classes (Hand & Till 2001 without pairs).

    It is the weighted Mann-Whitney statistic: the share of (positive, negative) pairs in the right order, ties half.
    For two classes only the second is scored, since the first is its mirror image. Negatives are sorted once a draw
    and their weights summed up; a positive then looks up the weight below it, in all replicates at once.
    """
    by_unit = np.ascontiguousarray(weights.T, dtype=np.float32)  # (N, B): sums run over rows, all replicates abreast
    classes = list(_one_against_rest(truth, scores))
    out = np.zeros((scores.shape[0], weights.shape[0]))
    for positive, column in classes:
        w_positive, w_negative = by_unit[positive], by_unit[~positive]
        with np.errstate(invalid="ignore", divide="ignore"):
            pairs = w_positive.sum(0, dtype=np.float64) * w_negative.sum(0, dtype=np.float64)
            for d, score in enumerate(column):
                out[d] += _concordance(score[positive], score[~positive], w_positive, w_negative) / pairs
    return out / len(classes)


def auc_within_folds(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """`macro_auc` of predictors that are one a fold: only pairs of units of one fold are compared.

    Scores of two models have no common scale, so that pairs across folds would bias the area (Airola 2011; Forman &
    Scholz 2010). Folds are summed before dividing, since a replicate may leave one of them without a class.

    Args:
        folds: (D, N) number of the fold in which each unit was scored.
    """
    by_unit = np.ascontiguousarray(weights.T, dtype=np.float32)
    classes = list(_one_against_rest(truth, scores))
    out = np.zeros((scores.shape[0], weights.shape[0]))
    for positive, column in classes:
        for d, score in enumerate(column):
            right, pairs = np.zeros(len(weights)), np.zeros(len(weights))
            for fold in np.unique(folds[d]):
                p, n = positive & (folds[d] == fold), ~positive & (folds[d] == fold)
                right += _concordance(score[p], score[n], by_unit[p], by_unit[n])
                pairs += by_unit[p].sum(0, dtype=np.float64) * by_unit[n].sum(0, dtype=np.float64)
            with np.errstate(invalid="ignore", divide="ignore"):
                out[d] += right / pairs
    return out / len(classes)


def accuracy(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of units whose highest score is their class."""
    return _weighted_mean((scores.argmax(2) == truth).astype(np.float64), weights)


def balanced_accuracy(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean over classes of the share of a class's units that are given to it (mean recall)."""
    right = (scores.argmax(2) == truth).astype(np.float64)
    classes = [truth == c for c in range(scores.shape[2])]
    return np.mean([_weighted_mean(right[:, own], weights[:, own]) for own in classes], 0)


def sensitivity_at_90(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sensitivity where at least 90 % of the negatives lie at or below the threshold; mean over classes as for the AUC.

    The threshold is the lowest score of a negative that leaves that specificity, found anew in each replicate: an
    interval then holds the chance of the threshold too (Pepe 2003, section 5.2).
    """
    by_unit = np.ascontiguousarray(weights.T, dtype=np.float64)
    classes = list(_one_against_rest(truth, scores))
    out = np.zeros((scores.shape[0], weights.shape[0]))
    for positive, column in classes:
        if positive.all() or not positive.any():
            return np.full_like(out, np.nan)
        w_positive, w_negative = by_unit[positive], by_unit[~positive]
        with np.errstate(invalid="ignore", divide="ignore"):
            for d, score in enumerate(column):
                negatives, order = np.sort(score[~positive]), np.argsort(score[~positive], kind="stable")
                below = np.cumsum(w_negative[order], 0)
                place = (below < SPECIFICITY * below[-1] - 1e-9).sum(0).clip(max=len(negatives) - 1)
                ranks = np.searchsorted(np.sort(score[positive]), negatives, "right")  # positives not above each
                summed = _from_zero(np.cumsum(w_positive[np.argsort(score[positive], kind="stable")], 0))
                hit = np.take_along_axis(summed, ranks[place][None], 0)[0]
                out[d] += np.where(below[-1] > 0, 1 - hit / summed[-1], np.nan)
    return out / len(classes)


def brier(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean squared distance of the probabilities from the truth, summed over classes (Brier 1950): 0 best, 2 worst."""
    return _weighted_mean(((scores - one_hot(truth, scores.shape[2])) ** 2).sum(2, dtype=np.float64), weights)


def ece(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Expected calibration error (Guo 2017): gap between confidence and accuracy, over 15 bins of confidence."""
    confidence = scores.max(2).astype(np.float64)
    gap = (scores.argmax(2) == truth) - confidence
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    weights = weights.astype(np.float64)
    total = sum(np.abs((gap * (bins == number)) @ weights.T) for number in range(BINS))
    return total / weights.sum(1)


def one_hot(truth: np.ndarray, classes: int) -> np.ndarray:
    """(N,) class numbers -> (N, classes) zeros and ones."""
    return np.eye(classes)[truth]


def _one_against_rest(truth: np.ndarray, scores: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(positive (N,) bool, scores of that class (D, N)); for two classes only the second."""
    for c in range(1, 2) if scores.shape[2] == 2 else range(scores.shape[2]):
        yield truth == c, scores[:, :, c]


def _concordance(
    positive: np.ndarray, negative: np.ndarray, w_positive: np.ndarray, w_negative: np.ndarray
) -> np.ndarray:
    """Weighted count of pairs in the right order, (B,), from scores (P,), (M,) and weights (P, B), (M, B)."""
    order = np.argsort(negative, kind="stable")
    ranked = negative[order]
    summed = _from_zero(np.cumsum(w_negative[order], 0))
    low, high = np.searchsorted(ranked, positive, "left"), np.searchsorted(ranked, positive, "right")
    below = summed[low] if (low == high).all() else (summed[low] + summed[high]) * np.float32(0.5)
    return np.einsum("pb,pb->b", w_positive, below, dtype=np.float64)


def _from_zero(summed: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros_like(summed[:1]) if len(summed) else np.zeros((1, summed.shape[1])), summed])


def _weighted_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean of `values` (D, N) under each set of weights, (D, B)."""
    weights = weights.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (values @ weights.T) / weights.sum(1)


METRICS = {
    "auc": macro_auc,
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "sensitivity_at_90": sensitivity_at_90,
    "brier": brier,
    "ece": ece,
}

MEANS = {"accuracy", "balanced_accuracy", "brier", "ece"}  # over units: each by the model that scored it
CROSS_FITTED = frozenset({"auc", *MEANS})


def score_metric(
    name: str, truth: np.ndarray, scores: np.ndarray, weights: np.ndarray, folds: np.ndarray | None = None
) -> np.ndarray:
    """A metric by its name, (D, B); with `folds` (D, N) of cross-fitted scores (one of `CROSS_FITTED`)."""
    if folds is not None and name == "auc":
        return auc_within_folds(truth, scores, weights, folds)
    return METRICS[name](truth, scores, weights)
