"""Distillation on the unlabeled scans (SimCLRv2, Chen 2020, arXiv:2006.10029): a teacher, fitted on the few labels,
gives every scan of the pool its probabilities, and a student learns to give the same.

The student has the arm's own encoder and starts from it (self-distillation), or is another one that starts from random
weights (big-to-small). The teacher is any strategy, finetuning as in the paper or a frozen one, and never changes.

Scaled down: a hundred steps of 32 images (the paper: 400 epochs). The teacher looks once at each whole scan and not at
the student's crop, so that its part costs one pass over the pool.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from medssl.config import register
from medssl.encoders import Encoder, create_encoder
from medssl.transfer.fitted import Fitted
from medssl.transfer.network import RATES, Batch, Group, train, views_of
from medssl.transfer.problem import Heads, Problem
from medssl.transfer.unlabeled import Choice, Nested, Network, Pool, PoolRecipe, need_classes, predict, seeded


class Settings(PoolRecipe):
    """
    Attributes:
        teacher: a strategy by name, or `{name: ..., key: value}` with its settings.
        student: name of the student's encoder for `create_encoder`; None for the arm's own, as the arm initialises it.
        temperature: that logits of teacher and student are divided by; below 1 the teacher's word is sharper.
        labeled: share of the labels' own loss (equation 3); 0: the labels speak through the teacher alone (equation 2).
        unlabeled: samples of the pool a step.
    """

    teacher: Choice = "finetune"
    student: str | None = None
    temperature: float = Field(1.0, gt=0)
    labeled: float = Field(0.0, ge=0, lt=1)
    unlabeled: int = Field(32, ge=2)


class Distill(Nested):
    grid = RATES
    beside = ("same", "in sequence")
    of_classes = True
    setting = "teacher"

    def check(self, encoder: Encoder, heads: Heads) -> None:
        """See `Strategy.check`; the student's encoder is made once as well."""
        super().check(encoder, heads)
        if self.settings.student is not None:
            create_encoder(self.settings.student, encoder.spatial_dims, encoder.in_channels)

    def images(self, labeled: int, pool: int) -> float:
        """See `Strategy.images`; the teacher, and its pass over the pool, come before."""
        taught = 0 if self.inner.frozen else self.inner.images(labeled, pool)
        return taught + pool / 3 + super().images(labeled, pool)

    def images_a_step(self, labeled: int) -> float:
        return self.settings.unlabeled + (labeled if self.settings.labeled else 0)

    def fit(self, problem: Problem) -> Fitted:
        """See `Strategy.fit`.

        Raises:
            UserError: the target has no classes, there is no such encoder, or it shrinks these images to a single
                point; whatever the teacher raises.
        """
        need_classes(problem, "distill")
        settings, share = self.settings, self.settings.labeled
        wanted = self.taught(problem)
        with seeded(problem):
            student = Network(self.for_student(problem), "distill")
            pool, views = Pool(problem, settings.unlabeled), views_of(problem, settings)

            def loss(batch: Batch) -> Tensor:
                unlabeled = pool.draw(batch)
                seen = batch.view(unlabeled.images, views, unlabeled.generator)
                if not share:
                    return imitation(student(seen), wanted[unlabeled.unit], settings.temperature)
                labeled, said = student(torch.cat([batch.images, seen])).tensor_split([len(batch.truth)])
                same = imitation(said, wanted[unlabeled.unit], settings.temperature)
                return (1 - share) * same + share * problem.target.loss(labeled, batch.truth)

            train(problem, settings, [Group(list(student.parameters()))], loss)
        return student.fitted()

    def taught(self, problem: Problem) -> Tensor:
        """(units, C) the teacher's probabilities at the temperature; NaN where a unit is not of the pool."""
        if self.inner.frozen:
            problem = embedded(problem)
        logits = predict(problem, self.inner.fit(problem), problem.pool)
        wanted = torch.full((int(problem.pool.max()) + 1, logits.shape[1]), torch.nan)
        wanted[problem.pool] = (torch.from_numpy(logits) / self.settings.temperature).softmax(1)
        return wanted.to(problem.device)

    def for_student(self, problem: Problem) -> Problem:
        """The problem with the student's encoder as the arm's."""
        name, dims, channels = self.settings.student, problem.images.ndim - 2, problem.images.shape[1]
        if name is None:
            return problem
        return replace(problem, encoder=lambda seed: create_encoder(name, dims, channels, seed=seed))


def imitation(logits: Tensor, wanted: Tensor, temperature: float) -> Tensor:
    """Mean cross entropy of the student's logits (N, C) with the teacher's probabilities (N, C), at one temperature
    (equation 2)."""
    return -(wanted * (logits / temperature).log_softmax(1)).sum(1).mean()


def embedded(problem: Problem) -> Problem:
    """The problem with the pool's embeddings by the arm's encoder as it is, which jobs that train are not handed; other
    units have NaN."""
    encoder = problem.encoder(problem.seed).to(problem.device)
    found = np.full((int(problem.pool.max()) + 1, encoder.embed_dim), np.nan, np.float32)
    found[problem.pool] = Fitted(nn.Identity(), encoder).embed(problem.images, problem.unit_of, problem.pool)
    return replace(problem, features=lambda: found)


STRATEGY = Distill
register("strategy", "distill", Settings)
