"""Shares of right answers: intervals and exact tests against published and computed values."""

import numpy as np
import pytest
from scipy import stats

from medssl.statistics import against_chance, against_each_other, proportion


def test_wilson_holds_its_level_where_the_normal_interval_does_not():
    rng = np.random.default_rng(0)
    for truth in (0.5, 0.9, 0.97):
        inside = [p.low <= truth <= p.high for p in (proportion(int(n), 20) for n in rng.binomial(20, truth, 400))]
        assert 0.9 <= np.mean(inside) <= 1
    assert proportion(0, 10)[2:4] == (0, 0) and proportion(0, 10).high == pytest.approx(0.2775, abs=1e-3)
    assert proportion(81, 263)[3:] == pytest.approx((0.2553, 0.3662), abs=1e-4)  # Newcombe 1998, table I
    with pytest.raises(ValueError):
        proportion(0, 0)


def test_chance_is_told_from_skill():
    assert against_chance(10, 20, 0.5) == 1 and against_chance(20, 20, 0.5) == pytest.approx(2 * 0.5**20)
    assert against_chance(5, 20, 0.25) > 0.9 and against_chance(15, 20, 0.25) < 1e-5


def test_two_are_compared_where_they_differ():
    first, second = [True] * 9 + [False] * 11, [False] * 8 + [True] * 1 + [True] * 1 + [False] * 10
    assert against_each_other(first, second) == pytest.approx(stats.binomtest(8, 9).pvalue)
    assert against_each_other(second, first) == against_each_other(first, second)
    assert against_each_other(first, first) == 1
