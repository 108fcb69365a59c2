import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from medssl.errors import MedsslError, UserError
from medssl.transfer import solver
from medssl.transfer.solver import fit_logistic


def made(units=60, width=20, classes=3, seed=0):
    """Features whose axes have very different energies, and classes that a plane separates in part."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(units, width)) / np.arange(1, width + 1)
    truth = (latent[:, :classes] * np.arange(1, classes + 1) + 0.5 * rng.normal(size=(units, classes))).argmax(1)
    features = latent @ rng.normal(size=(width, width)) + 3
    return features.astype(np.float32), truth


def oracle(features, truth, penalty):
    """Logits (units, classes present) of scikit-learn, up to a constant a unit."""
    model = LogisticRegression(C=1 / penalty, max_iter=100_000, tol=1e-8).fit(features.astype(float), truth)
    logits = features @ model.coef_.T + model.intercept_
    logits = np.concatenate([-logits, logits], 1) / 2 if logits.shape[1] == 1 else logits
    return logits - logits.mean(1, keepdims=True)


@pytest.mark.parametrize(("units", "width"), [(12, 40), (40, 40), (60, 8)])
@pytest.mark.parametrize("classes", [2, 3])
def test_it_is_scikit_learns_solution(units, width, classes):
    """With fewer units than dimensions, as many, and more."""
    features, truth = made(units, width, classes)
    penalties = [0.01, 1.0, 100.0]
    weight, bias = fit_logistic(features, [(np.arange(units), truth)], penalties, classes)
    assert weight.shape == (1, 3, classes, width) and bias.shape == (1, 3, classes)
    for p, penalty in enumerate(penalties):
        assert features @ weight[0, p].T + bias[0, p] == pytest.approx(
            oracle(features, truth, penalty), rel=1e-3, abs=1e-3
        )


def test_problems_together_are_the_problems_alone(monkeypatch):
    """Of different sizes, in any order, in small batches; each takes its own rows of the features."""
    features, truth = made(80)
    rng = np.random.default_rng(1)
    drawn = [rng.permutation(80)[:size] for size in (9, 30, 9, 80, 30, 9)]
    problems = [(units, truth[units]) for units in drawn]
    monkeypatch.setattr(solver, "AT_ONCE", 2 * 9 * 20)
    together = fit_logistic(features, problems, [0.5, 5.0], 3)
    for place, problem in enumerate(problems):
        alone = fit_logistic(features, [problem], [0.5, 5.0], 3)
        assert together[0][place] == pytest.approx(alone[0][0], abs=1e-5)
        assert together[1][place] == pytest.approx(alone[1][0], abs=1e-4)


def test_the_same_labels_are_solved_once(monkeypatch):
    features, truth = made(40)
    sizes, real = [], solver._solve

    def counted(x, *others):
        sizes.append(len(x))
        return real(x, *others)

    monkeypatch.setattr(solver, "_solve", counted)
    backwards = np.arange(40)[::-1]
    other = (truth + 1) % 3  # the same units with other labels
    problems = [(np.arange(40), truth), (backwards, truth[backwards]), (np.arange(40), other)]
    weight, _ = fit_logistic(features, problems, [1.0], 3)
    assert sizes == [2]
    assert np.array_equal(weight[0], weight[1]) and not np.allclose(weight[0], weight[2])


def test_a_class_without_labels_gets_nothing_and_the_others_their_own_solution():
    features, truth = made(30)
    some = np.flatnonzero(truth != 1)
    weight, bias = fit_logistic(features, [(some, truth[some])], [1.0], 3)
    assert (weight[0, 0, 1] == 0).all() and bias[0, 0, 1] == solver.NEVER
    logits = features[some] @ weight[0, 0, [0, 2]].T + bias[0, 0, [0, 2]]
    assert logits == pytest.approx(oracle(features[some], truth[some], 1.0), abs=1e-3)


def test_features_that_are_alike_or_constant_are_no_obstacle():
    features, truth = made(20, 5, 2)
    features = np.concatenate([features, features, np.ones((20, 1), np.float32)], 1)
    twice = np.concatenate([np.arange(20), np.arange(20)])
    weight, bias = fit_logistic(features, [(twice, truth[twice])], [1e-3], 2)
    assert np.isfinite(weight).all() and weight[0, 0, :, -1] == pytest.approx(0, abs=1e-5)
    assert weight[0, 0, :, :5] == pytest.approx(weight[0, 0, :, 5:10], abs=1e-3)
    logits = features @ weight[0, 0].T + bias[0, 0]
    assert logits == pytest.approx(oracle(features[twice], truth[twice], 1e-3)[:20], abs=1e-2)


def test_separable_labels_with_hardly_a_penalty_converge():
    rng = np.random.default_rng(3)
    truth = np.repeat([0, 1, 2], [30, 8, 2])
    features = rng.normal(size=(40, 60)) + 2 * truth[:, None]
    weight, bias = fit_logistic(features, [(np.arange(40), truth)], [1e-4], 3)
    logits = features @ weight[0, 0].T + bias[0, 0]
    chance = np.exp(logits - logits.max(1, keepdims=True))
    chance /= chance.sum(1, keepdims=True)
    error = chance - np.eye(3)[truth]
    assert np.abs(error.T @ features + 1e-4 * weight[0, 0]).max() < 1e-5  # the gradient at an optimum
    assert np.abs(error.sum(0)).max() < 1e-5


def test_one_class_and_broken_features_are_refused():
    features, truth = made(10)
    with pytest.raises(UserError, match=r"one class(.|\n)*per: class"):
        fit_logistic(features, [(np.arange(10), truth), (np.arange(3), np.zeros(3, int))], [1.0], 3)
    features[4] = np.nan
    with pytest.raises(MedsslError, match="not finite"):
        fit_logistic(features, [(np.arange(10), truth)], [1.0], 3)
