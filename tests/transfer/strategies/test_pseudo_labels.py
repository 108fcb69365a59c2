import numpy as np
import pytest

from medssl.transfer import strategy
from medssl.transfer.strategies.pseudo_labels import sure
from medssl.transfer.unlabeled import predict, softmax


class Watched:
    """A predictor that keeps what it was fitted on, and what it left."""

    def __init__(self, inner):
        self.inner, self.problems, self.fits = inner, [], []

    def fit(self, problem):
        self.problems.append(problem)
        self.fits.append(self.inner.fit(problem))
        return self.fits[-1]


def test_only_what_the_last_predictor_was_sure_of_is_learnt_from(problem):
    method = strategy("pseudo_labels", {"predictor": {"name": "probe", "penalty": 0.01}, "rounds": 2, "threshold": 0.8})
    method.inner = Watched(method.inner)
    given = problem()
    last = method.fit(given)
    first, *later = method.inner.problems
    assert first is given and len(later) == 2 and last is method.inner.fits[-1]
    for before, then in zip(method.inner.fits, later, strict=False):
        assert then.train[:16].tolist() == given.train.tolist() and then.truth[:16].tolist() == given.truth.tolist()
        added = then.train[16:]
        assert len(added) and set(added) <= set(range(16, 30)) and len(set(added)) == len(added)
        probability = softmax(predict(given, before, added))
        assert (probability.max(1) >= 0.8).all() and (probability.argmax(1) == then.truth[16:]).all()
        unsure = softmax(predict(given, before, np.arange(16, 30))).max(1) < 0.8
        assert unsure.any()  # else the threshold was not tried


def test_guesses_keep_the_shares_of_the_labels():
    rng = np.random.default_rng(0)
    probability = rng.dirichlet([1, 1, 1], 300)
    shares = np.array([0.5, 0.4, 0.1])
    rows, guesses = sure(probability, 0.6, shares)
    assert (probability[rows, guesses] >= 0.6).all() and (probability[rows].argmax(1) == guesses).all()
    counts = np.bincount(guesses, minlength=3)
    assert counts / counts.sum() == pytest.approx(shares, abs=0.02)
    available = [((probability.argmax(1) == c) & (probability.max(1) >= 0.6)).sum() for c in range(3)]
    assert counts[0] == available[0]  # the class that runs out first is taken whole
    for c in range(3):
        mine = probability[rows[guesses == c], c]
        left = np.setdiff1d(np.flatnonzero(probability.argmax(1) == c), rows)
        assert (np.diff(mine) <= 0).all() and probability[left, c].max(initial=0) <= mine.min()


def test_a_class_of_which_nothing_is_sure_leaves_no_guesses(problem):
    probability = np.array([[0.99, 0.01], [0.95, 0.05], [0.4, 0.6]])
    rows, guesses = sure(probability, 0.9, np.array([0.5, 0.5]))
    assert len(rows) == len(guesses) == 0
    assert len(sure(probability, 0.9, np.array([1.0, 0.0]))[0]) == 2  # one that has no labels does not count
    method = strategy("pseudo_labels", {"predictor": "probe", "threshold": 0.999999})
    method.inner = Watched(method.inner)
    assert method.fit(problem()) is method.inner.fits[0]


def test_with_all_labels_there_is_nothing_to_guess(problem):
    everything = {"train": np.arange(30), "truth": problem.label[:30]}
    plain = problem.predict("probe", **everything)
    assert np.array_equal(problem.predict("pseudo_labels", {"predictor": "probe"}, **everything), plain)


def test_it_is_frozen_where_its_predictor_is():
    assert strategy("pseudo_labels", {"predictor": "probe"}).frozen and not strategy("pseudo_labels").frozen
