"""Finetuning: encoder and a linear head are trained together on the labeled units.

The recipe is fixed beforehand and the same for every initialisation, random included: a weak baseline from scratch is
this field's commonest fault (Oliver 2018). The steps follow the number of labeled samples by a rule, so that all labels
get enough of them and a handful is not gone over for ever. The last weights predict; nothing is selected.
"""

from __future__ import annotations

import math

import numpy as np
from pydantic import Field

from medssl.config import Strict, register
from medssl.transfer.problem import Problem


class Settings(Strict):
    """Recipe of finetuning.

    Attributes:
        learning_rate: peak of AdamW (Loshchilov 2019), for encoder and head; warm-up over a tenth, then cosine.
        weight_decay: of AdamW.
        batch: at most this many samples a step (fewer where fewer are labeled).
        min_steps: at least this many steps,
        epochs: and at least this many passes over the labeled samples.
        crop: smallest share of the area that a view keeps; the other changes are the modality's preset.
    """

    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    batch: int = Field(32, ge=2)
    min_steps: int = Field(100, ge=1)
    epochs: float = Field(6.0, gt=0)
    crop: float = Field(0.6, gt=0, le=1)


class Finetune:
    frozen = False

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def predict(self, problem: Problem) -> np.ndarray:
        """See `Strategy.predict`.

        Raises:
            UserError: the encoder shrinks these images to a single point.
        """
        import torch

        samples = np.flatnonzero(np.isin(problem.unit_of, problem.train))
        truth_of = dict(zip(problem.train.tolist(), problem.truth.tolist(), strict=True))
        truth = torch.tensor([truth_of[u] for u in problem.unit_of[samples].tolist()])
        images = torch.from_numpy(np.array(problem.images[samples]))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(problem.seed)
            encoder = problem.encoder(problem.seed)
            encoder.check_field("an image", images.shape[-1], images.shape[-1], "finetuning")
            head = torch.nn.Linear(encoder.embed_dim, problem.target.outputs)
            train(encoder, head, images, truth, problem, self.settings)
        return predict(encoder, head, problem)


def train(encoder, head, images, truth, problem: Problem, settings: Settings) -> None:
    """Train in place.

    Args:
        encoder: gives (N, D) through `embed`.
        head: (N, D) -> (N, outputs).
        images: (N, C, H, W) uint8 of the labeled units; `truth` (N,).
        problem: for target, modality and seed.
        settings: the recipe.
    """
    import torch

    from medssl.augment import RowGenerator, make_view, preset, preset_for

    views = preset(preset_for(problem.modality, images.shape[1])).views
    views = views.model_copy(update={"crop": (settings.crop, 1.0)})
    parameters = [*encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, settings.learning_rate, weight_decay=settings.weight_decay, fused=True)
    batch = min(settings.batch, len(images))
    steps = max(settings.min_steps, math.ceil(settings.epochs * len(images) / batch))
    order = torch.Generator().manual_seed(problem.seed)
    encoder.train().to(memory_format=torch.channels_last)
    queue = torch.empty(0, dtype=torch.long)
    for step in range(steps):
        if len(queue) < batch:
            queue = torch.cat([queue, torch.randperm(len(images), generator=order)])
        rows, queue = queue[:batch], queue[batch:]
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * schedule(step, steps)
        x = make_view(images[rows].float() / 255, views, RowGenerator(problem.seed, step, torch.arange(batch)))
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=problem.precision == "bf16"):
            features = encoder.embed(x)
        loss = problem.target.loss(head(features.float()), truth[rows])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()


def schedule(step: int, steps: int) -> float:
    """Share of the peak rate: linear warm-up over a tenth of the steps, then a half cosine to zero."""
    warm = max(1, steps // 10)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def predict(encoder, head, problem: Problem) -> np.ndarray:
    """Logits (M, outputs) of the test units: the mean over the samples of each."""
    import torch

    from medssl.encoders import embed_all
    from medssl.transfer.features import unit_means

    number = np.full(int(problem.unit_of.max()) + 2, -1)  # the last place is for samples of no unit (-1)
    number[problem.test] = np.arange(len(problem.test))
    mine = number[problem.unit_of]
    samples = np.flatnonzero(mine >= 0)
    features = embed_all(encoder, problem.images[samples])
    with torch.inference_mode():
        logits = head.eval()(torch.from_numpy(features)).numpy()
    return unit_means(logits, mine[samples], len(problem.test))


STRATEGY = Finetune
register("strategy", "finetune", Settings)
