"""Finetuning: encoder and a linear head are trained together on the labeled units.

With `freeze: K` the early layers stay as they are: stages 0 (the stem) to K keep their weights and the running
statistics of their batch norms, and the rest learns (Yosinski 2014, arXiv:1411.1792; on scans: Tajbakhsh 2016).
"""

from __future__ import annotations

import torch
from pydantic import Field

from medssl.config import register
from medssl.encoders import Encoder
from medssl.transfer.fitted import Fitted
from medssl.transfer.heads import LinearHead
from medssl.transfer.network import RATES, Group, linear_layer, make_encoder, supervised, train
from medssl.transfer.problem import Heads, Problem, Strategy
from medssl.transfer.recipe import Recipe


class Settings(Recipe):
    """freeze: the last stage that stays as it is; default none."""

    freeze: int | None = Field(None, ge=0)


class Finetune(Strategy):
    grid = RATES

    def check(self, encoder: Encoder, heads: Heads) -> None:
        """
        Raises:
            UserError: the encoder has no stage `freeze`.
        """
        if self.settings.freeze is not None:
            encoder.stages_to(self.settings.freeze, "strategy.freeze")

    def fit(self, problem: Problem) -> Fitted:
        """See `Strategy.fit`.

        Raises:
            UserError: the encoder shrinks these images to a single point, or has no stage `freeze`.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(problem.seed)
            encoder = make_encoder(problem, "finetuning").train()
            if self.settings.freeze is not None:
                encoder.hold(encoder.stages_to(self.settings.freeze, "strategy.freeze"))
            head = linear_layer(problem, encoder.embed_dim, problem.target.outputs)
            learning = [weight for weight in encoder.parameters() if weight.requires_grad]
            train(problem, self.settings, [Group([*learning, *head.parameters()])], supervised(problem, encoder, head))
        return Fitted(LinearHead(head.weight, head.bias), encoder.eval())


STRATEGY = Finetune
register("strategy", "finetune", Settings)
