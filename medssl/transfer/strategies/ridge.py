"""Ridge probe: the encoder stays frozen, least squares on one-hot labels, in closed form.

It is the probe without iterations. With fewer labeled units than dimensions it is solved among the units (through their
Gram matrix), else among the dimensions; both are the same solution.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from medssl.config import Strict, register
from medssl.metrics import one_hot
from medssl.transfer.features import pool_scale
from medssl.transfer.fitted import Fitted
from medssl.transfer.heads import NEVER, LinearHead
from medssl.transfer.linear import fit_ridge
from medssl.transfer.problem import Problem, Strategy


class Settings(Strict):
    """penalty: of the squared weights, per feature dimension. The probe's 0.2 over a quarter, which is the curvature of
    the logistic loss at even odds: near there both shrink alike."""

    penalty: float = Field(0.8, gt=0)


class Ridge(Strategy):
    frozen = True
    grid = ({"penalty": 0.08}, {"penalty": 8.0}, {"penalty": 0.008})
    of_classes, by_loss = True, False

    def fit(self, problem: Problem) -> Fitted:
        features, outputs = problem.features(), problem.target.outputs
        mean, std = pool_scale(features, problem.pool)
        labeled = ((features[problem.train] - mean) / std).astype(np.float64)
        labels = one_hot(problem.truth, outputs)
        weight, bias = fit_ridge(labeled, labels, self.settings.penalty * features.shape[1])
        # the softmax of C values in [0, 1] times C has slope one at even odds: scores stay close to the fitted values
        bias = np.where(labels.any(0), outputs * bias, NEVER)
        return Fitted(LinearHead(outputs * weight, bias, mean, std))


STRATEGY = Ridge
register("strategy", "ridge", Settings)
