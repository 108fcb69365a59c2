"""Two things compared on the same cases: corrections for many comparisons, equivalence, tests for per-case scores."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats

from medssl.statistics.intervals import multinomial, percentile_interval
from medssl.statistics.readers import Estimate


def holm(p: np.ndarray) -> np.ndarray:
    """Step-down p-values of Holm (1979): any of them below .05 by chance alone happens in at most 5 % of experiments.

    NaN (not estimable) stays NaN and does not count.
    """
    adjusted = np.full(len(p), np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    factor = len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * factor))
    return adjusted


def no_worse(gain: Estimate, margin: float) -> float:
    """p of non-inferiority: that an arm is worse by `margin` or more (one-sided t-test; Blackwelder 1982)."""
    if not gain.se > 0:
        return float("nan")
    return float(stats.t.sf((gain.value + margin) / gain.se, gain.df))


def equivalence(gain: Estimate, margin: float) -> float:
    """p of equivalence within +- `margin`: the larger of two one-sided tests (Schuirmann 1987)."""
    return max(no_worse(gain, margin), no_worse(Estimate(-gain.value, gain.se, gain.df), margin))


class Paired(NamedTuple):
    """A mean paired difference with its bootstrap interval, and Wilcoxon's p."""

    difference: float
    low: float
    high: float
    p: float


def paired_cases(first: np.ndarray, second: np.ndarray, patients: np.ndarray, replicates: int, seed: int) -> Paired:
    """Per-case scores (Dice) of two models on the same cases: paired bootstrap over patients, and Wilcoxon's test.

    The signed-rank test (Wilcoxon 1945) is on patients' mean differences, since cases of one patient are not
    independent. With fewer than 15 patients nothing is estimable.

    Args:
        first, second: (N,) scores of the same cases.
        patients: (N,) cluster numbers from 0.
        replicates: of the bootstrap.
        seed: of the resampling.
    """
    gap = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    count = np.bincount(patients)
    total = np.bincount(patients, weights=gap)
    if len(count) < 15:
        return Paired(float(gap.mean()), float("nan"), float("nan"), float("nan"))
    weights = multinomial(len(count), replicates, seed)
    low, high = percentile_interval((weights @ total) / (weights @ count))
    means = total / count
    p = float(stats.wilcoxon(means, zero_method="pratt").pvalue) if (means != 0).any() else 1.0
    return Paired(float(gap.mean()), low, high, p)
