"""The crossed bootstrap: one fixed test split, on which draws and test patients are crossed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

MIN_DRAWS = 3  # below, the spread between draws cannot be estimated
MANY_DRAWS = 20  # from here on the bootstrap's own interval is taken, below it a t-based one (`readers`)
MIN_UNITS_A_CLASS = 15  # below, an interval of AUC or accuracy covers far less than it says; cross-fitted: patients
ROLES = 2  # of a patient in a cross-fitted score: tested, and teaching the models of the others (docs/decisions.md)
MIN_PATIENTS_A_CLASS = 5  # below, replicates without the class are common
UNSCORED = 0.01  # share of replicates without a class, above which a bootstrap says nothing of the whole
RESOLVED = 20  # replicates beyond zero from which on their share is a p-value; below, the normal tail is


def patient_weights(patients: np.ndarray, replicates: int, seed: int) -> np.ndarray:
    """(B, N): how often each unit's patient was drawn in each replicate; the units of a patient stay together."""
    return multinomial(int(patients.max()) + 1, replicates, seed)[:, patients]


def crossed(by_draw: np.ndarray, seed: int) -> np.ndarray:
    """Mean over draws in each replicate, in which draws are resampled too (Owen 2007's product-weight bootstrap).

    A nested bootstrap would be wrong: every draw is scored on the same patients, so their errors do not average out
    over draws. Two calls with the same `seed` and number of draws use the same replicates, so that the difference of
    their results is a paired bootstrap.

    Args:
        by_draw: (K, D, B): each draw's score in each replicate of the patients, who are resampled once for all draws
            and arms; the K runs of pretraining are resampled as draws are.
        seed: of the resampling.

    Returns:
        (B,); NaN where a replicate holds no unit of a class.
    """
    runs, draws, replicates = by_draw.shape
    of_draws = multinomial(draws, replicates, seed + 1) / draws
    of_runs = multinomial(runs, replicates, seed + 2) / runs
    return np.einsum("kdb,bk,bd->b", by_draw, of_runs, of_draws, optimize=True)


def drawn_in(replicates: np.ndarray, value: float, se: float) -> np.ndarray:
    """Replicates of `crossed` at the standard error `se`, around the same mean error.

    The product weights count what is particular to one draw and one patient three times (Owen 2007, theorem 3), which
    would make every interval of a small test set too wide. `se` is that of `readers`, which counts it once.
    """
    if np.isnan(se):
        return np.full(len(replicates), np.nan)
    centre, spread = float(np.nanmean(replicates)), float(np.nanstd(replicates, ddof=1))
    if not spread > 0:
        return replicates
    return value + (centre - value) + (replicates - centre) * (se / spread)


def percentile_interval(replicates: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The central `level` of the replicates; NaN where more than 1 % of them could not be scored."""
    return _quantiles(replicates, (1 - level) / 2, (1 + level) / 2)


def bca_interval(
    replicates: np.ndarray, value: float, influence: Sequence[np.ndarray], level: float = 0.95
) -> tuple[float, float]:
    """Bias-corrected and accelerated interval (Efron 1987), for scores near the end of their range.

    Args:
        replicates: (B,).
        value: the score itself.
        influence: for each factor (patients, draws) what each of its members adds to the score (`value` minus the
            score without it); the acceleration is the skewness of their sum over all factors.
    """
    known = replicates[~np.isnan(replicates)]
    below = (known < value).mean() + (known == value).mean() / 2 if len(known) else 0.0
    if not 0 < below < 1:
        return percentile_interval(replicates, level)
    bias = float(stats.norm.ppf(below))
    spread = sum(float((part**2).sum()) for part in influence)
    speed = sum(float((part**3).sum()) for part in influence) / (6 * spread**1.5) if spread > 0 else 0.0
    z = bias + stats.norm.ppf([(1 - level) / 2, (1 + level) / 2])
    low, high = stats.norm.cdf(bias + z / (1 - speed * z))
    return _quantiles(replicates, float(low), float(high))


def bootstrap_p(replicates: np.ndarray, value: float) -> float:
    """Two-sided p of a difference of zero: twice the share of replicates beyond zero.

    Where fewer than 20 replicates lie there, the normal tail at the bootstrap's standard error is taken: 2,000
    replicates cannot tell .001 from .00001, which a correction for many comparisons needs.
    """
    known = replicates[~np.isnan(replicates)]
    beyond = min((known <= 0).sum(), (known >= 0).sum())
    if beyond >= RESOLVED:
        return float(min(1.0, 2 * beyond / len(known)))
    spread = float(known.std(ddof=1))
    if spread == 0:
        return 1.0 if value == 0 else float("nan")
    return float(min(2 * stats.norm.sf(abs(value) / spread), 2 * RESOLVED / len(known)))


def multinomial(n: int, replicates: int, seed: int) -> np.ndarray:
    """(replicates, n) times that each of n was drawn."""
    return np.random.default_rng([seed, n]).multinomial(n, np.full(n, 1 / n), size=replicates)


def _quantiles(replicates: np.ndarray, low: float, high: float) -> tuple[float, float]:
    missing = np.isnan(replicates)
    if missing.mean() > UNSCORED:
        return float("nan"), float("nan")
    ends = np.quantile(replicates[~missing], [low, high])
    return float(ends[0]), float(ends[1])
