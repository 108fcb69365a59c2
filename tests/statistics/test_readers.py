import numpy as np
import pytest
from scipy import stats

from medssl.metrics import macro_auc
from medssl.statistics.delong import auc_covariance
from medssl.statistics.intervals import patient_weights
from medssl.statistics.readers import readers, shared_covariance

# Van Dyke (1993): five readers, two modalities, 114 patients; components as in Hillis (2007, 2014).
COV2, COV3, MSTR = 0.0003440748, 0.0002390284, 0.0005510306
SINGLE = [(0.003082629, 0.0004839618, 0.03317), (0.001304602, 0.0002041, 0.02156)]  # MS(readers), Cov2, standard error


def values_with(mean, mean_square, size=5):
    shape = np.arange(size) - (size - 1) / 2
    return (mean + shape * np.sqrt(mean_square / shape.var(ddof=1)))[None]


def test_differences_of_the_van_dyke_study():
    found = readers(values_with(-0.04380032, 2 * MSTR), 2 * (COV2 - COV3))
    assert found.value**2 / found.se**2 == pytest.approx(4.4563, abs=2e-4)  # F
    assert found.df == pytest.approx(15.26, abs=0.01)
    assert found.p() == pytest.approx(0.0517, abs=1e-4)
    assert found.interval() == pytest.approx((-0.08796, 0.00036), abs=1e-5)


@pytest.mark.parametrize(("mean_square", "covariance", "se"), SINGLE)
def test_single_modalities_of_the_van_dyke_study(mean_square, covariance, se):
    found = readers(values_with(0.9, mean_square), covariance)
    assert found.se == pytest.approx(se, abs=1e-4)
    assert found.df == pytest.approx(4 * ((mean_square + 5 * covariance) / mean_square) ** 2)


def test_without_patient_variance_it_is_the_t_test_over_draws():
    values = np.random.default_rng(0).normal(0.3, 1, 7)
    found = readers(values[None], 0.0)
    expected = stats.ttest_1samp(values, 0)
    assert found.p() == pytest.approx(expected.pvalue)
    assert found.interval() == pytest.approx(tuple(expected.confidence_interval()))


def test_two_random_factors_equal_the_variance_components():
    rng = np.random.default_rng(1)
    K, D = 4, 6
    values = rng.normal(size=(K, 1)) * 2 + rng.normal(size=(1, D)) + 0.3 * rng.normal(size=(K, D))
    long = [(k, d, values[k, d]) for k in range(K) for d in range(D)]
    grand = np.mean([v for *_, v in long])
    rows = [np.mean([v for a, _, v in long if a == k]) for k in range(K)]
    columns = [np.mean([v for _, b, v in long if b == d]) for d in range(D)]
    rest = sum((v - rows[k] - columns[d] + grand) ** 2 for k, d, v in long) / ((K - 1) * (D - 1))
    of_runs = (D * np.var(rows, ddof=1) - rest) / D
    of_draws = (K * np.var(columns, ddof=1) - rest) / K
    found = readers(values, 0.01, 30)
    assert found.se**2 == pytest.approx(of_runs / K + of_draws / D + rest / (K * D) + 0.01)


def test_pretraining_variance_widens_the_interval():
    one = np.array([[0.8, 0.81, 0.79, 0.8, 0.82]])
    same, far = np.repeat(one, 3, 0), one + np.array([[-0.05], [0.0], [0.05]])
    assert readers(same, 1e-5).se < 0.4 * readers(far, 1e-5).se and readers(far, 1e-5).df < 3


def test_bootstrap_covariance_equals_delong():
    rng = np.random.default_rng(5)
    truth = np.arange(160) % 2
    shared = rng.normal(size=160)
    scores = truth + shared + rng.normal(size=(4, 160))
    boot = macro_auc(truth, np.stack([-scores, scores], 2), patient_weights(np.arange(160), 6000, 0))[None]
    covariance = auc_covariance(truth, scores)[1]
    off = covariance[~np.eye(4, dtype=bool)].mean()
    assert shared_covariance(boot, 160) == pytest.approx(off, rel=0.08)


def test_shared_covariance_takes_the_pairs_that_share_neither_run_nor_draw():
    rng = np.random.default_rng(6)
    boot = (
        rng.normal(size=(2, 3, 500))
        + rng.normal(size=(2, 1, 500))
        + rng.normal(size=(1, 3, 500))
        + rng.normal(size=500)
    )
    pairs = [
        np.cov(boot[k, d], boot[j, e])[0, 1] for k in range(2) for d in range(3) for j in range(2) for e in range(3)
        if k != j and d != e
    ]  # fmt: skip
    assert shared_covariance(boot, 10) == pytest.approx(np.mean(pairs) * 10 / 9)
    single = [np.cov(boot[0, d], boot[0, e])[0, 1] for d in range(3) for e in range(3) if d != e]
    assert shared_covariance(boot[:1], 10) == pytest.approx(np.mean(single) * 10 / 9)
