"""What one arm at one budget says of single units, and how it errs: pure functions on evidence."""

from __future__ import annotations

import numpy as np
import pandas as pd

from medssl.config import Budget
from medssl.errors import unknown
from medssl.metrics import score_metric
from medssl.statistics.evidence import Evidence
from medssl.statistics.intervals import patient_weights

BINS = 10  # of probability, of equal width
FEWEST = 5  # units in a bin, below which it says nothing of calibration
RESAMPLES = 500  # of the patients, for the interval of a bin
RATES = np.linspace(0, 1, 101)  # false-positive rates at which a ROC curve is read

UNIT_COLUMNS = ["unit", "patient", "truth", "predicted", "score", "low", "high", "right", "error"]


def unit_scores(evidence: Evidence, arm: str, budget: Budget) -> pd.DataFrame:
    """A row a unit, in the cohort's order.

    Returns:
        columns of `UNIT_COLUMNS`: key; number of the patient; names of the true class and of the one with the highest
        mean score; mean, least and greatest `score` of the true class over draws and runs of pretraining; share of them
        that are `right`; and `error`, 1 minus the mean score.

    Raises:
        UserError: the arm has no results at this budget.
    """
    scores = _scores(evidence, arm, budget)
    classes, truth = np.array(evidence.classes), evidence.truth
    of_truth = np.take_along_axis(scores, truth[None, :, None], 2)[:, :, 0]
    mean = of_truth.mean(0)
    return pd.DataFrame(
        {
            "unit": evidence.units,
            "patient": evidence.patients,
            "truth": classes[truth],
            "predicted": classes[scores.mean(0).argmax(1)],
            "score": mean,
            "low": of_truth.min(0),
            "high": of_truth.max(0),
            "right": (scores.argmax(2) == truth).mean(0),
            "error": 1 - mean,
        }
    )[UNIT_COLUMNS]


def scores_of_unit(evidence: Evidence, unit: str, budget: Budget) -> pd.DataFrame:
    """What every arm said of one unit at a budget: columns `arm, run, draw, cls, score`.

    Raises:
        UserError: no such unit was scored.
    """
    found = np.flatnonzero(evidence.units == unit)
    if not len(found):
        raise unknown("unit", unit, [], "results")
    rows = []
    for (arm, at), scores in evidence.scores.items():
        if at == budget:
            for run, by_draw in enumerate(scores[:, :, found[0]]):
                for draw, values in zip(evidence.draws[arm, at].tolist(), by_draw.tolist(), strict=True):
                    rows += [(arm, run, draw, c, value) for c, value in zip(evidence.classes, values, strict=True)]
    return pd.DataFrame(rows, columns=["arm", "run", "draw", "cls", "score"])


def confusion(evidence: Evidence, arm: str, budget: Budget) -> pd.DataFrame:
    """Columns `truth, predicted, units, share`: mean number over draws and runs, and its share of the class's units."""
    guess, classes = _scores(evidence, arm, budget).argmax(2), evidence.classes
    rows = []
    for t, truth in enumerate(classes):
        own = guess[:, evidence.truth == t]
        for p, predicted in enumerate(classes):
            count = float((own == p).sum() / len(guess))
            rows.append((truth, predicted, count, count / max(own.shape[1], 1)))
    return pd.DataFrame(rows, columns=["truth", "predicted", "units", "share"])


def roc(evidence: Evidence, arm: str, budget: Budget, cls: str) -> tuple[pd.DataFrame, float]:
    """The ROC curve of one class against the rest, and the area under it, mean over draws and runs.

    Sensitivities are averaged at equal false-positive rates (vertical averaging; Fawcett 2006). Cross-fitted scores are
    compared within their fold, as in `auc_within_folds`.

    Returns:
        columns `false_positive, sensitivity, low, high` (least and greatest over draws and runs); the area.
    """
    scores, c = _scores(evidence, arm, budget), evidence.classes.index(cls)
    positive = evidence.truth == c
    folds = _folds(evidence, arm, budget, len(scores))
    curves = np.stack([_curve(positive, s[:, c], f) for s, f in zip(scores, folds, strict=True)])
    binary = np.stack([1 - scores[:, :, c], scores[:, :, c]], 2)
    within = folds if evidence.folds is not None else None
    area = score_metric("auc", positive.astype(int), binary, np.ones((1, len(positive))), within).mean()
    table = {"false_positive": RATES, "sensitivity": curves.mean(0), "low": curves.min(0), "high": curves.max(0)}
    return pd.DataFrame(table), float(area)


def calibration(evidence: Evidence, arm: str, budget: Budget, cls: str) -> pd.DataFrame:
    """How often a unit with so high a probability of `cls` is of it, over all draws and runs.

    Returns:
        columns `predicted, observed, low, high, units`, a row a bin of probability: means; 95 % interval of the share
        over patients, who are resampled whole; mean number of units a draw. Bins with fewer than 5 are left out.
    """
    scores, c = _scores(evidence, arm, budget), evidence.classes.index(cls)
    chance, truth = scores[:, :, c], evidence.truth == c
    number = np.clip((chance * BINS).astype(int), 0, BINS - 1)
    weights = patient_weights(evidence.patients, RESAMPLES, 0)
    rows = []
    for b in range(BINS):
        held = number == b
        times = held.sum(0)  # draws that put each unit here
        units = float(times.sum() / len(scores))
        if units < FEWEST:
            continue
        with np.errstate(invalid="ignore", divide="ignore"):
            resampled = (weights @ (times * truth)) / (weights @ times)
        low, high = np.nanquantile(resampled, [0.025, 0.975])
        rows.append((float(chance[held].mean()), float((times * truth).sum() / times.sum()), low, high, units))
    return pd.DataFrame(rows, columns=["predicted", "observed", "low", "high", "units"])


def _scores(evidence: Evidence, arm: str, budget: Budget) -> np.ndarray:
    """(runs x draws, N, C)."""
    if (arm, budget) not in evidence.scores:
        known = sorted({f"{a} at {b}" for a, b in evidence.scores})
        raise unknown("arm and budget", f"{arm} at {budget}", known, "results")
    found = evidence.scores[arm, budget]
    return found.reshape(-1, *found.shape[2:])


def _folds(evidence: Evidence, arm: str, budget: Budget, rows: int) -> np.ndarray:
    """(runs x draws, N): fold of each unit; one for all where it is not cross-fitted."""
    if evidence.folds is None:
        return np.zeros((rows, len(evidence.units)))
    draws = evidence.draws[arm, budget]
    return np.tile(evidence.folds[draws], (rows // len(draws), 1))


def _curve(positive: np.ndarray, score: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Sensitivity at `RATES`, ties cut straight; folds weigh as they have positives."""
    total, weight = np.zeros(len(RATES)), 0
    for fold in np.unique(folds[~np.isnan(folds)]):
        p, n = score[positive & (folds == fold)], score[~positive & (folds == fold)]
        if len(p) and len(n):
            cuts = np.concatenate([[np.inf], np.unique(np.concatenate([p, n]))[::-1]])
            hits, alarms = (1 - np.searchsorted(np.sort(values), cuts) / len(values) for values in (p, n))
            last = np.append(alarms[1:] != alarms[:-1], True)  # of a steep rise its upper end
            total += len(p) * np.interp(RATES, alarms[last], hits[last])
            weight += len(p)
    return total / weight if weight else np.full(len(RATES), np.nan)
