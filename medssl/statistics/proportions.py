"""Right answers out of so many: intervals, and what chance alone would do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from scipy import stats


class Proportion(NamedTuple):
    """Right answers out of `total`, as a share with its 95 % interval."""

    right: int
    total: int
    share: float
    low: float
    high: float


def proportion(right: int, total: int, level: float = 0.95) -> Proportion:
    """A share with Wilson's interval (Wilson 1927), which holds its level with few answers and near 0 and 1.

    Raises:
        ValueError: no answers, or more right ones than there are.
    """
    interval = stats.binomtest(right, total).proportion_ci(level, method="wilson")
    return Proportion(right, total, right / total, float(interval.low), float(interval.high))


def against_chance(right: int, total: int, chance: float) -> float:
    """Two-sided p of the exact binomial test that answers are as often right as by guessing."""
    return float(stats.binomtest(right, total, chance).pvalue)


def against_each_other(first: Sequence[bool], second: Sequence[bool]) -> float:
    """Two-sided p that two are as often right on the same questions: McNemar's test in its exact form (1947).

    Only the questions count that one had right and the other had not.
    """
    one, other = (sum(a > b for a, b in zip(x, y, strict=True)) for x, y in ((first, second), (second, first)))
    return float(stats.binomtest(one, one + other).pvalue) if one + other else 1.0
