import numpy as np
import pytest
import torch

from medssl.errors import UserError
from medssl.transfer import strategy, target_kind
from medssl.transfer.strategies.gradient_boosting import as_head, rounded_down


def ring(units=280):
    """Features in which a class is a ring around the other one: no line parts them."""
    x = np.random.default_rng(0).normal(size=(units, 6)).astype(np.float32)
    return x, (np.linalg.norm(x[:, :2], axis=1) > 1.2).astype(int)


def accuracy(problem, name, settings=None):
    x, truth = ring()
    given = problem(train=np.arange(80), truth=truth[:80], pool=np.arange(80), features=lambda: x)
    return (strategy(name, settings).fit(given).logits(x[80:]).argmax(1) == truth[80:]).mean()


def test_it_learns_what_no_linear_probe_can(problem):
    boosted = accuracy(problem, "gradient_boosting", {"features": 0.5})
    assert boosted > 0.75 and boosted > accuracy(problem, "probe") + 0.15


@pytest.mark.parametrize("classes", [2, 3])
def test_the_head_is_scikit_learns_model(classes):
    from sklearn.ensemble import HistGradientBoostingClassifier

    rng = np.random.default_rng(1)
    x = rng.normal(size=(90, 5)).astype(np.float32)
    truth = (np.digitize(x[:, 0] + 0.5 * x[:, 1] ** 2, [0.3, 1.0]) % classes).astype(int)
    model = HistGradientBoostingClassifier(max_iter=30, max_depth=3, min_samples_leaf=2).fit(x, truth)
    logits = as_head(model, np.arange(classes), classes)(
        torch.from_numpy(x)
    ).numpy()  # training units lie at the splits
    wanted = model.decision_function(x)
    found = logits[:, 1] - logits[:, 0] if classes == 2 else logits
    assert found == pytest.approx(wanted, abs=1e-4)


def test_a_threshold_parts_the_same_float32_numbers():
    one = np.float32(0.1)
    values = np.array([one, np.nextafter(one, np.float32(1))])
    threshold = rounded_down(np.array([values.astype(np.float64).mean()]))
    assert (values <= threshold).tolist() == [True, False] and threshold.dtype == np.float32


@pytest.mark.parametrize("per_class", [1, 2, 5])
def test_two_labels_a_class_are_enough_to_split_on(problem, per_class):
    few = problem(train=np.arange(2 * per_class), truth=problem.label[: 2 * per_class])
    logits = strategy("gradient_boosting", {"features": 1.0}).fit(few).logits(few.features())
    assert (logits[: 2 * per_class].argmax(1) == problem.label[: 2 * per_class]).all()
    assert np.ptp(logits[:, 1]) > 0.1


def test_the_seed_decides_and_nothing_else(problem):
    one, same, other = (problem.predict("gradient_boosting", seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(one, same) and not np.array_equal(one, other)


def test_a_class_without_labels_is_never_said(problem):
    target = target_kind("classification", ["maybe", "no", "yes"])
    logits = problem.predict("gradient_boosting", target=target)
    assert (logits[:, 2] < -1000).all() and (np.abs(logits[:, :2]) < 30).all()
    with pytest.raises(UserError, match="of one class"):
        problem.predict("gradient_boosting", truth=np.zeros(16, int))
