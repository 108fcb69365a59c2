"""Linear probe: the encoder stays frozen, a linear model reads its features.

The features are standardised with the mean and spread of the whole pool, whose labels it does not need: with a handful
of labels the labeled units alone would give a poor estimate of either.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from medssl.config import Strict, register
from medssl.transfer.problem import Problem


class Settings(Strict):
    """penalty: of the squared weights, per feature dimension (the sum over units of the loss is not averaged)."""

    penalty: float = Field(0.2, gt=0)


class Probe:
    frozen = True

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def predict(self, problem: Problem) -> np.ndarray:
        features = problem.features()
        pool = features[problem.pool]
        scaled = (features - pool.mean(0)) / (pool.std(0) + 1e-6)
        penalty = self.settings.penalty * scaled.shape[1]
        logits = problem.target.fit_linear(scaled[problem.train], problem.truth, penalty)
        return logits(scaled[problem.test])


STRATEGY = Probe
register("strategy", "probe", Settings)
