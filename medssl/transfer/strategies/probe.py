"""Linear probe: the encoder stays frozen, a linear model reads its features, standardised with the whole pool."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from medssl.config import Strict, register
from medssl.transfer.features import standardise
from medssl.transfer.problem import Problem


class Settings(Strict):
    """penalty: of the squared weights, per feature dimension (the sum over units of the loss is not averaged)."""

    penalty: float = Field(0.2, gt=0)


class Probe:
    frozen = True

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def predict(self, problem: Problem) -> np.ndarray:
        scaled = standardise(problem.features(), problem.pool)
        penalty = self.settings.penalty * scaled.shape[1]
        logits = problem.target.fit_linear(scaled[problem.train], problem.truth, penalty)
        return logits(scaled[problem.test])


STRATEGY = Probe
register("strategy", "probe", Settings)
