"""On which scale the interval of a score is made: one whose ends the score cannot leave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Scale:
    """A monotone function of the score, its slope, and the way back."""

    to: Callable[[float], float]
    slope: Callable[[float], float]
    back: Callable[[float], float]

    def interval(self, value: float, half: float) -> tuple[float, float]:
        """The score +- `half` (of the score itself), made symmetric on this scale."""
        middle, half = self.to(value), half * abs(self.slope(value))
        low, high = sorted((self.back(middle - half), self.back(middle + half)))
        return low, high


ODDS = Scale(lambda v: np.log(v / (1 - v)), lambda v: 1 / (v * (1 - v)), lambda z: float(1 / (1 + np.exp(-z))))
LOG = Scale(np.log, lambda v: 1 / v, lambda z: float(np.exp(z)))  # errors
FISHER = Scale(np.arctanh, lambda v: 1 / (1 - v**2), lambda z: float(np.tanh(z)))  # correlations, kappa
UNEXPLAINED = Scale(lambda v: np.log(1 - v), lambda v: 1 / (1 - v), lambda z: float(1 - np.exp(z)))  # R2
BY_RANGE = {(0.0, 1.0): ODDS, (0.0, np.inf): LOG, (-1.0, 1.0): FISHER, (-np.inf, 1.0): UNEXPLAINED}


def scale_for(value: float, span: tuple[float, float]) -> Scale | None:
    """The scale of scores that lie in `span`; None for a score at its end or beyond, which gets a plain interval."""
    return BY_RANGE[span] if span[0] < value < span[1] else None
