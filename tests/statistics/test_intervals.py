import numpy as np
import pytest
from scipy import stats

from medssl.metrics import accuracy, macro_auc
from medssl.statistics.intervals import (
    bca_interval,
    bootstrap_p,
    crossed,
    drawn_in,
    patient_weights,
    percentile_interval,
)


def resampled(metric, truth, scores, patients, replicates, seed):
    return metric(truth, scores, patient_weights(patients, replicates, seed))[None]


def test_units_of_a_patient_are_drawn_together():
    weights = patient_weights(np.array([0, 0, 1, 2, 2, 2]), 50, seed=0)
    assert (weights[:, 0] == weights[:, 1]).all() and (weights[:, 3] == weights[:, 5]).all()
    assert (weights[:, [0, 2, 3]].sum(1) == 3).all()


def test_it_equals_a_naive_loop_over_replicates():
    rng = np.random.default_rng(1)
    truth, patients = rng.integers(0, 2, 40), np.arange(40) // 2
    scores = rng.random((3, 40, 2))
    boot = crossed(resampled(accuracy, truth, scores, patients, 20, seed=7), seed=7)
    w = np.random.default_rng([7, 20]).multinomial(20, np.full(20, 1 / 20), size=20)
    d = np.random.default_rng([8, 3]).multinomial(3, np.full(3, 1 / 3), size=20)
    for b in range(20):
        units = np.repeat(np.arange(40), w[b][patients])
        draws = np.repeat(np.arange(3), d[b])
        naive = np.mean([(scores[k, units].argmax(1) == truth[units]).mean() for k in draws])
        assert boot[b] == pytest.approx(naive)


def test_runs_of_pretraining_are_resampled_too():
    by_draw = np.random.default_rng(0).normal(size=(2, 3, 40))
    runs = np.random.default_rng([7, 2]).multinomial(2, [0.5, 0.5], size=40)
    draws = np.random.default_rng([6, 3]).multinomial(3, np.full(3, 1 / 3), size=40)
    for b, value in enumerate(crossed(by_draw, 5)):
        cells = by_draw[np.ix_(np.repeat([0, 1], runs[b]), np.repeat([0, 1, 2], draws[b]), [b])]
        assert value == pytest.approx(cells.mean())


def test_a_pair_on_the_same_seed_is_tighter_than_two_single_intervals():
    rng = np.random.default_rng(3)
    truth, patients = np.arange(80) % 2, np.arange(80)
    hard = rng.normal(scale=2, size=80)

    def boot(gain):
        scores = np.stack([np.zeros((8, 80)), (truth - 0.5) * gain + hard + rng.normal(size=(8, 80)) * 0.1], 2)
        return crossed(resampled(macro_auc, truth, scores, patients, 500, seed=0), 0)

    a, b = boot(1.0), boot(1.5)
    assert np.std(b - a) < 0.5 * np.std(a)


def test_bca_equals_scipy():
    data = np.random.default_rng(2).exponential(size=40)
    found = stats.bootstrap((data,), np.mean, method="BCa", n_resamples=4000, rng=np.random.default_rng(0))
    influence = (data - data.mean()) / (len(data) - 1)  # mean minus the mean without each
    ours = bca_interval(found.bootstrap_distribution, data.mean(), [influence])
    assert ours == pytest.approx(tuple(found.confidence_interval), abs=1e-3)
    assert percentile_interval(found.bootstrap_distribution) != pytest.approx(ours, abs=1e-2)


def test_replicates_are_drawn_in_to_a_standard_error_and_keep_their_shape():
    boot = np.random.default_rng(0).exponential(size=5000) + 3
    tight = drawn_in(boot, 4.0, 0.1)
    assert tight.std(ddof=1) == pytest.approx(0.1) and stats.skew(tight) == pytest.approx(stats.skew(boot))
    assert drawn_in(np.full(9, 2.0), 2.0, 0.1).tolist() == [2.0] * 9


def test_replicates_that_cannot_be_scored_are_not_dropped_in_silence():
    boot = np.random.default_rng(0).normal(size=1000)
    boot[:5] = np.nan
    assert not np.isnan(percentile_interval(boot)).any()
    boot[:20] = np.nan
    assert np.isnan(percentile_interval(boot)).all()


def test_p_agrees_with_the_interval_and_with_the_normal_tail_beyond_the_replicates():
    z = stats.norm.ppf((np.arange(2000) + 0.5) / 2000)
    for mean in (0.5, 1.0, 1.9, 2.05):
        low, high = percentile_interval(z + mean)
        p = bootstrap_p(z + mean, mean)
        assert (p < 0.05) == (low > 0 or high < 0) and p == pytest.approx(2 * stats.norm.sf(mean), abs=0.003)
    assert bootstrap_p(z + 5, 5.0) == pytest.approx(2 * stats.norm.sf(5), rel=0.1)
    assert bootstrap_p(np.zeros(100), 0.0) == 1 and np.isnan(bootstrap_p(np.ones(100), 1.0))
