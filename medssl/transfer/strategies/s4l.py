"""S4L (Zhai 2019, arXiv:1905.03670): the labels' loss and a self-supervised loss at once, of one encoder: rotation
(Gidaris 2018) or exemplar (Dosovitskiy 2014), the very tasks that `medssl.pretext` has.

- The self-supervised loss is taken on the pool, which holds the labeled scans too.
- The labels' loss is of upright views alone. The paper also takes it on all rotated ones, but a scan has an up.
- Scaled down (see `PoolRecipe`): one rotation of each image in place of four, two views in place of eight.
- In exemplar other units count as other patients, since a strategy does not know the patients.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from medssl.config import View, register, settings_for
from medssl.pretext import Batch as Puzzle
from medssl.pretext import task_class
from medssl.transfer.fitted import Fitted
from medssl.transfer.network import RATES, Batch, Group, autocast, train
from medssl.transfer.problem import Problem, Strategy
from medssl.transfer.unlabeled import Network, Pool, PoolRecipe, Unlabeled, seeded

SCALED: dict[str, dict[str, Any]] = {"rotation": {}, "exemplar": {"copies": 2}}


class Settings(PoolRecipe):
    """
    Attributes:
        task: the self-supervised one.
        settings: of the task, as for pretraining.
        weight: of the self-supervised loss; the paper's.
    """

    task: Literal["rotation", "exemplar"] = "rotation"
    settings: dict[str, Any] = Field(default={})
    weight: float = Field(1.0, ge=0)


class S4L(Strategy):
    beside = ("other", "jointly")
    rooms = ("pretext",)
    grid = RATES

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.task = task_class(settings.task)
        raw = SCALED[settings.task] | settings.settings
        self.task_settings = settings_for("task", settings.task, raw, "s4l.settings")

    def see(self, view: View) -> None:
        """See `Strategy.see`; the task's own needs."""
        self.task.check(view)

    def images_a_step(self, labeled: int) -> float:
        return labeled + self.settings.unlabeled * getattr(self.task_settings, "copies", 1)

    def fit(self, problem: Problem) -> Fitted:
        """See `Strategy.fit`.

        Raises:
            UserError: the task cannot work on such images, or the encoder shrinks them to a single point.
        """
        channels, *sides = problem.images.shape[1:]
        seen = View(size=sides[-1], spatial_dims=2 if len(sides) == 2 else 3, channels=channels)
        with seeded(problem):
            network = Network(problem, "s4l")
            task = self.task(network.encoder, self.task_settings, seen, problem.modality)
            pool = Pool(problem, self.settings.unlabeled)
            task.meet(torch.arange(len(pool.unit)), pool.unit)
            task.to(problem.device)

            def loss(batch: Batch) -> Tensor:
                unlabeled = pool.draw(batch)
                with autocast(problem):
                    itself, _ = task(puzzle(unlabeled), unlabeled.generator)
                supervised = problem.target.loss(network(batch.images), batch.truth)
                return supervised + self.settings.weight * itself.float()

            train(problem, self.settings, [Group([*task.parameters(), *network.head.parameters()])], loss)
        return network.fitted()


def puzzle(unlabeled: Unlabeled) -> Puzzle:
    """Samples of the pool as a pretext task takes them; each unit counts as a scan, an exam and a patient."""
    images, unit, generator = unlabeled
    nowhere = torch.full((len(unit),), torch.nan, device=unit.device)
    return Puzzle(images, unit, unit, unit, unit, position=nowhere, rows=generator.rows)


STRATEGY = S4L
register("strategy", "s4l", Settings)
