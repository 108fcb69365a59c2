"""For the strategies that learn from scans without labels: batches of the pool, and what a predictor says of it.

The pool holds the labeled units too, as "unlabeled" data does in the papers; test units are in none of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from medssl.augment import RowGenerator
from medssl.config import View
from medssl.encoders import Encoder
from medssl.errors import UserError
from medssl.transfer.fitted import Fitted
from medssl.transfer.heads import LinearHead
from medssl.transfer.network import Batch, autocast, linear_layer, make_encoder, passes
from medssl.transfer.problem import Heads, Problem, Strategy
from medssl.transfer.recipe import Recipe
from medssl.transfer.registry import strategy
from medssl.transfer.target import TargetKind

Choice = str | dict[str, Any]


class PoolRecipe(Recipe):
    """A recipe whose steps see unlabeled samples as well. The papers train for 10^5 steps and more with hundreds of
    images each; these hundred steps cost about as much as finetuning does, so that a job stays one of seconds.

    Attributes:
        batch: at most this many labeled samples a step.
        epochs: at least this many passes over the labeled samples.
        unlabeled: samples of the pool a step.
    """

    batch: int = Field(16, ge=2)
    epochs: float = Field(2.0, gt=0)
    unlabeled: int = Field(24, ge=2)


class Unlabeled(NamedTuple):
    """Samples of the pool.

    Attributes:
        images: (B, C, *spatial) float in [0, 1], as they are, on the job's device like all else.
        unit: (B,) the number of each one's unit.
        generator: of these rows, which follow the labeled ones in the step's batch.
    """

    images: Tensor
    unit: Tensor
    generator: RowGenerator


class Pool:
    """Batches of the pool's samples in an order of the job's seed, one for each step of `network.train`.

    Args:
        batch: samples at once; all where the pool has fewer.
    """

    def __init__(self, problem: Problem, batch: int) -> None:
        self.problem = problem
        self.samples = np.flatnonzero(np.isin(problem.unit_of, problem.pool))
        self.unit = torch.from_numpy(problem.unit_of[self.samples])
        self.batch = min(batch, len(self.samples))
        # Another seed than the labeled samples have: with all labels both would come in the same order.
        self.order = passes(len(self.samples), self.batch, problem.seed + 1)

    def draw(self, beside: Batch) -> Unlabeled:
        """The next samples, to stand beside these labeled ones."""
        rows = next(self.order)
        device = self.problem.device
        images = torch.from_numpy(np.asarray(self.problem.images[self.samples[rows.numpy()]])).to(device)
        generator = RowGenerator(
            self.problem.seed, beside.step, len(beside.truth) + torch.arange(self.batch, device=device)
        )
        return Unlabeled(images.float() / 255, self.unit[rows].to(device), generator)


class Network(nn.Module):
    """The arm's encoder and a linear head, in training: views (N, C, *spatial) -> logits (N, outputs), float32.

    Raises:
        UserError: the encoder shrinks these images to a single point.
    """

    def __init__(self, problem: Problem, who: str) -> None:
        super().__init__()
        self.encoder = make_encoder(problem, who)
        self.head = linear_layer(problem, self.encoder.embed_dim, problem.target.outputs)
        self.precision = autocast(problem)
        self.train()

    def forward(self, x: Tensor) -> Tensor:
        with self.precision:
            features = self.encoder.embed(x)
        return self.head(features.float())

    def fitted(self) -> Fitted:
        return Fitted(LinearHead(self.head.weight, self.head.bias), self.encoder.eval())


@contextmanager
def seeded(problem: Problem) -> Iterator[None]:
    """Torch's own random numbers (new heads, dropout) by the job's seed; the caller's are as before afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(problem.seed)
        yield


def predict(problem: Problem, fitted: Fitted, units: np.ndarray) -> np.ndarray:
    """Logits (len(units), outputs) of these units."""
    if fitted.encoder is None:
        return fitted.logits(problem.features()[units])
    return fitted.logits(fitted.embed(problem.images, problem.unit_of, units))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities, float32, of logits (N, C)."""
    return torch.from_numpy(logits).softmax(1).numpy()


def chosen(choice: Choice, where: str) -> Strategy:
    """The strategy that a setting names, as an arm does: a name, or `{name: ..., key: value}` with its settings.

    Raises:
        UserError: no such strategy, or an unknown key.
    """
    settings = {"name": choice} if isinstance(choice, str) else dict(choice)
    if "name" not in settings:
        raise UserError("these settings do not say of which strategy they are", where, "Add name: STRATEGY.")
    return strategy(str(settings.pop("name")), settings, where)


class Nested(Strategy):
    """A strategy that has another one fitted, `inner`, which one of its settings names.

    Attributes:
        setting: name of that setting.
    """

    setting: str

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        choice = getattr(settings, self.setting)
        self.inner = chosen(choice, f"strategy.{self.setting}")
        self.inner_name = choice if isinstance(choice, str) else choice["name"]
        self.rooms = self.inner.rooms

    def serve(self, target: TargetKind, name: str, where: str = "strategy") -> None:
        super().serve(target, name, where)
        if self.inner.takes_others:
            what = f"'{self.inner_name}' learns other labels too, which '{name}' has none of"
            raise UserError(what, f"{where}.{self.setting}", "Take another strategy, such as finetune.")
        self.inner.serve(target, self.inner_name, f"{where}.{self.setting}")

    def see(self, view: View) -> None:
        self.inner.see(view)

    def check(self, encoder: Encoder, heads: Heads) -> None:
        self.inner.check(encoder, heads)


def need_classes(problem: Problem, who: str) -> None:
    """Refuse a target that has no probabilities of classes.

    Raises:
        UserError: units do not belong to exactly one of several classes.
    """
    if not problem.target.one_of or problem.truth.ndim != 1:
        raise UserError(
            f"'{who}' needs a target that gives each unit one of several classes, and this one has no such classes",
            "target.kind",
            "Take a target of kind classification, or another strategy such as finetune.",
        )
