"""Scores that are no share: intervals on their own scale, verdicts where less is better."""

import numpy as np
import pytest

from medssl.metrics import metric_range
from medssl.statistics import Evidence, Replicates, differences
from medssl.statistics.scales import scale_for


def evidence(error, patients=60, draws=6, slope=1.0, level=0.0, seed=0):
    """Numbers with a standard deviation of 10; one arm is off by the errors in `error` each."""
    rng = np.random.default_rng(seed)
    truth = 10 * rng.normal(size=patients)
    common = rng.normal(size=patients)
    scores = {
        (arm, 5): (slope * truth + level + off * (common + rng.normal(size=(draws, patients))))[None, :, :, None]
        for arm, off in error.items()
    }
    units = np.arange(patients)
    draws_of = {cell: np.arange(draws) for cell in scores}
    return Evidence(["value"], units, units, truth, scores, draws_of, family="regression")


@pytest.mark.parametrize(
    ("metric", "value", "half"),
    [("auc", 0.9, 0.05), ("mae", 3.0, 1.0), ("spearman", -0.2, 0.3), ("kappa", 0.9, 0.08), ("r2", -1.0, 0.5)],
)
def test_an_interval_stays_in_the_range_and_has_its_width_near_the_score(metric, value, half):
    span = metric_range(metric)
    scale = scale_for(value, span)
    low, high = scale.interval(value, half)
    assert span[0] < low < value < high < span[1]
    tiny = scale.interval(value, half / 1000)
    assert (tiny[1] - tiny[0]) == pytest.approx(2 * half / 1000, rel=1e-3)
    assert scale.interval(value, 50 * half)[0] >= span[0] and scale.interval(value, 50 * half)[1] <= span[1]


def test_a_score_at_the_end_of_its_range_has_no_scale():
    assert scale_for(1.0, metric_range("auc")) is None and scale_for(0.0, metric_range("mae")) is None


def test_a_correlation_that_is_none_may_be_negative():
    boot = Replicates(evidence({"a": 10.0}, slope=0.0), ["spearman", "r2"], 200)
    _, low, high = boot.score(("a", 5, "spearman"))
    assert low < 0 < high
    value, low, high = boot.score(("a", 5, "r2"))
    assert low < value < 0 and high < 0


def test_errors_above_one_have_an_interval_and_less_is_better():
    boot = Replicates(evidence({"good": 2.0, "bad": 8.0}), ["mae", "rmse", "pearson"], 300)
    value, low, high = boot.score(("bad", 5, "mae"))
    assert 1 < low < value < high and high - low < value
    table = differences(boot, ["bad"], {("good", "bad"): True}).set_index("metric")
    assert (table["verdict"] == "helps").all()
    assert table.loc["mae", "difference"] < 0 < table.loc["pearson", "difference"]
    assert boot.gain("mae", *boot.paired(("good", 5, "mae"), ("bad", 5, "mae"))).value > 0


def test_few_units_on_one_side_of_the_median_have_no_interval():
    assert np.isnan(Replicates(evidence({"a": 2.0}, patients=28), ["mae"], 100).score(("a", 5, "mae"))[1])
    assert not np.isnan(Replicates(evidence({"a": 2.0}, patients=30), ["mae"], 100).score(("a", 5, "mae"))[1])


def test_from_twenty_draws_on_the_bootstrap_gives_the_interval_of_any_metric():
    boot = Replicates(evidence({"a": 5.0}, draws=20), ["spearman", "mae"], 300)
    for metric in ("spearman", "mae"):
        value, low, high = boot.score(("a", 5, metric))
        assert low < value < high
