import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import DescrStatsW

from medssl.statistics import Estimate, equivalence, holm, no_worse, paired_cases


def test_holm_equals_statsmodels_and_leaves_out_what_is_not_estimable():
    p = np.random.default_rng(0).random(30) ** 3
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    with_gap = np.insert(p, 4, np.nan)
    assert np.isnan(holm(with_gap)[4]) and np.delete(holm(with_gap), 4) == pytest.approx(holm(p))
    assert holm(np.array([])).shape == (0,)


def test_equivalence_and_non_inferiority_equal_statsmodels():
    values = np.random.default_rng(1).normal(0.02, 0.1, 25)
    gain = Estimate(values.mean(), values.std(ddof=1) / 5, 24)
    found = DescrStatsW(values).ttost_mean(-0.06, 0.06)
    assert equivalence(gain, 0.06) == pytest.approx(found[0])
    assert no_worse(gain, 0.06) == pytest.approx(stats.ttest_1samp(values, -0.06, alternative="greater").pvalue)
    assert np.isnan(no_worse(Estimate(0.1, 0.0, 3), 0.05))


def test_paired_cases_equal_a_naive_bootstrap_and_scipy():
    rng = np.random.default_rng(2)
    first, second = rng.random(40) * 0.1 + 0.85, rng.random(40) * 0.1 + 0.8
    patients = np.arange(40) // 2
    found = paired_cases(first, second, patients, 200, seed=3)
    weights = np.random.default_rng([3, 20]).multinomial(20, np.full(20, 0.05), size=200)
    gap = first - second
    naive = [np.mean(np.concatenate([gap[patients == p] for p in np.repeat(np.arange(20), w)])) for w in weights]
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(naive, [0.025, 0.975])))
    assert found.difference == pytest.approx(gap.mean())
    means = gap.reshape(20, 2).mean(1)
    assert found.p == pytest.approx(stats.wilcoxon(means, zero_method="pratt").pvalue)
    assert paired_cases(first, first, patients, 50, 0).p == 1
    assert np.isnan(paired_cases(first[:20], second[:20], np.arange(20) // 2, 50, 0).low)
