"""Head first, then all: the head starts as the linear probe of the encoder as it is, then both are finetuned at a lower
rate (LP-FT; Kumar 2022, "Fine-tuning can distort pretrained features and underperform out-of-distribution",
arXiv:2202.10054). From a random head the first steps would bend the features towards it, away from what pretraining
gave; from the probe's there is little left to bend.

The probe is fitted as `probe` does it, on the labeled samples without augmentation, in features standardised with some
of the pool. The encoder's batch norm is that of training from the first step on; where it has seen nothing yet, as in a
random encoder, it first sees those of the pool, lest that step gives the probe other features than it was fitted on.
"""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from medssl.config import register
from medssl.encoders import Encoder, embed_all
from medssl.encoders.embed import layout
from medssl.encoders.norms import settle_norms, settled
from medssl.transfer.features import pool_scale
from medssl.transfer.fitted import Fitted
from medssl.transfer.heads import LinearHead
from medssl.transfer.network import Group, labeled, make_encoder, supervised, train
from medssl.transfer.problem import Problem, Strategy
from medssl.transfer.recipe import Recipe

LOOKED_AT = 256  # samples of the pool: enough for mean and spread, and quick for large encoders
SETTLED_BY = 32  # of them at once


class Settings(Recipe):
    """
    Attributes:
        learning_rate: lower than that of `finetune`, whose head has to be found first.
        penalty: of the probe's squared weights, per feature dimension.
    """

    learning_rate: float = Field(3e-4, gt=0)
    penalty: float = Field(0.2, gt=0)


class HeadFirst(Strategy):
    grid = ({"learning_rate": 1e-4}, {"learning_rate": 1e-3}, {"learning_rate": 3e-5})

    def fit(self, problem: Problem) -> Fitted:
        """See `Strategy.fit`.

        Raises:
            UserError: the encoder shrinks these images to a single point.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(problem.seed)
            encoder = make_encoder(problem, "finetuning")
            head = probe_head(problem, encoder, self.settings.penalty)
            loss = supervised(problem, encoder.train(), head)
            train(problem, self.settings, [Group([*encoder.parameters(), *head.parameters()])], loss)
        final = head.linear
        return Fitted(LinearHead(final.weight, final.bias, head.mean, head.std), encoder.eval())


class ScaledLinear(nn.Module):
    """A trained linear layer on features that are standardised by mean and std (D,), which stay."""

    mean: Tensor
    std: Tensor

    def __init__(self, weight: np.ndarray, bias: np.ndarray, mean: np.ndarray, std: np.ndarray) -> None:
        super().__init__()
        self.linear = nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            self.linear.weight.copy_(torch.as_tensor(weight))
            self.linear.bias.copy_(torch.as_tensor(bias))
        self.register_buffer("mean", torch.as_tensor(mean).float())
        self.register_buffer("std", torch.as_tensor(std).float())

    def forward(self, x: Tensor) -> Tensor:
        return self.linear((x - self.mean) / self.std)


def probe_head(problem: Problem, encoder: Encoder, penalty: float) -> ScaledLinear:
    """The linear probe on what the encoder gives for the labeled samples; the encoder is left as it is, but for batch
    norms that have seen nothing."""
    images, truth = labeled(problem)
    pool = np.flatnonzero(np.isin(problem.unit_of, problem.pool))
    chosen = np.random.default_rng(problem.seed).permutation(pool)[:LOOKED_AT]
    some = problem.images[np.sort(chosen)]
    if not settled(encoder):
        batches = torch.from_numpy(some).split(SETTLED_BY)
        form = layout(encoder.spatial_dims)
        settle_norms(encoder, ((x.to(problem.device).float() / 255).contiguous(memory_format=form) for x in batches))
    looked_at = embed_all(encoder, some)
    mean, std = pool_scale(looked_at, np.arange(len(looked_at)))
    features = (embed_all(encoder, images.cpu().numpy()) - mean) / std
    weight, bias = problem.target.fit_linear(features, truth.cpu().numpy(), penalty * features.shape[1])
    return ScaledLinear(weight, bias, mean, std).to(problem.device)


STRATEGY = HeadFirst
register("strategy", "head_first", Settings)
