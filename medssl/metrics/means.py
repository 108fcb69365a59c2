"""Weighted means over units, and the gap between what probabilities say and what happens."""

from __future__ import annotations

import numpy as np

BINS = 15  # of equal width, for the calibration error (Guo 2017)


def weighted_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean of `values` (D, N) under each set of weights (B, N): (D, B)."""
    weights = weights.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (values @ weights.T) / weights.sum(1)


def binned_gap(happened: np.ndarray, said: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Expected calibration error (Guo 2017): gap between probability and frequency, over 15 bins of probability.

    Args:
        happened: (D, N) or (N,) zeros and ones; `said`: (D, N) their probabilities.
        weights: (B, N).
    """
    said = said.astype(np.float64)
    gap = happened - said
    bins = np.clip(np.ceil(said * BINS).astype(int) - 1, 0, BINS - 1)
    weights = weights.astype(np.float64)
    total = sum(np.abs((gap * (bins == number)) @ weights.T) for number in range(BINS))
    return total / weights.sum(1)
