"""The loop that trains a network on few labels, for all strategies that have one. A strategy brings its loss.

The recipe is fixed beforehand and the same for every initialisation, random included: a weak baseline from scratch is
this field's commonest fault (Oliver 2018). The last fifth of the steps sees whole images, as the network is used on
them (`view`). The steps follow the number of labeled samples by a rule, so that all labels get enough of them and a
handful is not gone over for ever. The last weights predict; nothing is selected.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from medssl.augment import RowGenerator, Views, make_view, preset, preset_for
from medssl.encoders import Encoder
from medssl.encoders.embed import layout
from medssl.transfer.problem import Grid, Problem
from medssl.transfer.recipe import Recipe, steps_for

WHOLE = 0.2  # share of the steps, the last ones, that see whole images

# What to try beside the recipe: in so short a training the learning rate decides most.
RATES: Grid = ({"learning_rate": 3e-4}, {"learning_rate": 3e-3}, {"learning_rate": 1e-4})


class Labeled(NamedTuple):
    """images (n, C, *spatial) uint8 of the labeled units, and the truth of each, (n,) or (n, L)."""

    images: Tensor
    truth: Tensor


@dataclass(frozen=True)
class Batch:
    """What a loss is computed from.

    Attributes:
        images: (B, C, *spatial) views of labeled samples, in [0, 1]; at the end whole ones (`view`).
        truth: (B,) or (B, L) their encoded labels.
        step, steps: number of this step, and of all.
        generator: of the rows; `beside()` gives further draws.
    """

    images: Tensor
    truth: Tensor
    step: int
    steps: int
    generator: RowGenerator

    def view(self, images: Tensor, views: Views, generator: RowGenerator) -> Tensor:
        """Views of further images (N, C, *spatial), of this step: see `view`."""
        return view(images, views, generator, self.step, self.steps)


class Group(NamedTuple):
    """Weights that share a learning rate: `scale` times the recipe's."""

    parameters: list[nn.Parameter]
    scale: float = 1.0


def labeled(problem: Problem) -> Labeled:
    """The samples of the labeled units, on the job's device."""
    samples = np.flatnonzero(np.isin(problem.unit_of, problem.train))
    truth_of = dict(zip(problem.train.tolist(), problem.truth.tolist(), strict=True))
    truth = torch.tensor([truth_of[unit] for unit in problem.unit_of[samples].tolist()])
    images = torch.from_numpy(np.array(problem.images[samples]))
    return Labeled(images.to(problem.device), truth.to(problem.device))


def make_encoder(problem: Problem, who: str) -> Encoder:
    """The arm's encoder as it is initialised, on the job's device, ready to be trained.

    Raises:
        UserError: it shrinks these images to a single point.
    """
    encoder = problem.encoder(problem.seed)
    side = problem.images.shape[-1]
    encoder.check_field("an image", side, side, who)
    return encoder.to(problem.device, memory_format=layout(encoder.spatial_dims))


def linear_layer(problem: Problem, inputs: int, outputs: int) -> nn.Linear:
    """A new layer on the job's device. Its weights are drawn on the CPU, so that they are the same on every device."""
    return nn.Linear(inputs, outputs).to(problem.device)


def views_of(problem: Problem, recipe: Recipe) -> Views:
    """What a view of this modality may change."""
    chosen = preset(preset_for(problem.modality, colour=problem.images.shape[1] == 3)).views
    return chosen.model_copy(update={"crop": (recipe.crop, 1.0)})


def view(images: Tensor, views: Views, generator: RowGenerator, step: int, steps: int) -> Tensor:
    """A view of each image, and in the last fifth of the steps the image itself, in the layout that convolutions are
    quick in.

    A crop enlarges what it shows, so that a network that has learned from crops alone finds everything too small in
    whole images (Touvron 2019, "Fixing the train-test resolution discrepancy", arXiv:1906.06423). The order of the
    scores hardly suffers, but their threshold does (docs/decisions.md).
    """
    if step < (1 - WHOLE) * steps:
        images = make_view(images, views, generator)
    return images.contiguous(memory_format=layout(images.ndim - 2))


def autocast(problem: Problem) -> torch.autocast:
    """The precision of the forward pass."""
    return torch.autocast(torch.device(problem.device).type, torch.bfloat16, enabled=problem.precision == "bf16")


def supervised(problem: Problem, encoder: Encoder, head: nn.Module) -> Callable[[Batch], Tensor]:
    """The target's loss on the labeled views; the head, (B, embed_dim) -> (B, outputs), computes in 32 bits."""

    def loss(batch: Batch) -> Tensor:
        with autocast(problem):
            features = encoder.embed(batch.images)
        return problem.target.loss(head(features.float()), batch.truth)

    return loss


def train(
    problem: Problem,
    recipe: Recipe,
    groups: Iterable[Group],
    loss: Callable[[Batch], Tensor],
    *,
    views: Views | None = None,
    rate: Callable[[int, int], float] | None = None,
    after_step: Callable[[Batch], None] = lambda batch: None,
) -> None:
    """Train in place.

    Args:
        groups: all weights that are trained at any time.
        loss: of a batch; also where a strategy freezes or unfreezes, by `batch.step`.
        views: of the labeled samples; default `views_of`.
        rate: (step, steps) -> share of the learning rate; default `schedule`.
        after_step: for averages of weights.
    """
    images, truth = labeled(problem)
    groups, views = list(groups), views or views_of(problem, recipe)
    everything = [parameter for group in groups for parameter in group.parameters]
    optimizer = torch.optim.AdamW(
        [{"params": group.parameters} for group in groups],
        recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        fused=True,
    )
    batch = min(recipe.batch, len(images))
    steps = steps_for(recipe, len(images))
    order = passes(len(images), batch, problem.seed)
    for step in range(steps):
        rows = next(order)
        share = (rate or schedule)(step, steps)
        for held, group in zip(optimizer.param_groups, groups, strict=True):
            held["lr"] = recipe.learning_rate * group.scale * share
        generator = RowGenerator(problem.seed, step, torch.arange(batch, device=images.device))
        x = view(images[rows].float() / 255, views, generator, step, steps)
        now = Batch(x, truth[rows], step, steps, generator)
        value = loss(now)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        torch.nn.utils.clip_grad_norm_(everything, 1.0)
        optimizer.step()
        after_step(now)


def passes(count: int, batch: int, seed: int) -> Iterator[Tensor]:
    """Rows (batch,) of one random order of all `count` after another, without end; `batch` is at most `count`."""
    order = torch.Generator().manual_seed(seed)
    queue = torch.empty(0, dtype=torch.long)
    while True:
        if len(queue) < batch:
            queue = torch.cat([queue, torch.randperm(count, generator=order)])
        yield queue[:batch]
        queue = queue[batch:]


def schedule(step: int, steps: int) -> float:
    """Share of the peak rate: linear warm-up over a tenth of the steps, then a half cosine to zero."""
    warm = max(1, steps // 10)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
