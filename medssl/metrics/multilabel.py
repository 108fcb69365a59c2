"""Metrics of several yes-or-no labels a unit, mean over the labels.

Shapes: `truth` (N, L) zeros and ones, `scores` (D, N, L) probabilities of D draws, `weights` (B, N) of B replicates;
result (D, B), NaN where a replicate cannot be scored (a label that all units have, or none).
"""

from __future__ import annotations

import numpy as np

from medssl.metrics.areas import Question, mean_auc, mean_average_precision
from medssl.metrics.means import binned_gap, weighted_mean


def auc(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each label, their plain mean (macro)."""
    return mean_auc(_questions(truth, scores), weights)


def average_precision(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average precision of each label, their plain mean. By chance it is the share of units that have the label."""
    return mean_average_precision(_questions(truth, scores), weights)


def accuracy(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of labels that are right, taken for there from a probability of one half on (one minus Hamming's loss)."""
    return weighted_mean(((scores >= 0.5) == truth).mean(2, dtype=np.float64), weights)


def brier(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean squared distance of the probabilities from the truth (Brier 1950), mean over labels: 0 best, 1 worst."""
    return weighted_mean(((scores - truth) ** 2).mean(2, dtype=np.float64), weights)


def ece(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Calibration error of each label's probability, over 15 bins, mean over labels."""
    return np.mean([binned_gap(truth[:, c], scores[:, :, c], weights) for c in range(truth.shape[1])], 0)


def tempered(scores: np.ndarray, temperature: np.ndarray) -> np.ndarray:
    """The probabilities (D, N, L) that logits divided by each draw's temperature (D,) would have given."""
    chance = np.clip(scores.astype(np.float64), 1e-7, 1 - 1e-7)
    odds = np.log(chance / (1 - chance)) / temperature[:, None, None]
    return 1 / (1 + np.exp(-odds))


def _questions(truth: np.ndarray, scores: np.ndarray) -> list[Question]:
    return [(truth[:, c] == 1, scores[:, :, c]) for c in range(truth.shape[1])]


METRICS = {"auc": auc, "average_precision": average_precision, "accuracy": accuracy, "brier": brier, "ece": ece}
