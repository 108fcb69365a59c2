"""Random numbers that belong to a row of the global batch, whatever process or device draws them.

Counter-based, after Salmon 2011 ("Parallel random numbers: as easy as 1, 2, 3"), with the mixer of SplitMix64
(Steele 2014): the number is a hash of (seed, step, row, draw, position), so nothing has to be saved to go on after
an interruption, and splitting a batch over processes changes no view.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15
_FACTORS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_MASK = (1 << 64) - 1


class RowGenerator:
    """Draws for the rows of one training step. Each call is a new, independent draw.

    Args:
        seed, step: whole numbers of at least 0.
        rows: (N,) int64, each row's position in the global batch; its device is where numbers are made.
    """

    def __init__(self, seed: int, step: int, rows: Tensor) -> None:
        self.rows = rows
        self._keys = _mix(_signed(_mix_int(_mix_int(seed) ^ step)) + rows.long() * _signed(_GOLDEN))
        self._draws = self._asides = 0

    def part(self, rows: slice) -> RowGenerator:
        """A generator of these rows alone, whose next draws are the ones that they would have here."""
        other = copy.copy(self)
        other.rows, other._keys = self.rows[rows], self._keys[rows]
        return other

    def beside(self) -> RowGenerator:
        """A generator of the same rows whose draws leave the ones of this generator as they are."""
        self._asides += 1
        other = copy.copy(self)
        other._keys, other._draws = _mix(self._keys ^ _signed(self._asides * _FACTORS[1])), 0
        return other

    def skip_like(self, other: RowGenerator) -> None:
        """Go on where `other`, a part of this generator, has come to."""
        self._draws, self._asides = other._draws, other._asides

    def uniform(self, count: int) -> Tensor:
        """(N, count) float32 in [0, 1), in steps of 2^-24."""
        return _to_unit(_shift(self._bits(count), 40))

    def between(self, low: float, high: float, count: int = 1) -> Tensor:
        """(N, count) float32, evenly spread over [low, high)."""
        return low + (high - low) * self.uniform(count)

    def integers(self, below: int, count: int = 1) -> Tensor:
        """(N, count) int64 in [0, below), for below up to 2^31."""
        return _shift(_shift(self._bits(count), 32) * below, 32)

    def chance(self, probability: float) -> Tensor:
        """(N,) bool."""
        return self.uniform(1)[:, 0] < probability

    def normal(self, count: int) -> Tensor:
        """(N, count) standard normal float32, by Box and Muller (1958)."""
        bits = self._bits((count + 1) // 2)
        angle = _to_unit(bits & 0xFFFFFF).mul_(2 * math.pi)
        radius = _to_unit(_shift(bits, 40)).neg_().log1p_().mul_(-2).sqrt_()
        return torch.cat([torch.cos(angle).mul_(radius), angle.sin_().mul_(radius)], 1)[:, :count]

    def noise(self, shape: torch.Size | tuple[int, ...]) -> Tensor:
        """(N, *shape) standard normal float32: a field of its own for every row."""
        return self.normal(math.prod(shape)).view(len(self.rows), *shape)

    def order(self, count: int) -> Tensor:
        """(N, count) int64: a random permutation of 0 .. count - 1 in each row."""
        return _shift(self._bits(count), 1).argsort(1)

    def _bits(self, count: int) -> Tensor:
        self._draws += 1
        keys = _mix(self._keys + _signed(self._draws * _FACTORS[0]))
        places = torch.arange(count, device=keys.device) * _signed(_GOLDEN)
        return _mix_(keys[:, None] + places)


def _mix(x: Tensor) -> Tensor:
    return _mix_(x.clone())


def _mix_(x: Tensor) -> Tensor:
    """In place: a field of noise needs millions of these, and fresh memory costs more than the arithmetic."""
    x.bitwise_xor_(_shift(x, 30)).mul_(_signed(_FACTORS[0]))
    x.bitwise_xor_(_shift(x, 27)).mul_(_signed(_FACTORS[1]))
    return x.bitwise_xor_(_shift(x, 31))


def _mix_int(x: int) -> int:
    x = (x + _GOLDEN) & _MASK
    x = ((x ^ (x >> 30)) * _FACTORS[0]) & _MASK
    x = ((x ^ (x >> 27)) * _FACTORS[1]) & _MASK
    return x ^ (x >> 31)


def _shift(x: Tensor, by: int) -> Tensor:
    """Right shift that fills with zeros; torch's own fills with the sign."""
    return (x >> by).bitwise_and_((1 << (64 - by)) - 1)


def _to_unit(x: Tensor) -> Tensor:
    return x.float().mul_(2.0**-24)


def _signed(x: int) -> int:
    """The int64 with these 64 bits; torch has no arithmetic for uint64."""
    x &= _MASK
    return x - (1 << 64) if x >> 63 else x
