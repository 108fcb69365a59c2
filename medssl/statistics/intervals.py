"""The crossed bootstrap: one fixed test split, on which draws and test patients are crossed."""

from __future__ import annotations

import numpy as np

MIN_DRAWS = 3  # below, the spread between draws cannot be estimated
MIN_UNITS_A_CLASS = 15  # below, a bootstrap of AUC or accuracy covers far less than it says


def crossed_bootstrap(
    metric, truth: np.ndarray, scores: np.ndarray, patients: np.ndarray, replicates: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Resample patients once for all draws together, and resample draws (Owen 2007's product-weight bootstrap).

    A nested bootstrap would be wrong: every draw is scored on the same patients, so their errors do not average out
    over draws. Two calls with the same `seed`, patients and number of draws use the same replicates, so that the
    difference of their results is a paired bootstrap.

    Args:
        metric: of `medssl.metrics`, called with all replicates at once.
        truth: (N,), `scores` (D, N, C), `patients` (N,) cluster numbers: the units of a patient stay together.
        replicates: B.
        seed: of the resampling.

    Returns:
        (point estimate of each draw (D,), replicates (B,) of the mean over draws).
    """
    each = metric(truth, scores, np.ones((1, len(truth))))[:, 0]
    by_draw = metric(truth, scores, patient_weights(patients, replicates, seed))
    draw_weights = _multinomial(len(scores), replicates, seed + 1) / len(scores)
    return each, np.einsum("db,bd->b", by_draw, draw_weights)


def patient_weights(patients: np.ndarray, replicates: int, seed: int) -> np.ndarray:
    """(B, N): how often each unit's patient was drawn in each replicate."""
    return _multinomial(int(patients.max()) + 1, replicates, seed)[:, patients]


def percentile_interval(replicates: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The central `level` of the replicates; those without both classes are NaN and are left out."""
    tail = (1 - level) / 2
    low, high = np.nanquantile(replicates, [tail, 1 - tail])
    return float(low), float(high)


def _multinomial(n: int, replicates: int, seed: int) -> np.ndarray:
    return np.random.default_rng([seed, n]).multinomial(n, np.full(n, 1 / n), size=replicates)
