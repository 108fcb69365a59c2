import numpy as np
import pytest

from medssl.metrics import accuracy, macro_auc
from medssl.statistics.intervals import crossed_bootstrap, patient_weights, percentile_interval


def test_units_of_a_patient_are_drawn_together():
    weights = patient_weights(np.array([0, 0, 1, 2, 2, 2]), 50, seed=0)
    assert (weights[:, 0] == weights[:, 1]).all() and (weights[:, 3] == weights[:, 5]).all()
    assert (weights[:, [0, 2, 3]].sum(1) == 3).all()


def test_it_equals_a_naive_loop_over_replicates():
    rng = np.random.default_rng(1)
    truth, patients = rng.integers(0, 2, 40), np.arange(40) // 2
    scores = rng.random((3, 40, 2))
    point, boot = crossed_bootstrap(accuracy, truth, scores, patients, 20, seed=7)
    w = np.random.default_rng([7, 20]).multinomial(20, np.full(20, 1 / 20), size=20)
    d = np.random.default_rng([8, 3]).multinomial(3, np.full(3, 1 / 3), size=20)
    for b in range(20):
        units = np.repeat(np.arange(40), w[b][patients])
        draws = np.repeat(np.arange(3), d[b])
        naive = np.mean([(scores[k, units].argmax(1) == truth[units]).mean() for k in draws])
        assert boot[b] == pytest.approx(naive)
    assert point == pytest.approx((scores.argmax(2) == truth).mean(1))


def test_coverage_where_patients_and_draws_both_matter():
    """A small simulation with known truth; the full one is benchmarks/coverage.py of a later issue."""
    rng = np.random.default_rng(0)
    hits, runs, expected = 0, 150, 0.75
    for run in range(runs):
        patient = rng.normal(scale=0.5, size=100)
        draw = rng.normal(scale=0.3, size=(10, 1))
        signal = np.array([-2.0, 2.0])
        truth = np.arange(100) % 2
        z = rng.normal(size=(10, 100))
        total = np.sqrt(1 + 0.5**2 + 0.3**2)
        cut = -0.6744898 * total  # a unit is right with probability .75 over draws and patients
        right = (z + patient + draw) > cut
        scores = np.where(
            right[..., None], signal[truth][None, :, None] * [-1, 1], signal[truth][None, :, None] * [1, -1]
        )
        _, boot = crossed_bootstrap(accuracy, truth, scores, np.arange(100), 400, seed=run)
        low, high = percentile_interval(boot)
        hits += low <= expected <= high
    assert 0.89 <= hits / runs <= 0.995


def test_a_pair_on_the_same_seed_is_tighter_than_two_single_intervals():
    rng = np.random.default_rng(3)
    truth, patients = np.arange(80) % 2, np.arange(80)
    hard = rng.normal(scale=2, size=80)

    def make(gain):
        return np.stack([np.zeros((8, 80)), (truth - 0.5) * gain + hard + rng.normal(size=(8, 80)) * 0.1], 2)

    _, a = crossed_bootstrap(macro_auc, truth, make(1.0), patients, 500, seed=0)
    _, b = crossed_bootstrap(macro_auc, truth, make(1.5), patients, 500, seed=0)
    assert np.std(b - a) < 0.5 * np.std(a)
