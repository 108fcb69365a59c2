"""Metrics of several labels, grades and numbers, against scikit-learn and scipy on rows repeated as weights say."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import (
    average_precision_score,
    cohen_kappa_score,
    mean_absolute_error,
    r2_score,
    roc_auc_score,
    root_mean_squared_error,
)

from medssl.errors import UserError
from medssl.metrics import FAMILIES, check_metric, median_grade, score_metric

N, DRAWS, REPLICATES = 90, 2, 4


@pytest.fixture
def weights():
    return np.random.default_rng(9).integers(0, 4, (REPLICATES, N))


def each(found, weights):
    """(draw, rows that the weights stand for, value) of every metric and replicate."""
    for name, values in found.items():
        for d in range(DRAWS):
            for b in range(REPLICATES):
                yield name, d, np.repeat(np.arange(N), weights[b]), values[d, b]


def scored(family, truth, scores, weights):
    return {name: score_metric(name, truth, scores, weights, family=family) for name in FAMILIES[family].metrics}


def test_several_labels_are_scored_as_scikit_learn_scores_each(weights):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, (N, 3))
    scores = rng.random((DRAWS, N, 3)).round(1)  # rounded: ties matter
    for name, d, rows, value in each(scored("multilabel", truth, scores, weights), weights):
        t, s = truth[rows], scores[d, rows]
        gaps = 0.0
        for c in range(3):
            for k in range(15):
                inside = (s[:, c] > k / 15) & (s[:, c] <= (k + 1) / 15) | ((k == 0) & (s[:, c] == 0))
                gaps += abs(t[inside, c].sum() - s[inside, c].sum()) / len(rows) / 3
        wanted = {
            "auc": roc_auc_score(t, s),
            "average_precision": average_precision_score(t, s),
            "accuracy": ((s >= 0.5) == t).mean(),
            "brier": ((s - t) ** 2).mean(),
            "ece": gaps,
        }
        assert value == pytest.approx(wanted[name], abs=1e-6), name


def test_grades_are_scored_by_how_far_off_they_are(weights):
    rng = np.random.default_rng(1)
    truth, scores = rng.integers(0, 4, N), rng.dirichlet(np.ones(4), (DRAWS, N))
    for name, d, rows, value in each(scored("ordinal", truth, scores, weights), weights):
        t, s = truth[rows], scores[d, rows]
        said = (np.cumsum(s, 1) >= 0.5).argmax(1)
        assert np.array_equal(said, median_grade(s))
        wanted = {
            "auc": np.mean([roc_auc_score(t > k, s[:, k + 1 :].sum(1)) for k in range(3)]),
            "kappa": cohen_kappa_score(t, said, weights="quadratic"),
            "mae": mean_absolute_error(t, said),
            "accuracy": (said == t).mean(),
            "brier": ((s - np.eye(4)[t]) ** 2).sum(1).mean(),
        }
        if name in wanted:
            assert value == pytest.approx(wanted[name], abs=1e-6), name


def test_numbers_are_scored_as_scipy_scores_them(weights):
    rng = np.random.default_rng(2)
    truth = rng.normal(50, 10, N).round(-1)  # ties
    scores = (truth + rng.normal(0, 8, (DRAWS, N))).round()[:, :, None]
    for name, d, rows, value in each(scored("regression", truth, scores, weights), weights):
        t, s = truth[rows], scores[d, rows, 0]
        wanted = {
            "mae": mean_absolute_error(t, s),
            "rmse": root_mean_squared_error(t, s),
            "r2": r2_score(t, s),
            "pearson": stats.pearsonr(t, s).statistic,
            "spearman": stats.spearmanr(t, s).statistic,
        }
        assert value == pytest.approx(wanted[name], abs=1e-9), name


def test_what_has_no_spread_has_no_correlation():
    truth, same = np.arange(20.0), np.full((1, 20, 1), 3.0)
    one = np.ones((1, 20))
    for name in ("pearson", "spearman"):
        assert np.isnan(score_metric(name, truth, same, one, family="regression")).all()
    assert np.isnan(score_metric("r2", np.ones(20), same, one, family="regression")).all()
    assert np.isnan(score_metric("kappa", np.zeros(20, int), np.eye(3)[[0] * 20][None], one, family="ordinal")).all()
    labels = np.ones((20, 1), int)
    for name in ("auc", "average_precision"):
        assert np.isnan(score_metric(name, labels, same / 6, one, family="multilabel")).all()


@pytest.mark.parametrize("family", ["classification", "multilabel", "ordinal"])
def test_a_calibrated_metric_is_that_of_the_logits_over_the_temperature(family):
    from medssl.transfer import target_kind

    rng = np.random.default_rng(3)
    labels = {"classification": list("abc"), "multilabel": ["a|b", "c"], "ordinal": list("0123")}[family]
    target = target_kind(family, labels)
    logits = rng.normal(0, 2, (N, target.outputs))
    truth = rng.integers(0, 2, (N, 3)) if family == "multilabel" else rng.integers(0, 3, N)
    one = np.ones((1, N))
    at_two, plain = target.scores(logits / 2)[None], target.scores(logits)[None]
    for name in ("brier", "ece"):
        wanted = score_metric(name, truth, at_two, one, family=family)
        temperature = np.array([2.0])
        found = score_metric(f"calibrated_{name}", truth, plain, one, family=family, temperature=temperature)
        assert found == pytest.approx(wanted, abs=1e-5)
        assert found != pytest.approx(score_metric(name, truth, plain, one, family=family), abs=1e-3)
        assert np.isnan(score_metric(f"calibrated_{name}", truth, plain, one, family=family)).all()


def test_a_metric_of_another_family_is_refused():
    check_metric("calibrated_ece", "ordinal")
    with pytest.raises(UserError, match="unknown metric of a target of kind regression 'auc'"):
        check_metric("auc", "regression")
    with pytest.raises(UserError):
        check_metric("calibrated_ece", "regression")


def test_an_interval_needs_units_on_all_sides():
    sizes = {
        name: [int(g.sum()) for g in FAMILIES[name].groups(truth, columns)]
        for name, truth, columns in (
            ("classification", np.array([0, 0, 1]), 2),
            ("multilabel", np.array([[0, 1], [0, 0], [1, 0]]), 2),
            ("regression", np.array([1.0, 2.0, 3.0, 3.0]), 1),
        )
    }
    assert sizes == {"classification": [2, 1], "multilabel": [2, 1, 2, 1], "regression": [2, 2]}
