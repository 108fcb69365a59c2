"""Gradual unfreezing: the head learns first, then one stage after another is let go, from the last to the first
(ULMFiT; Howard and Ruder 2018, "Universal language model fine-tuning for text classification", arXiv:1801.06146).

Discriminative rates: each earlier stage learns `decay` times slower than the next one. The rate of all rises quickly
and falls slowly (slanted triangular schedule). What has not been let go yet keeps its batch norm's statistics too.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from medssl.config import register
from medssl.transfer.fitted import Fitted
from medssl.transfer.heads import LinearHead
from medssl.transfer.network import RATES, Batch, Group, linear_layer, make_encoder, supervised, train
from medssl.transfer.problem import Problem, Strategy
from medssl.transfer.recipe import Recipe

RISE, RATIO = 0.1, 32  # share of the steps in which the rate rises, and how far below the peak it starts and ends


class Settings(Recipe):
    """
    Attributes:
        decay: rate of a stage over that of the one before it; of the head over the last stage's.
        unfrozen: share of the steps after which all stages are trained. They are let go evenly until then.
    """

    decay: float = Field(2.6, ge=1)
    unfrozen: float = Field(0.5, gt=0, le=1)


class Gradual(Strategy):
    grid = RATES

    def fit(self, problem: Problem) -> Fitted:
        """See `Strategy.fit`.

        Raises:
            UserError: the encoder shrinks these images to a single point.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(problem.seed)
            encoder = make_encoder(problem, "finetuning").train()
            head = linear_layer(problem, encoder.embed_dim, problem.target.outputs)
            stages, weights = encoder.in_stages(), dict(encoder.named_parameters())
            groups = [Group(list(head.parameters()))]
            for below, stage in enumerate(reversed(stages), start=1):
                own = [weights[name] for name in stage.tensors if name in weights]
                groups.append(Group(own, self.settings.decay**-below))
            loss = supervised(problem, encoder, head)
            encoder.hold(stages)

            def let_go(batch: Batch) -> Tensor:
                free = stages_free(batch.step, batch.steps, len(stages), self.settings.unfrozen)
                encoder.hold(stages[len(stages) - free :], still=False)
                return loss(batch)

            train(problem, self.settings, groups, let_go, rate=slanted)
        return Fitted(LinearHead(head.weight, head.bias), encoder.eval())


def stages_free(step: int, steps: int, stages: int, unfrozen: float) -> int:
    """How many of the last stages learn in this step: 0 at first, all from `unfrozen * steps` on."""
    return min(stages, int((stages + 1) * step / max(1.0, unfrozen * steps)))


def slanted(step: int, steps: int) -> float:
    """Share of the peak rate (their equation 3): up in a straight line over a tenth of the steps, then down."""
    cut = max(1, int(steps * RISE))
    share = step / cut if step < cut else 1 - (step - cut) / max(1, steps - cut)
    return (1 + share * (RATIO - 1)) / RATIO


STRATEGY = Gradual
register("strategy", "gradual", Settings)
