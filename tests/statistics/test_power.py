import numpy as np
import pytest

from medssl.statistics.power import DRAW_SD, SHARED, auc_variance, detectable_difference
from medssl.statistics.readers import readers


def test_variance_of_the_published_example():
    """Hanley & McNeil (1982), 51 abnormal and 58 normal images: area .893, standard error .032."""
    assert auc_variance(0.893, 51, 58) ** 0.5 == pytest.approx(0.032, abs=0.0006)


@pytest.mark.parametrize(("positives", "negatives", "draws"), [(30, 60, 5), (150, 300, 10), (20, 20, 20)])
def test_the_difference_is_found_in_four_of_five_simulated_experiments(positives, negatives, draws):
    rng = np.random.default_rng(0)
    gap = detectable_difference(positives, negatives, draws)
    over_patients = 2 * SHARED * auc_variance(0.85, positives, negatives)
    found = 0
    for _ in range(2000):
        values = gap + rng.normal(0, DRAW_SD, (1, draws)) + rng.normal(0, over_patients**0.5)
        df = min(positives, negatives) - 1
        found += readers(values, over_patients * rng.chisquare(df) / df, df).p() < 0.05
    assert found / 2000 == pytest.approx(0.8, abs=0.04)


def test_more_of_anything_detects_less_and_more_comparisons_detect_more():
    base = detectable_difference(40, 80, 10)
    assert detectable_difference(400, 800, 10) < base and detectable_difference(40, 80, 40) < base
    assert detectable_difference(40, 80, 10, level=0.05 / 100) > base
