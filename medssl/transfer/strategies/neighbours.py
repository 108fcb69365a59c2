"""k-nearest neighbours: the encoder stays frozen, the nearest labeled units vote, as in Wu 2018 (arXiv:1805.01978).

Nothing is fitted, so that it shows what the embedding itself tells; it is also how most pretext tasks are watched. The
embeddings are standardised with the whole pool before their length is taken: those of one kind of scan share most of
their direction, and their plain cosines all lie near one.
"""

from __future__ import annotations

import torch
from pydantic import Field

from medssl.config import Strict, register
from medssl.metrics import one_hot
from medssl.transfer.features import pool_scale
from medssl.transfer.fitted import Fitted
from medssl.transfer.heads import NeighboursHead
from medssl.transfer.problem import Problem, Strategy


class Settings(Strict):
    """How votes are counted.

    Attributes:
        neighbours: how many vote, all where fewer are labeled. 20, which was best in most runs of DINO (Caron 2021):
            at the small budgets every labeled unit votes, and the weights alone make the difference.
        temperature: of the cosine in the weight of a vote; that of Wu 2018.
    """

    neighbours: int = Field(20, ge=1)
    temperature: float = Field(0.07, gt=0)


class Neighbours(Strategy):
    frozen = True
    grid = ({"neighbours": 5}, {"neighbours": 10}, {"neighbours": 1})
    of_classes, by_loss = True, False

    def fit(self, problem: Problem) -> Fitted:
        features = problem.features()
        mean, std = pool_scale(features, problem.pool)
        labeled = torch.from_numpy((features[problem.train] - mean) / std)
        head = NeighboursHead(
            examples=torch.nn.functional.normalize(labeled),
            votes=one_hot(problem.truth, problem.target.outputs),
            mean=mean,
            std=std,
            neighbours=min(self.settings.neighbours, len(labeled)),
            temperature=self.settings.temperature,
        )
        return Fitted(head)


STRATEGY = Neighbours
register("strategy", "neighbours", Settings)
