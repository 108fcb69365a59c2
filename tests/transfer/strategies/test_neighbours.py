import numpy as np
import pytest

from medssl.transfer import strategy


def test_neighbours_of_a_class_win(problem):
    def never(seed):
        raise AssertionError("a frozen strategy builds no encoder")

    logits = problem.predict("neighbours", encoder=never)
    assert logits.shape == (30, 2)
    assert (logits.argmax(1) == problem.label[30:]).mean() > 0.8


def test_no_more_vote_than_are_labeled(problem):
    few = {"train": np.arange(4), "truth": problem.label[:4]}
    assert strategy("neighbours").fit(problem(**few)).head.neighbours == 4
    assert strategy("neighbours", {"neighbours": 3}).fit(problem(**few)).head.neighbours == 3
    logits = problem.predict("neighbours", **few)
    assert len(np.unique(logits[:, 1])) == 30  # weights make an order where all vote


def test_with_one_neighbour_a_labeled_unit_is_itself(problem):
    given = problem()
    logits = strategy("neighbours", {"neighbours": 1}).fit(given).logits(given.features()[given.train])
    assert (logits.argmax(1) == given.truth).all()


def test_units_outside_of_the_pool_take_no_part(problem):
    features = problem().features().copy()
    features[31:] += 100
    first = problem.predict("neighbours")[0]
    assert problem.predict("neighbours", features=lambda: features)[0] == pytest.approx(first)
