"""Linear probe: the encoder stays frozen, a linear model reads its features, standardised with the whole pool."""

from __future__ import annotations

from pydantic import Field

from medssl.config import Strict, register
from medssl.transfer.features import pool_scale
from medssl.transfer.fitted import Fitted
from medssl.transfer.heads import LinearHead
from medssl.transfer.problem import Problem, Strategy


class Settings(Strict):
    """penalty: of the squared weights, per feature dimension (the sum over units of the loss is not averaged)."""

    penalty: float = Field(0.2, gt=0)


class Probe(Strategy):
    frozen = True
    grid = ({"penalty": 0.02}, {"penalty": 2.0}, {"penalty": 0.002})

    def fit(self, problem: Problem) -> Fitted:
        features = problem.features()
        mean, std = pool_scale(features, problem.pool)
        labeled = (features[problem.train] - mean) / std
        penalty = self.settings.penalty * features.shape[1]
        weight, bias = problem.target.fit_linear(labeled, problem.truth, penalty)
        return Fitted(LinearHead(weight, bias, mean, std))


STRATEGY = Probe
register("strategy", "probe", Settings)
