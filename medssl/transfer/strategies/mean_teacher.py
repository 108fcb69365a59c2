"""Mean Teacher (Tarvainen & Valpola 2017, arXiv:1703.01780): the student should say of one view of an unlabeled scan
what a teacher says of another; the teacher is the moving average of the student's weights, and it is what predicts.

Scaled down to a hundred steps (see `PoolRecipe`): the average reaches over the last twenty steps, where the paper's
reaches over the last thousand of 150,000. As the rate goes to zero, student and teacher end close to each other. In the
last fifth of the steps both see the whole image (`network.view`), and differ by their weights alone.
"""

from __future__ import annotations

import copy
import math

import torch
from pydantic import Field
from torch import Tensor, nn

from medssl.config import register
from medssl.transfer.fitted import Fitted
from medssl.transfer.network import RATES, Batch, Group, train, views_of
from medssl.transfer.problem import Problem, Strategy
from medssl.transfer.unlabeled import Network, Pool, PoolRecipe, need_classes, seeded

RAMP = 0.3  # of the steps, until the teacher counts fully: 40,000 of the paper's 150,000


class Settings(PoolRecipe):
    """
    Attributes:
        decay: of the average; less in the first steps, so that the initial weights are soon forgotten.
        weight: of the squared distance between the two distributions, summed over the classes. The paper's 100, of the
            mean over ten classes, would be 10; in so few steps that drowns the labels (seen on synthetic textures).
    """

    decay: float = Field(0.95, ge=0, lt=1)
    weight: float = Field(1.0, ge=0)


class MeanTeacher(Strategy):
    grid = RATES
    beside = ("same", "jointly")
    of_classes = True

    def images_a_step(self, labeled: int) -> float:
        return labeled + self.settings.unlabeled * 4 / 3  # the other view goes forwards alone

    def fit(self, problem: Problem) -> Fitted:
        """See `Strategy.fit`.

        Raises:
            UserError: the target has no classes, or the encoder shrinks these images to a single point.
        """
        need_classes(problem, "mean_teacher")
        settings = self.settings
        with seeded(problem):
            student = Network(problem, "mean_teacher")
            teacher = copy.deepcopy(student).requires_grad_(False)
            pool, views = Pool(problem, settings.unlabeled), views_of(problem, settings)

            def loss(batch: Batch) -> Tensor:
                unlabeled = pool.draw(batch)
                theirs = batch.view(unlabeled.images, views, unlabeled.generator.beside())
                mine = batch.view(unlabeled.images, views, unlabeled.generator)
                with torch.no_grad():
                    wanted = teacher(theirs).softmax(1)
                labeled, said = student(torch.cat([batch.images, mine])).tensor_split([len(batch.truth)])
                apart = (said.softmax(1) - wanted).square().sum(1).mean()
                weight = settings.weight * ramp(batch.step, batch.steps)
                return problem.target.loss(labeled, batch.truth) + weight * apart

            def after_step(batch: Batch) -> None:
                follow(teacher, student, momentum(batch.step, settings.decay))

            train(problem, settings, [Group(list(student.parameters()))], loss, after_step=after_step)
        return teacher.fitted()


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Move the teacher's weights by 1 - momentum of the way to the student's. Its batch normalisation keeps the means
    that it has seen itself: the student's are of other weights."""
    theirs = [parameter.detach() for parameter in student.parameters()]
    torch._foreach_lerp_(list(teacher.parameters()), theirs, 1 - momentum)


def momentum(step: int, decay: float) -> float:
    """Share of its weights that the teacher keeps after this step: a plain mean at first, as in the paper's code."""
    return min(1 - 1 / (step + 2), decay)


def ramp(step: int, steps: int) -> float:
    """exp(-5 (1 - t)^2), t from 0 to 1 over the first part of the steps, then 1."""
    return math.exp(-5 * (1 - min(1.0, step / max(1.0, RAMP * steps))) ** 2)


STRATEGY = MeanTeacher
register("strategy", "mean_teacher", Settings)
