"""Joint training: two kinds of labels in every step, one head where they mean the same, two where not."""

import numpy as np
import pytest
import torch

from medssl.errors import UserError
from medssl.transfer import OtherLabels, strategy, target_kind

SHORT = {"min_steps": 40, "batch": 8, "others": 16}
FEW = {"min_steps": 3, "epochs": 0.1, "batch": 4, "others": 6}


def others(problem, target=None, units=np.arange(16, 30), truth=None):
    """Labels of further units: those of the problem, or others."""
    known = problem()
    samples = np.flatnonzero(np.isin(known.unit_of, units))
    truth = problem.label[known.unit_of[samples]] if truth is None else truth[known.unit_of[samples]]
    return OtherLabels(target, known.images, samples, truth, "OT")


def test_it_learns_texture_from_other_labels_where_the_own_are_few(problem):
    few = {"train": np.arange(2), "truth": problem.label[:2]}
    logits = problem.predict("joint", SHORT, others=others(problem), **few)
    assert logits.shape == (30, 2)
    assert (logits.argmax(1) == problem.label[30:]).mean() > 0.9


def test_wrong_other_labels_of_the_same_task_mislead_and_of_another_task_do_not(problem):
    """One head learns what the others say of the classes; a head of its own does not."""
    wrong = 1 - problem.label
    few = {"train": np.arange(4), "truth": problem.label[:4]}
    merged = problem.predict("joint", {**SHORT, "weight": 4}, others=others(problem, truth=wrong), **few)
    target = target_kind("classification", ["left", "right"])
    apart = problem.predict("joint", {**SHORT, "weight": 4}, others=others(problem, target, truth=wrong), **few)
    assert (merged.argmax(1) == problem.label[30:]).mean() < 0.5
    assert (apart.argmax(1) == problem.label[30:]).mean() > 0.8


def test_each_step_sees_own_and_other_samples_in_one_batch(problem):
    sizes = []

    def encoder(seed):
        from medssl.encoders import create_encoder

        made = create_encoder("small", seed=seed)
        embed = made.embed
        made.embed = lambda x: (sizes.append(len(x)), embed(x))[1]
        return made

    strategy("joint", FEW).fit(problem(encoder=encoder, others=others(problem)))
    assert sizes == [10, 10, 10]


def test_another_target_may_have_other_numbers_of_classes(problem):
    target = target_kind("classification", ["a", "b", "c"])
    truth = np.arange(60) % 3
    made = problem(others=others(problem, target, truth=truth))
    fitted = strategy("joint", FEW).fit(made)
    assert fitted.head.weight.shape[0] == 2 and torch.isfinite(fitted.head.weight).all()


def test_the_seed_decides_everything_and_the_weight_counts(problem):
    given = {"others": others(problem)}
    first, again = (problem.predict("joint", FEW, **given) for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.allclose(first, problem.predict("joint", {**FEW, "weight": 5.0}, **given))


def test_without_other_labels_it_is_refused(problem):
    with pytest.raises(UserError, match="names none"):
        strategy("joint", FEW).fit(problem())
