"""Finetuning: encoder and a linear head are trained together on the labeled units."""

from __future__ import annotations

import torch

from medssl.config import register
from medssl.transfer.fitted import Fitted, LinearHead
from medssl.transfer.network import Batch, Group, Recipe, autocast, make_encoder, train
from medssl.transfer.problem import Problem


class Finetune:
    frozen = False

    def __init__(self, settings: Recipe) -> None:
        self.settings = settings

    def fit(self, problem: Problem) -> Fitted:
        """See `Strategy.fit`.

        Raises:
            UserError: the encoder shrinks these images to a single point.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(problem.seed)
            encoder = make_encoder(problem, "finetuning").train()
            head = torch.nn.Linear(encoder.embed_dim, problem.target.outputs)

            def loss(batch: Batch) -> torch.Tensor:
                with autocast(problem):
                    features = encoder.embed(batch.images)
                return problem.target.loss(head(features.float()), batch.truth)

            train(problem, self.settings, [Group([*encoder.parameters(), *head.parameters()])], loss)
        return Fitted(LinearHead(head.weight, head.bias), encoder.eval())


STRATEGY = Finetune
register("strategy", "finetune", Recipe)
