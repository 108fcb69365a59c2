"""What a whole curve says: its area, the labels that an arm saves, and how few labels come close to all of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from medssl.config import LOWER_IS_BETTER, Budget
from medssl.statistics.intervals import UNSCORED
from medssl.statistics.tables import Replicates

AREA_COLUMNS = ["arm", "metric", "area", "low", "high"]
SAVINGS_COLUMNS = ["arm", "baseline", "budget", "metric", "labels", "factor", "low", "high", "beyond"]
SHARES_COLUMNS = ["arm", "budget", "metric", "share", "low", "high", "best", "most", "score"]


def area(boot: Replicates, metric: str, labels: Mapping[Budget, int]) -> pd.DataFrame:
    """Mean height of each arm's curve over the logarithm of the number of labels (trapezoids), with its interval.

    Args:
        boot: the bootstrap of all arms.
        metric: of the curve.
        labels: budget -> labeled units in total; an arm is left out unless it has the same draws at all budgets.

    Returns:
        columns of `AREA_COLUMNS`, a row an arm.
    """
    rows = []
    for arm in dict.fromkeys(cell[0] for cell in boot.point):
        cells = _curve(boot, arm, metric, labels)
        if len(cells) < 2 or len(cells) < len(labels):
            continue
        weights = _trapezoids(np.log([labels[budget] for _, budget, _ in cells]))
        point = sum(w * boot.point[c] for w, c in zip(weights, cells, strict=True))
        replicates = sum(np.float32(w) * boot.boot[c] for w, c in zip(weights, cells, strict=True))
        value, low, high, _ = boot.difference(np.asarray(point), np.asarray(replicates))
        rows.append((arm, metric, value, low, high))
    return pd.DataFrame(rows, columns=AREA_COLUMNS)


def label_savings(boot: Replicates, arm: str, baseline: str, metric: str, labels: Mapping[Budget, int]) -> pd.DataFrame:
    """How many times the labels of an arm the baseline needs for the same score, at each of the arm's budgets.

    The baseline's curve is made monotone (isotonic regression, Barlow 1972) over the logarithm of the number of labels
    and read backwards (Newell & Deng 2020, "utility"). Its ends are censored: where the arm's score lies above the
    whole curve the factor is at least the largest number of labels over the arm's, and `beyond` says which of factor,
    low and high are such bounds. The interval is the central 95 % of the crossed bootstrap of both curves together,
    with the spread of the t-based intervals.

    Returns:
        columns of `SAVINGS_COLUMNS`; `beyond` holds three characters for factor, low and high: ">", "<" or " ".
    """
    cells = _curve(boot, baseline, metric, labels)
    mine = _curve(boot, arm, metric, labels)
    if len(cells) < 2 or not mine:
        return pd.DataFrame([], columns=SAVINGS_COLUMNS)
    counts = np.array([labels[budget] for _, budget, _ in cells], dtype=float)
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    known = monotone(sign * np.array([boot.point[c].mean() for c in cells]))[:, None]
    resampled = sign * np.stack([_spread(boot, c) for c in cells])
    curves = np.stack([monotone(curve) for curve in resampled.T], 1)
    rows = []
    for cell in mine:
        own = labels[cell[1]]
        needed, side = _needed(known, counts, sign * boot.point[cell].mean()[None])
        ends, marks = np.full(2, np.nan), np.zeros(2, int)
        score = sign * _spread(boot, cell)
        usable = ~(np.isnan(curves).any(0) | np.isnan(score))
        if usable.mean() >= 1 - UNSCORED:
            labels_needed, sides = _needed(curves[:, usable], counts, score[usable])
            order = np.lexsort((sides, labels_needed))[[int(q * (usable.sum() - 1)) for q in (0.025, 0.975)]]
            ends, marks = labels_needed[order], sides[order]
        beyond = "".join(" ><"[mark] for mark in (side[0], *marks))
        rows.append((arm, baseline, cell[1], metric, own, needed[0] / own, *(ends / own), beyond))
    return pd.DataFrame(rows, columns=SAVINGS_COLUMNS)


def smallest_budget(
    boot: Replicates, arm: str, metric: str, labels: Mapping[Budget, int], fraction: float = 0.95
) -> tuple[Budget | None, Budget | None]:
    """The smallest budget whose score reaches `fraction` of the score with the most labels: (by its mean, surely).

    "Surely" is where the 95 % interval of score minus `fraction` of the full score, paired by draw and patient, lies
    above zero. None where no smaller budget does. Only for metrics of which more is better, and scores above zero.
    """
    cells = _curve(boot, arm, metric, labels)
    if len(cells) < 2 or metric in LOWER_IS_BETTER or not boot.point[cells[-1]].mean() > 0:
        return None, None
    found: list[Budget | None] = [None, None]
    for cell in reversed(cells[:-1]):
        point = boot.point[cell] - fraction * boot.point[cells[-1]]
        value, low, _, _ = boot.difference(point, boot.boot[cell] - np.float32(fraction) * boot.boot[cells[-1]])
        found = [cell[1] if reached else before for reached, before in zip((value >= 0, low > 0), found, strict=True)]
    return found[0], found[1]


def full_shares(boot: Replicates, metric: str, labels: Mapping[Budget, int]) -> pd.DataFrame:
    """Scores as shares of the best one with the most labels, whichever arm that is of.

    The interval is that of score minus share x best, paired by draw and patient, over the best score (Fieller 1954, to
    first order). The best arm is found on the same test patients, which flatters it and makes the shares rather too
    small. Only for metrics of which more is better, and best scores above zero.

    Returns:
        columns of `SHARES_COLUMNS`; `best` is the arm, `most` the budget and `score` its score there. A row an arm and
        budget, but for the best itself and cells on other draws.
    """
    most = max(labels, key=lambda budget: labels[budget])
    full = {cell: float(boot.point[cell].mean()) for cell in boot.point if cell[1:] == (most, metric)}
    best = max(full, key=lambda cell: np.nan_to_num(full[cell], nan=-np.inf), default=None)
    if best is None or metric in LOWER_IS_BETTER or not full[best] > 0:
        return pd.DataFrame([], columns=SHARES_COLUMNS)
    rows = []
    for cell in boot.point:
        share = float(boot.point[cell].mean()) / full[best]
        if cell[2] != metric or cell == best or (pair := boot.paired(cell, best, share)) is None:
            continue
        _, low, high, _ = boot.difference(*pair)
        rows.append((*cell, share, share + low / full[best], share + high / full[best], *best[:2], full[best]))
    return pd.DataFrame(rows, columns=SHARES_COLUMNS)


def _curve(boot: Replicates, arm: str, metric: str, labels: Mapping[Budget, int]) -> list[tuple[str, Budget, str]]:
    """The arm's cells, fewest labels first; none where they are not on the same draws."""
    cells = [(arm, budget, metric) for budget in sorted(labels, key=lambda b: labels[b])]
    cells = [cell for cell in cells if cell in boot.point and not np.isnan(boot.point[cell]).any()]
    draws = {(len(boot.point[cell]), tuple(boot.evidence.draws[cell[:2]])) for cell in cells}
    return cells if len(draws) == 1 else []


def _trapezoids(x: np.ndarray) -> np.ndarray:
    """Weights of the heights at `x` in the mean height of the curve."""
    gaps = np.diff(x)
    weights = np.zeros(len(x))
    weights[:-1] += gaps / 2
    weights[1:] += gaps / 2
    return weights / gaps.sum()


def _spread(boot: Replicates, cell: tuple[str, Budget, str]) -> np.ndarray:
    """(B,) replicates of a score; NaN where no interval is estimable."""
    return boot.replicates(boot.point[cell], boot.boot[cell])


def _needed(heights: np.ndarray, counts: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels at which monotone curves reach scores, linear in the logarithm of the labels.

    Args:
        heights: (M, B) monotone curves at `counts` (M,) labels; `scores` (B,).

    Returns:
        (labels (B,), side (B,)): 1 where the score lies above the curve, -1 below it, and labels are a bound.
    """
    at = (heights < scores).sum(0)  # the first place that reaches the score
    side = np.where(at == len(counts), 1, np.where(scores < heights[0], -1, 0))
    upper = at.clip(1, len(counts) - 1)
    columns = np.arange(heights.shape[1])
    low, high = heights[upper - 1, columns], heights[upper, columns]
    share = np.where(high > low, (scores - low) / np.where(high > low, high - low, 1), at == len(counts)).clip(0, 1)
    logs = np.log(counts)
    return np.exp(logs[upper - 1] + share * (logs[upper] - logs[upper - 1])), side


def monotone(heights: np.ndarray) -> np.ndarray:
    """The closest curve that never falls (pool adjacent violators, equal weights)."""
    if np.isnan(heights).any():
        return np.full(len(heights), np.nan)
    blocks: list[list[float]] = []  # mean, length
    for height in heights:
        blocks.append([float(height), 1.0])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            mean, length = blocks.pop()
            before = blocks[-1]
            before[0] = (before[0] * before[1] + mean * length) / (before[1] + length)
            before[1] += length
    return np.repeat([b[0] for b in blocks], [int(b[1]) for b in blocks])
