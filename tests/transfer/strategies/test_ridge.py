import numpy as np
import pytest
from sklearn.linear_model import Ridge

from medssl.transfer import strategy, target_kind
from medssl.transfer.linear import fit_ridge


@pytest.mark.parametrize(("units", "width"), [(10, 30), (30, 10)])
def test_it_is_ridge_regression_with_a_free_bias(units, width):
    rng = np.random.default_rng(0)
    x, y = rng.normal(2, 1, (units, width)), rng.normal(1, 1, (units, 3))
    weight, bias = fit_ridge(x, y, 2.5)
    model = Ridge(alpha=2.5).fit(x, y)
    assert weight == pytest.approx(model.coef_) and bias == pytest.approx(model.intercept_)


def test_it_learns_and_its_scores_are_about_the_fitted_values(problem):
    logits = problem.predict("ridge", {"penalty": 1e-3})
    assert (logits.argmax(1) == problem.label[30:]).mean() > 0.8
    value = logits[:, 1] / 2
    near = np.abs(value - 0.5) < 0.2
    score = 1 / (1 + np.exp(logits[near, 0] - logits[near, 1]))
    assert near.any() and score == pytest.approx(value[near], abs=0.02)


def test_a_large_penalty_flattens_the_scores(problem):
    free, tied = (problem.predict("ridge", {"penalty": penalty}) for penalty in (1e-3, 1e3))
    assert np.ptp(tied[:, 1]) < 0.05 * np.ptp(free[:, 1])


def test_a_class_without_labels_is_never_said(problem):
    target = target_kind("classification", ["maybe", "no", "yes"])
    logits = strategy("ridge").fit(problem(target=target)).logits(problem().features())
    assert (logits[:, 2] < -1000).all() and (np.abs(logits[:, :2]) < 30).all()
