from itertools import pairwise

import pytest

from medssl.encoders import create_encoder
from medssl.transfer import strategy
from medssl.transfer.strategies.gradual import slanted, stages_free


def moved(problem, **settings):
    """For each stage, the largest change of a weight, and the number of tensors that did not change."""
    before = create_encoder("small", seed=3).state_dict()
    short = {"batch": 16, "epochs": 0.01, "weight_decay": 0}
    encoder = strategy("gradual", short | settings).fit(problem()).encoder
    after, weights = encoder.state_dict(), {name for name, _ in encoder.named_parameters()}
    return [
        (
            max(float((after[name] - before[name]).abs().max()) for name in stage.tensors if name in weights),
            sum(bool((after[name] == before[name]).all()) for name in stage.tensors),
        )
        for stage in encoder.in_stages()
    ]


def test_it_learns_what_a_frozen_random_encoder_does_not_show(faint):
    settings = {"min_steps": 60, "batch": 16, "epochs": 1, "learning_rate": 2e-2, "unfrozen": 0.2}
    assert faint("gradual", settings) > 0.85


def test_stages_are_let_go_from_the_last_to_the_first():
    free = [stages_free(step, 100, 5, 0.5) for step in range(100)]
    assert free[0] == 0 and free == sorted(free) and free[49:] == [5] * 51
    assert [free.count(n) for n in range(5)] == pytest.approx([50 / 6] * 5, abs=1)
    assert stages_free(0, 1, 5, 1.0) == 0


def test_what_is_not_let_go_stays_with_its_batch_norm(problem):
    """In the second of two steps three of the five stages learn."""
    change = moved(problem, min_steps=2, unfrozen=1.0)
    assert [most for most, _ in change[:2]] == [0, 0]
    assert all(still == len(stage.tensors) for (_, still), stage in zip(change[:2], stages()[:2], strict=True))
    assert all(most > 0 and not still for most, still in change[2:])


def test_each_earlier_stage_learns_so_many_times_slower(problem):
    """The first step of Adam moves a weight by its rate, whatever its gradient."""
    change = moved(problem, min_steps=2, unfrozen=1e-6, decay=2.6, learning_rate=1e-3)
    rates = [most for most, _ in change]
    assert rates[4] == pytest.approx(1e-3 * slanted(1, 2) / 2.6, rel=0.05)
    assert [late / early for early, late in pairwise(rates)] == pytest.approx([2.6] * 4, rel=0.05)


def test_the_rate_rises_quickly_and_falls_slowly():
    rates = [slanted(step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(1 / 32) and rates[10] == 1 and rates[-1] < 0.05
    assert rates[:11] == sorted(rates[:11]) and rates[10:] == sorted(rates[10:], reverse=True)


def stages():
    return create_encoder("small").in_stages()
