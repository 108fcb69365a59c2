"""The t-based interval: draws (and pretraining runs) as the readers of a multi-reader study."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Estimate:
    """A mean over draws with its standard error; `df` of the t-distribution (infinite: normal)."""

    value: float
    se: float
    df: float

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        half = float(stats.t.ppf((1 + level) / 2, self.df)) * self.se
        return self.value - half, self.value + half

    @property
    def wider(self) -> float:
        """How much wider the interval is than a normal one with this standard error."""
        return float(stats.t.ppf(0.975, self.df) / stats.norm.ppf(0.975))

    def p(self, null: float = 0.0) -> float:
        """Two-sided, of the hypothesis that the mean is `null`."""
        if self.se == 0:
            return 1.0 if self.value == null else float("nan")
        return float(2 * stats.t.sf(abs(self.value - null) / self.se, self.df))


def readers(values: np.ndarray, covariance: float, patients: float = np.inf) -> Estimate:
    """Mean over draws on one test set, with draws and patients both random.

    One treatment of Obuchowski & Rockette (1995) with the degrees of freedom of Hillis (2007): the variance is
    MS(draws) / D + covariance, where `covariance` is that of the scores of two different draws on the same patients.
    Differences of two arms, draw by draw, go in the same way: their mean square is twice MS(treatment x reader) and
    their covariance 2 (Cov2 - Cov3), which gives Hillis' F. The estimated covariance has degrees of freedom of its own
    (`patients`), which matter for small test sets (Satterthwaite 1946). Pretraining runs are a second factor, crossed
    with draws: MS(runs) + MS(draws) - MS(both) takes the place of MS(draws), as in a two-way random model.

    Args:
        values: (K, D) scores or differences, of K pretraining runs and D >= 2 draws.
        covariance: see above; of pairs that share neither run nor draw. A negative estimate counts as 0.
        patients: degrees of freedom of `covariance`.
    """
    runs, draws = values.shape
    mean, shared = float(values.mean()), max(float(covariance), 0.0)
    by_run, by_draw = values.mean(1), values.mean(0)
    square_draws = runs * float(((by_draw - mean) ** 2).sum()) / (draws - 1)
    parts = [(square_draws / (runs * draws), draws - 1.0)]
    variance = parts[0][0]
    if runs > 1:
        square_runs = draws * float(((by_run - mean) ** 2).sum()) / (runs - 1)
        rest = values - by_run[:, None] - by_draw[None] + mean
        square_both = float((rest**2).sum()) / ((runs - 1) * (draws - 1))
        parts.append((square_runs / (runs * draws), runs - 1.0))
        both = square_both / (runs * draws)
        variance = max(variance + parts[1][0] - both, parts[0][0], parts[1][0])
    variance += shared
    if variance <= 1e-24:
        return Estimate(mean, 0.0, np.inf)
    parts.append((shared, patients))
    spread = sum(part**2 / df for part, df in parts)
    return Estimate(mean, variance**0.5, variance**2 / spread if spread > 0 else np.inf)


def shared_covariance(replicates: np.ndarray, patients: int) -> float:
    """Covariance, over test patients, of two scores that share neither pretraining run nor draw.

    Args:
        replicates: (K, D, B), of a bootstrap of patients that all draws and runs share.
        patients: their number; a bootstrap variance is too small by (patients - 1) / patients.
    """
    runs, draws, _ = replicates.shape
    everything = float(replicates.sum((0, 1)).var(ddof=1))
    each = float(replicates.var(2, ddof=1).sum())
    of_runs = float(replicates.sum(1).var(1, ddof=1).sum())  # all pairs within a run
    if runs == 1:
        total, pairs = everything - each, draws * (draws - 1)
    else:
        of_draws = float(replicates.sum(0).var(1, ddof=1).sum())
        total, pairs = everything - of_runs - of_draws + each, runs * (runs - 1) * draws * (draws - 1)
    return total / pairs * patients / (patients - 1)
