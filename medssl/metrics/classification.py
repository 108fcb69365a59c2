"""Metrics of classification, for many draws and many sets of weights at once.

Shapes: `truth` (N,) class numbers, `scores` (D, N, C) for D draws, `weights` (B, N) for B replicates; result (D, B).
"""

from __future__ import annotations

import numpy as np

BLOCK = 4_000_000  # elements of a pairwise block; keeps the working set near 16 MB


def macro_auc(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve, one class against the rest, mean over classes (Hand & Till 2001 without pairs).

    It is the weighted Mann-Whitney statistic: the share of (positive, negative) pairs in the right order, ties half.
    For two classes only the second is scored, since the first is its mirror image.

    Returns:
        (D, B); NaN where a replicate holds no unit of a class or nothing but one.
    """
    classes = range(1, 2) if scores.shape[2] == 2 else range(scores.shape[2])
    weights = weights.astype(np.float32)
    out = np.zeros((scores.shape[0], weights.shape[0]))
    for c in classes:
        positive = truth == c
        w_positive, w_negative = weights[:, positive], weights[:, ~positive]
        with np.errstate(invalid="ignore", divide="ignore"):
            pairs = w_positive.sum(1, dtype=np.float64) * w_negative.sum(1, dtype=np.float64)
            for d in range(scores.shape[0]):
                score = scores[d, :, c]
                out[d] += _concordance(score[positive], score[~positive], w_positive, w_negative) / pairs
    return out / len(classes)


def _concordance(
    positive: np.ndarray, negative: np.ndarray, w_positive: np.ndarray, w_negative: np.ndarray
) -> np.ndarray:
    """Weighted count of pairs in the right order, (B,). A matrix product does all replicates at once."""
    total = np.zeros(len(w_positive))
    step = max(1, BLOCK // max(1, len(negative)))
    for start in range(0, len(positive), step):
        mine = positive[start : start + step, None]
        order = (mine > negative).astype(np.float32)
        ties = mine == negative
        if ties.any():
            order += np.float32(0.5) * ties
        total += np.einsum("bn,bn->b", w_positive[:, start : start + step] @ order, w_negative, dtype=np.float64)
    return total


def accuracy(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of units whose highest score is their class, (D, B)."""
    right = (scores.argmax(2) == truth).astype(np.float64)
    weights = weights.astype(np.float64)
    return (right @ weights.T) / weights.sum(1)


def one_hot(truth: np.ndarray, classes: int) -> np.ndarray:
    """(N,) class numbers -> (N, classes) zeros and ones."""
    return np.eye(classes)[truth]


METRICS = {"auc": macro_auc, "accuracy": accuracy}
