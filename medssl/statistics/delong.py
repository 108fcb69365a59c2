"""Areas under the ROC curve of fixed models on the same cases: DeLong, and Obuchowski where cases come in clusters."""

from __future__ import annotations

import numpy as np
import pandas as pd

from medssl.config import Budget
from medssl.statistics.evidence import Evidence
from medssl.statistics.intervals import MIN_UNITS_A_CLASS

FIXED_COLUMNS = ["draw", "arm", "baseline", "difference", "low", "high"]
Z = 1.959964  # of a 95 % interval


def auc_covariance(
    truth: np.ndarray, scores: np.ndarray, patients: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """AUCs of M fixed models and their covariance over test patients.

    Without `patients` it is DeLong (1988); with them Obuchowski (1997), in which the units of a patient, of one class
    or both, are a cluster. With one unit a patient the two agree.

    Args:
        truth: (N,) zeros and ones.
        scores: (M, N).
        patients: (N,) cluster numbers, or None for independent cases.

    Returns:
        (M,) areas, (M, M) covariance; NaN where a class is missing or has a single case.
    """
    positive, negative = scores[:, truth == 1], scores[:, truth == 0]
    if min(positive.shape[1], negative.shape[1]) < 2:
        return np.full(len(scores), np.nan), np.full((len(scores),) * 2, np.nan)
    of_positive = np.stack([_placement(p, n) for p, n in zip(positive, negative, strict=True)])
    of_negative = np.stack([1 - _placement(n, p) for p, n in zip(positive, negative, strict=True)])
    areas = of_positive.mean(1)
    if patients is None:
        covariances = [np.atleast_2d(np.cov(part)) / part.shape[1] for part in (of_positive, of_negative)]
        return areas, covariances[0] + covariances[1]
    return areas, _clustered(of_positive, of_negative, areas, patients[truth == 1], patients[truth == 0])


def fixed_models(evidence: Evidence, arm: str, baseline: str, budget: Budget, metric: str = "auc") -> pd.DataFrame:
    """Two arms compared draw by draw, each draw's pair of models taken as fixed: what test patients alone leave open.

    Returns:
        columns of `FIXED_COLUMNS`: AUC of both, difference, its 95 % interval (normal). Empty for another metric, more
        than two classes, or no such cells, or where a draw is cross-fitted and so no one model; of several pretraining
        runs the first.
    """
    rows = []
    there = evidence.folds is None and {(arm, budget), (baseline, budget)} <= set(evidence.scores)
    two_classes = evidence.family == "classification" and len(evidence.classes) == 2
    if there and metric == "auc" and two_classes:
        draws = {name: evidence.draws[name, budget].tolist() for name in (arm, baseline)}
        for draw in [d for d in draws[arm] if d in draws[baseline]]:
            pair = [evidence.scores[name, budget][0, draws[name].index(draw), :, 1] for name in (arm, baseline)]
            areas, covariance = auc_covariance(evidence.truth, np.stack(pair), evidence.patients)
            se = float(np.sqrt(max(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1], 0)))
            if evidence.units_a_class < MIN_UNITS_A_CLASS:
                se = float("nan")
            gap = float(areas[0] - areas[1])
            rows.append((draw, float(areas[0]), float(areas[1]), gap, gap - Z * se, gap + Z * se))
    return pd.DataFrame(rows, columns=FIXED_COLUMNS)


def _placement(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Share of `others` below each value, ties half."""
    ranked = np.sort(others)
    return (np.searchsorted(ranked, values, "left") + np.searchsorted(ranked, values, "right")) / (2 * len(others))


def _clustered(
    of_positive: np.ndarray, of_negative: np.ndarray, areas: np.ndarray, positives: np.ndarray, negatives: np.ndarray
) -> np.ndarray:
    """Obuchowski (1997), equations 2 to 4: sums of squares and products of the clusters' summed components."""
    clusters, inverse = np.unique(np.concatenate([positives, negatives]), return_inverse=True)
    total = len(clusters)
    mine, theirs = inverse[: len(positives)], inverse[len(positives) :]
    up = _summed(of_positive - areas[:, None], mine, total)
    down = _summed(of_negative - areas[:, None], theirs, total)
    m, n = len(positives), len(negatives)
    with_positive, with_negative = len(np.unique(positives)), len(np.unique(negatives))
    s10 = up @ up.T * with_positive / ((with_positive - 1) * m)
    s01 = down @ down.T * with_negative / ((with_negative - 1) * n)
    s11 = up @ down.T * total / (total - 1)
    return s10 / m + s01 / n + (s11 + s11.T) / (m * n)


def _summed(values: np.ndarray, cluster: np.ndarray, clusters: int) -> np.ndarray:
    out = np.zeros((len(values), clusters))
    np.add.at(out.T, cluster, values.T)
    return out
