"""What an experiment can detect at all: stated before anything is trained."""

from __future__ import annotations

import numpy as np
from scipy import stats

from medssl.statistics.intervals import ROLES

# Medians over four pairs of arms at 5 and 10 labels a class, on kermany_cxr and busi, were .024 and .06.
DRAW_SD = 0.025  # of paired differences in AUC over draws
SHARED = 0.1  # covariance of such differences over patients, as a share of the variance of both AUCs
# Cross-fitted with 15 to 40 patients a class, medians over 28 pairs of encoders were .023 to .083, and .30 to .50.
REPEAT_SD = 0.05  # of paired differences over repeats
SHARED_BY_REPEATS = 0.4  # their covariance, as above: repeats have nearly the same models, draws have not


def auc_variance(auc: float, positives: int, negatives: int) -> float:
    """Variance of an AUC over test patients, for exponential scores (Hanley & McNeil 1982, equation 2)."""
    first, second = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    spread = auc * (1 - auc) + (positives - 1) * (first - auc**2) + (negatives - 1) * (second - auc**2)
    return spread / (positives * negatives)


def detectable_difference(
    positives: int,
    negatives: int,
    draws: int,
    auc: float = 0.85,
    level: float = 0.05,
    power: float = 0.8,
    cross_fitted: bool = False,
) -> float:
    """The smallest true difference in AUC between two arms that a verdict follows from in 80 % of experiments.

    It is (t(1 - level / 2) + t(power)) standard errors, with the standard error and degrees of freedom that `readers`
    is expected to find. How much paired differences vary over draws and patients is taken from experiments on two sets
    of real scans; with other scans it is a guess, good for planning and for nothing else.

    Args:
        positives, negatives: test patients of the rarer class and of all others.
        draws: of the labels; cross-fitted, repeats.
        auc: about what is expected.
        level: of the two-sided test; divided by their number where many comparisons are made (Holm's first step).
        cross_fitted: all labeled patients are tested, and teach.
    """
    over_draws = (REPEAT_SD if cross_fitted else DRAW_SD) ** 2 / draws
    shared = ROLES * SHARED_BY_REPEATS if cross_fitted else SHARED
    over_patients = 2 * shared * auc_variance(auc, positives, negatives)
    variance = over_draws + over_patients
    df = variance**2 / (over_draws**2 / (draws - 1) + over_patients**2 / (min(positives, negatives) - 1))
    return float((stats.t.ppf(1 - level / 2, df) + stats.t.ppf(power, df)) * np.sqrt(variance))
