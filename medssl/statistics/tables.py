"""From evidence to the tables that terminal, app, notebook and report show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property

import numpy as np
import pandas as pd
from scipy import stats

from medssl.config import LOWER_IS_BETTER, Budget, Claim
from medssl.metrics import metric_range, score_metric
from medssl.statistics.evidence import Evidence
from medssl.statistics.intervals import (
    MANY_DRAWS,
    MIN_DRAWS,
    MIN_PATIENTS_A_CLASS,
    MIN_UNITS_A_CLASS,
    ROLES,
    UNSCORED,
    bca_interval,
    bootstrap_p,
    crossed,
    drawn_in,
    patient_weights,
    percentile_interval,
)
from medssl.statistics.pairs import holm
from medssl.statistics.readers import Estimate, readers, shared_covariance
from medssl.statistics.scales import scale_for
from medssl.statistics.verdicts import verdict

SEED = 20_260  # of the resampling: fixed, so that the same evidence always gives the same interval
SCORE_COLUMNS = [
    "arm", "budget", "metric", "score", "low", "high", "draws", "pretrain_seeds", "units", "patients",
]  # fmt: skip
DIFFERENCE_COLUMNS = [
    "arm", "baseline", "budget", "metric", "difference", "low", "high", "p", "p_adjusted", "claim", "verdict",
    "pretrain_seeds", "same_encoder",
]  # fmt: skip
Cell = tuple[str, Budget, str]


class Replicates:
    """The scores of every (arm, budget, metric) in every replicate of the test patients, for all tables.

    Attributes:
        point: (K, D) score of each run of pretraining and draw.
        boot: (K, D, B) the same under resampled patients, who are the same for all arms, budgets and metrics.
    """

    def __init__(self, evidence: Evidence, metrics: Iterable[str], replicates: int) -> None:
        self.evidence, self.metrics = evidence, list(metrics)
        self.point: dict[Cell, np.ndarray] = {}
        self.boot: dict[Cell, np.ndarray] = {}
        ones = np.ones((1, len(evidence.truth)))
        weights = patient_weights(evidence.patients, replicates, SEED).astype(np.float32)
        for (arm, budget), scores in evidence.scores.items():
            flat, shape = scores.reshape(-1, *scores.shape[2:]), scores.shape[:2]
            folds = None
            if evidence.folds is not None:
                folds = np.tile(evidence.folds[evidence.draws[arm, budget]], (shape[0], 1))
            for metric in self.metrics:
                cell = (arm, budget, metric)
                self.point[cell] = self._scored(cell, flat, ones, folds).reshape(shape)
                boot = self._scored(cell, flat, weights, folds).reshape(*shape, replicates)
                self.boot[cell] = boot.astype(np.float32)  # half the memory; 7 digits are enough

    def _scored(self, cell: Cell, flat: np.ndarray, weights: np.ndarray, folds: np.ndarray | None = None) -> np.ndarray:
        """(K * D, B) of all runs and draws `flat` (K * D, N, C)."""
        evidence, warm = self.evidence, self.evidence.temperatures.get(cell[:2])
        warm = None if warm is None else warm.reshape(-1)
        return score_metric(cell[2], evidence.truth, flat, weights, folds, evidence.family, warm)

    @cached_property
    def patients(self) -> int:
        return int(self.evidence.patients.max()) + 1

    def estimable(self, boot: np.ndarray) -> bool:
        """Enough draws, enough test units and patients of every class, and hardly a replicate that cannot be scored."""
        evidence = self.evidence
        cases = evidence.units_a_class if evidence.folds is None else evidence.patients_a_class
        enough = boot.shape[1] >= MIN_DRAWS and cases >= MIN_UNITS_A_CLASS
        return enough and evidence.patients_a_class >= MIN_PATIENTS_A_CLASS and np.isnan(boot[0, 0]).mean() <= UNSCORED

    def estimate(self, point: np.ndarray, boot: np.ndarray) -> Estimate:
        """Mean over draws with the standard error and degrees of freedom of `readers`; NaN: not estimable.

        Cross-fitted, draws are repeats on the same patients, whose covariance the bootstrap of fixed predictions shows
        by half: it resamples whom the models are tested on, and not whom they learnt from.
        """
        if not self.estimable(boot):
            return Estimate(float(point.mean()), float("nan"), float("nan"))
        scored = boot[..., ~np.isnan(boot[0, 0])].astype(np.float64)
        covariance = shared_covariance(scored, self.patients) * (1 if self.evidence.folds is None else ROLES)
        return readers(point, covariance, self.evidence.patients_a_class - 1)

    def replicates(self, point: np.ndarray, boot: np.ndarray) -> np.ndarray:
        """(B,) of the crossed bootstrap: patients, draws and runs resampled. The spread is that of the t-based
        interval, so that few draws widen a percentile interval too (Hesterberg 2015, "expanded percentile")."""
        estimate = self.estimate(point, boot)
        return drawn_in(crossed(boot.astype(np.float64), SEED), estimate.value, estimate.se * estimate.wider)

    def score(self, cell: Cell) -> tuple[float, float, float]:
        """(score, low, high): 95 %, on the metric's scale (log odds where it is a share; `scales`), or by BCa from 20
        draws on. NaN bounds: not estimable.

        Cross-fitted scores near 1 are skewed by more than log odds make good: their upper end is that of the plain
        interval where this is higher.
        """
        point, boot = self.point[cell], self.boot[cell]
        estimate = self.estimate(point, boot)
        value = estimate.value
        if not estimate.se > 0:  # no spread at all (constant scores): an interval of no width would be a lie
            return value, float("nan"), float("nan")
        if self.by_bootstrap(point):
            low, high = bca_interval(self.replicates(point, boot), value, self._influence(cell))
        elif (scale := scale_for(value, span := metric_range(cell[2]))) is None:
            low, high = estimate.interval()
        else:
            low, high = scale.interval(value, float(stats.t.ppf(0.975, estimate.df)) * estimate.se)
            if self.evidence.folds is not None:
                high = max(high, min(span[1], estimate.interval()[1]))
        return value, low, high

    def difference(self, point: np.ndarray, boot: np.ndarray) -> tuple[float, float, float, float]:
        """(difference, low, high, p) of paired scores, (K, D) and (K, D, B)."""
        estimate = self.estimate(point, boot)
        if np.isnan(estimate.se) or (estimate.se == 0 and estimate.value != 0):
            return estimate.value, float("nan"), float("nan"), float("nan")
        if not self.by_bootstrap(point):
            return estimate.value, *estimate.interval(), estimate.p()
        replicates = self.replicates(point, boot)
        return estimate.value, *percentile_interval(replicates), bootstrap_p(replicates, estimate.value)

    def gain(self, metric: str, point: np.ndarray, boot: np.ndarray) -> Estimate:
        """A difference with its sign turned where lower is better."""
        estimate = self.estimate(point, boot)
        sign = -1 if metric in LOWER_IS_BETTER else 1
        return Estimate(sign * estimate.value, estimate.se, estimate.df)

    def paired(self, first: Cell, second: Cell, share: float = 1.0) -> tuple[np.ndarray, np.ndarray] | None:
        """First minus (a share of) second on the same draws, (K, D) and (K, D, B); None where they are not a pair.

        An arm with one encoder is compared with every encoder of the other.
        """
        if first not in self.point or second not in self.point:
            return None
        draws = self.evidence.draws
        if not np.array_equal(draws[first[:2]], draws[second[:2]]):
            return None  # a run that is not finished: a pair on different draws would not be a pair
        runs = {len(self.point[first]), len(self.point[second])} - {1}
        if len(runs) > 1:
            return None  # likewise for runs of pretraining
        return self.point[first] - share * self.point[second], self.boot[first] - np.float32(share) * self.boot[second]

    def by_bootstrap(self, point: np.ndarray) -> bool:
        """From 20 draws on, and with one run of pretraining: a handful of anything is for the t-distribution. Never for
        repeats, which are no new patients."""
        return self.evidence.folds is None and point.shape[0] == 1 and point.shape[1] >= MANY_DRAWS

    def _influence(self, cell: Cell) -> list[np.ndarray]:
        """What each test patient and each draw adds to the score, by leaving it out (jackknife)."""
        evidence, point = self.evidence, self.point[cell]
        scores = evidence.scores[cell[:2]]
        weights = 1.0 - np.eye(self.patients)[:, evidence.patients]
        without = self._scored(cell, scores.reshape(-1, *scores.shape[2:]), weights).mean(0)
        of_draws = (point.mean(0) - point.mean()) / max(1, point.shape[1] - 1)
        return [np.nan_to_num(point.mean() - without), of_draws]


def scores(boot: Replicates) -> pd.DataFrame:
    """Mean score of each arm at each budget over draws, with its pointwise 95 % interval (NaN: not estimable)."""
    evidence, rows = boot.evidence, []
    for cell, point in boot.point.items():
        rows.append((*cell, *boot.score(cell), point.shape[1], point.shape[0], len(evidence.units), boot.patients))
    return pd.DataFrame(rows, columns=SCORE_COLUMNS)


def differences(
    boot: Replicates,
    baselines: Iterable[str],
    same_encoder: Mapping[tuple[str, str], bool],
    claim: Claim | None = None,
) -> pd.DataFrame:
    """Paired differences to each baseline on the same patients and draws, with verdicts.

    `low` and `high` are pointwise; `p_adjusted` is Holm's over all rows but the claim's, which was named beforehand and
    stands alone. Verdicts follow from `p_adjusted`.

    Args:
        boot: the bootstrap of all arms.
        baselines: arms to compare with (the claim's is added).
        same_encoder: (arm, baseline) -> whether both have the same encoder and input size.
        claim: the confirmatory comparison.
    """
    wanted = [(b, cell) for b in baselines for cell in boot.point if cell[0] != b]
    if claim and (claim.baseline, stated := (claim.arm, claim.budget, claim.metric)) not in wanted:
        wanted += [(claim.baseline, stated)]
    rows = []
    for baseline, (arm, budget, metric) in wanted:
        pair = boot.paired((arm, budget, metric), (baseline, budget, metric))
        if pair is None:
            continue
        value, low, high, p = boot.difference(*pair)
        own = claim is not None and (claim.arm, claim.baseline, claim.budget, claim.metric) == (
            arm, baseline, budget, metric,
        )  # fmt: skip
        same, runs = same_encoder[arm, baseline], len(pair[0])
        rows.append((arm, baseline, budget, metric, value, low, high, p, np.nan, own, "", runs, same))
    table = pd.DataFrame(rows, columns=DIFFERENCE_COLUMNS)
    table["claim"] = table["claim"].astype(bool)
    table["p_adjusted"] = table["p"].astype(float)
    for _, family in table[~table["claim"]].groupby(["baseline", "metric"]):  # all arms and budgets
        table.loc[family.index, "p_adjusted"] = holm(family["p"].to_numpy(dtype=float))
    signs = np.where(table["metric"].isin(LOWER_IS_BETTER), -1, 1)
    table["verdict"] = [
        verdict(d * s, p) for d, s, p in zip(table["difference"], signs, table["p_adjusted"], strict=True)
    ]
    return table
