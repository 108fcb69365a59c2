"""Joint training on two kinds of labels (multi-task learning; Caruana 1997): one encoder, in each step labeled samples
of the experiment's own target and others, of another cohort or another target, and the weighted sum of both losses.

Where the others' labels mean the same classes there is one head: two cohorts are merged. Else each has a head of its
own, and the other one is left behind at the end. Both kinds go through the network as one batch, so that batch norm
sees in training the mixture whose statistics it keeps.

The own labels, few as they are, have a fixed share of each step; poured together they would drown. Steps follow their
number by the rule of all strategies.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from medssl.augment import RowGenerator
from medssl.config import register
from medssl.errors import UserError
from medssl.transfer.fitted import Fitted
from medssl.transfer.network import RATES, Batch, Group, autocast, linear_layer, passes, train, views_of
from medssl.transfer.problem import OtherLabels, Problem, Strategy
from medssl.transfer.recipe import Recipe
from medssl.transfer.unlabeled import Network, seeded


class Settings(Recipe):
    """
    Attributes:
        batch: at most this many own samples a step.
        others: at most this many others a step.
        weight: of the others' loss; the own one has 1.
    """

    batch: int = Field(16, ge=2)
    others: int = Field(24, ge=2)
    weight: float = Field(1.0, gt=0)


class Joint(Strategy):
    grid = RATES
    takes_others = True

    def images_a_step(self, labeled: int) -> float:
        return labeled + self.settings.others

    def fit(self, problem: Problem) -> Fitted:
        """See `Strategy.fit`.

        Raises:
            UserError: there are no other labels, or the encoder shrinks these images to a single point.
        """
        others, settings = problem.others, self.settings
        if others is None:
            fix = "Name an entry under others (jointly: NAME)."
            raise UserError("'joint' learns from other labels too, and the arm names none", "strategy", fix)
        views = views_of(replace(problem, modality=others.modality), settings)
        target = others.target or problem.target.weighed(others.truth)
        with seeded(problem):
            network = Network(problem, "joint")
            second = network.head
            if others.target is not None:
                second = linear_layer(problem, second.in_features, target.outputs)
            stream = Stream(others, settings.others, problem.seed + 1, problem.device)

            def loss(batch: Batch) -> Tensor:
                images, truth = stream.draw()
                places = len(batch.truth) + torch.arange(len(truth), device=truth.device)
                seen = batch.view(images, views, RowGenerator(problem.seed, batch.step, places))
                with autocast(problem):
                    features = network.encoder.embed(torch.cat([batch.images, seen]))
                mine, theirs = features.float().tensor_split([len(batch.truth)])
                own = problem.target.loss(network.head(mine), batch.truth)
                return own + settings.weight * target.loss(second(theirs), truth)

            heads = dict.fromkeys([*network.head.parameters(), *second.parameters()])  # once, where they are one
            train(problem, settings, [Group([*network.encoder.parameters(), *heads])], loss)
        return network.fitted()


class Stream:
    """Batches of other labeled samples, in an order of `seed`, without end; all at once where there are fewer."""

    def __init__(self, others: OtherLabels, batch: int, seed: int, device: str) -> None:
        self.others, self.truth, self.device = others, torch.as_tensor(others.truth), device
        self.order = passes(len(others.samples), min(batch, len(others.samples)), seed)

    def draw(self) -> tuple[Tensor, Tensor]:
        """images (B, C, *spatial) float in [0, 1] and encoded truth (B,) or (B, L)."""
        rows = next(self.order)
        images = np.asarray(self.others.images[self.others.samples[rows.numpy()]])
        return torch.from_numpy(images).to(self.device).float() / 255, self.truth[rows].to(self.device)


STRATEGY = Joint
register("strategy", "joint", Settings)
