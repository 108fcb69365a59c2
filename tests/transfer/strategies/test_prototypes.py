import numpy as np
import pytest

from medssl.transfer import strategy, target_kind
from medssl.transfer.features import pool_scale


def test_the_nearest_mean_wins(problem):
    logits = problem.predict("prototypes")
    assert logits.shape == (30, 2)
    assert (logits.argmax(1) == problem.label[30:]).mean() > 0.8


def test_logits_are_cosines_to_the_class_means(problem):
    given = problem()
    features = given.features()
    mean, std = pool_scale(features, given.pool)
    unit = (features - mean) / std
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    means = np.stack([unit[given.train][given.truth == c].mean(0) for c in (0, 1)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    assert problem.predict("prototypes", {"temperature": 0.25}) == pytest.approx(unit[30:] @ means.T / 0.25, abs=1e-4)


def test_more_labels_of_one_class_give_it_no_weight(problem):
    """The same unit ten times over moves no mean."""
    train = np.array([0, 1])
    again = np.array([0, 1] + [1] * 10)
    first = problem.predict("prototypes", train=train, truth=problem.label[train])
    assert problem.predict("prototypes", train=again, truth=problem.label[again]) == pytest.approx(first, abs=1e-5)


def test_a_class_without_labels_is_never_said(problem):
    target = target_kind("classification", ["maybe", "no", "yes"])
    logits = strategy("prototypes").fit(problem(target=target)).logits(problem().features())
    assert (logits[:, 2] < -1000).all() and (logits[:, :2] > -11).all()
