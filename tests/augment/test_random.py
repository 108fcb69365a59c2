"""Random numbers belong to (seed, step, row, draw) and to nothing else, and look random."""

import numpy as np
import pytest
import torch
from scipy import stats

from medssl.augment import RowGenerator

MASK = (1 << 64) - 1


def mix(x: int) -> int:
    """SplitMix64's finaliser in plain integers."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def test_bits_equal_plain_integer_arithmetic():
    golden, seed, step = 0x9E3779B97F4A7C15, 11, 5
    start = mix((mix((seed + golden) & MASK) ^ step) + golden & MASK)
    for row in (0, 1, 1000):
        key = mix((mix((start + row * golden) & MASK) + 2 * 0xBF58476D1CE4E5B9) & MASK)
        expected = [mix((key + k * golden) & MASK) >> 40 for k in range(3)]
        generator = RowGenerator(seed, step, torch.tensor([row]))
        generator.uniform(7)  # the first draw; compared is the second
        assert (generator.uniform(3)[0] * 2**24).long().tolist() == expected


def test_a_row_draws_the_same_whatever_rows_are_beside_it():
    whole = RowGenerator(1, 2, torch.arange(16))
    part = RowGenerator(1, 2, torch.tensor([9, 3]))
    for draw in ("uniform", "normal", "order"):
        assert torch.equal(getattr(whole, draw)(5)[[9, 3]], getattr(part, draw)(5))
    assert torch.equal(whole.noise((2, 3, 3))[[9, 3]], part.noise((2, 3, 3)))


@pytest.mark.parametrize("change", [{"seed": 1}, {"step": 1}, {"row": 1}])
def test_every_key_changes_the_draw(change):
    key = {"seed": 0, "step": 0, "row": 0}
    one, other = ({**key, **c} for c in ({}, change))
    draws = [RowGenerator(k["seed"], k["step"], torch.tensor([k["row"]])).uniform(8) for k in (one, other)]
    assert not torch.isclose(*draws).any()


def test_uniform_normal_and_integers_have_their_distributions():
    generator = RowGenerator(0, 0, torch.arange(200))
    assert stats.kstest(generator.uniform(101).flatten().numpy(), "uniform").pvalue > 0.001
    normal = generator.normal(101)
    assert stats.kstest(normal.flatten().numpy(), "norm").pvalue > 0.001
    assert abs(np.corrcoef(normal[:, 0], normal[:, 51])[0, 1]) < 0.25  # cosine and sine of the same radius
    counts = torch.bincount(generator.integers(7, 700).flatten(), minlength=7)
    assert len(counts) == 7 and stats.chisquare(counts.numpy()).pvalue > 0.001
    correlation = np.corrcoef(generator.uniform(2000).numpy())
    assert np.abs(correlation - np.eye(200)).max() < 0.13  # neighbouring rows and draws know nothing of each other


def test_order_is_a_permutation():
    order = RowGenerator(0, 0, torch.arange(50)).order(9)
    assert torch.equal(order.sort(1).values, torch.arange(9).expand(50, 9))
    assert len({tuple(o) for o in order.tolist()}) > 45
