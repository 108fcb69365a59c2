"""Prototypes: the encoder stays frozen, a unit goes to the class whose mean embedding it is most like (Snell 2017).

The means are of standardised embeddings of unit length, and likeness is the cosine, as is usual where the features were
not trained for Snell's distance (Gidaris 2018; Chen 2021, "Meta-Baseline"). Every class has one prototype whatever
the number of its labels, so that the share of the classes among the labels does not matter.
"""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field

from medssl.config import Strict, register
from medssl.metrics import one_hot
from medssl.transfer.features import pool_scale
from medssl.transfer.fitted import Fitted
from medssl.transfer.heads import NEVER, CosineHead
from medssl.transfer.problem import Problem, Strategy


class Settings(Strict):
    """temperature: of the cosine. It scales the scores, and with two classes no order depends on it; a tenth is where
    those that are learned start (Gidaris 2018)."""

    temperature: float = Field(0.1, gt=0)


class Prototypes(Strategy):
    frozen = True
    grid = ({"temperature": 0.05}, {"temperature": 0.2}, {"temperature": 0.5})
    of_classes, by_loss = True, False

    def fit(self, problem: Problem) -> Fitted:
        features = problem.features()
        mean, std = pool_scale(features, problem.pool)
        unit = torch.nn.functional.normalize(torch.from_numpy((features[problem.train] - mean) / std))
        member = torch.from_numpy(one_hot(problem.truth, problem.target.outputs)).to(unit)
        prototypes = torch.nn.functional.normalize(member.T @ unit)  # the sum points where the mean does
        bias = np.where(member.any(0), 0, NEVER)
        return Fitted(CosineHead(prototypes / self.settings.temperature, bias, mean, std))


STRATEGY = Prototypes
register("strategy", "prototypes", Settings)
