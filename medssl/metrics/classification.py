"""Metrics of classification, for many draws and many sets of weights at once.

Shapes: `truth` (N,) class numbers, `scores` (D, N, C) for D draws, `weights` (B, N) for B replicates; result (D, B),
NaN where a replicate cannot be scored (no unit of a class). Probabilities where a metric needs them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from medssl.metrics.areas import from_zero, mean_auc
from medssl.metrics.means import binned_gap, weighted_mean

SPECIFICITY = 0.9  # at which `sensitivity_at_90` reads the ROC curve


def macro_auc(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve, one class against the rest, mean over classes (Hand & Till 2001 without pairs).

    For two classes only the second is scored, since the first is its mirror image.
    """
    return mean_auc(list(_one_against_rest(truth, scores)), weights)


def auc_within_folds(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """`macro_auc` of predictors that are one a fold, `folds` (D, N): only pairs of units of one fold are compared."""
    return mean_auc(list(_one_against_rest(truth, scores)), weights, folds)


def accuracy(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of units whose highest score is their class."""
    return weighted_mean((scores.argmax(2) == truth).astype(np.float64), weights)


def balanced_accuracy(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean over classes of the share of a class's units that are given to it (mean recall)."""
    right = (scores.argmax(2) == truth).astype(np.float64)
    classes = [truth == c for c in range(scores.shape[2])]
    return np.mean([weighted_mean(right[:, own], weights[:, own]) for own in classes], 0)


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
                summed = from_zero(np.cumsum(w_positive[np.argsort(score[positive], kind="stable")], 0))
                hit = np.take_along_axis(summed, ranks[place][None], 0)[0]
                out[d] += np.where(below[-1] > 0, 1 - hit / summed[-1], np.nan)
    return out / len(classes)


def brier(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean squared distance of the probabilities from the truth, summed over classes (Brier 1950): 0 best, 2 worst."""
    return weighted_mean(((scores - one_hot(truth, scores.shape[2])) ** 2).sum(2, dtype=np.float64), weights)


def ece(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Expected calibration error (Guo 2017): gap between confidence and accuracy, over 15 bins of confidence."""
    return binned_gap(scores.argmax(2) == truth, scores.max(2), weights)


def tempered(scores: np.ndarray, temperature: np.ndarray) -> np.ndarray:
    """The probabilities (D, N, C) that logits divided by each draw's temperature (D,) would have given."""
    logs = np.log(np.maximum(scores, 1e-30).astype(np.float64)) / temperature[:, None, None]
    powers = np.exp(logs - logs.max(2, keepdims=True))
    return powers / powers.sum(2, keepdims=True)


def one_hot(truth: np.ndarray, classes: int) -> np.ndarray:
    """(N,) class numbers -> (N, classes) zeros and ones."""
    return np.eye(classes)[truth]


def _one_against_rest(truth: np.ndarray, scores: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(positive (N,) bool, scores of that class (D, N)); for two classes only the second."""
    for c in range(1, 2) if scores.shape[2] == 2 else range(scores.shape[2]):
        yield truth == c, scores[:, :, c]


METRICS = {
    "auc": macro_auc,
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "sensitivity_at_90": sensitivity_at_90,
    "brier": brier,
    "ece": ece,
}

CROSS_FITTED = frozenset({"auc", "accuracy", "balanced_accuracy", "brier", "ece"})  # means, but for the first
