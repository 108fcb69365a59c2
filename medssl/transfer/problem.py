"""What a strategy is given, and what targets and strategies must offer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from medssl.config import View
from medssl.errors import UserError
from medssl.transfer.recipe import Recipe, steps_for
from medssl.transfer.target import TargetKind

if TYPE_CHECKING:  # torch takes seconds to import
    from medssl.encoders import Encoder
    from medssl.transfer.fitted import Fitted


Heads = dict[str, dict[str, Any]]
Grid = tuple[dict[str, Any], ...]
SameOrOther = Literal["same", "other"]
Order = Literal["in sequence", "jointly"]


class Strategy(ABC):
    """How encoder and labels become a predictor.

    Attributes:
        frozen: it reads `Problem.features` and never builds an encoder.
        grid: recipes worth trying beside an arm's own where an experiment tunes: settings that are changed, the most
            promising first.
        beside: what it learns from the cohort's scans beside their labels: (the same task as the labels' or another,
            before them or jointly). Guesses of the labels are the same task. None: it learns from labels alone.
        takes_others: it learns from `Problem.others`, and cannot do without.
        of_classes: it needs a target that gives each unit exactly one of several classes.
        by_loss: it learns by the target's loss, so that what this does about rare classes reaches it.
        rooms: further folders of medssl whose code decides what it fits, so that a change there makes new jobs.
    """

    frozen: bool = False
    grid: Grid = ()
    beside: tuple[SameOrOther, Order] | None = None
    takes_others: bool = False
    of_classes: bool = False
    by_loss: bool = True
    rooms: tuple[str, ...] = ()

    def __init__(self, settings: Any) -> None:
        """`settings` are those that the strategy's file registers."""
        self.settings = settings

    @abstractmethod
    def fit(self, problem: Problem) -> Fitted:
        """Fit on the labeled units; unlabeled ones of the pool may be looked at, test units may not."""

    def serve(self, target: TargetKind, name: str, where: str = "strategy") -> None:
        """Called before anything runs.

        Args:
            name: of the strategy; `where`: its place in the config.

        Raises:
            UserError: it cannot learn such a target.
        """
        if self.of_classes and not target.one_of:
            raise UserError(
                f"'{name}' gives each unit one of several classes, which a target of kind {target.family} does not",
                where,
                "Take another strategy, such as probe or finetune, or a target of kind classification.",
            )
        if not self.by_loss and target.imbalance != "none":
            raise UserError(
                f"'{name}' learns without the loss, so that imbalance: {target.imbalance} would not reach it",
                where,
                "Take another strategy, such as probe or finetune, or imbalance: none.",
            )

    def images(self, labeled: int, pool: int) -> float:
        """How many images a fit sends forwards and backwards, for an estimate beforehand; one that only goes forwards
        counts a third.

        Args:
            labeled, pool: images of the labeled units, and of all units of the pool.
        """
        recipe = self.settings if isinstance(self.settings, Recipe) else Recipe()
        return steps_for(recipe, labeled) * self.images_a_step(min(recipe.batch, labeled))

    def images_a_step(self, labeled: int) -> float:
        """The same of one step, which sees so many labeled images."""
        return labeled

    def see(self, view: View) -> None:
        """Called before any job, where it is not frozen, with the view of the arm.

        Raises:
            UserError: it cannot learn from scans that are drawn so.
        """
        return None

    def check(self, encoder: Encoder, heads: Heads) -> None:
        """Called before any job, where it is not frozen, with the arm's encoder and its checkpoint's heads.

        Raises:
            UserError: they lack what the strategy needs.
        """
        return None


@dataclass(frozen=True)
class OtherLabels:
    """Further labels of the job's arm, of another cohort or another target.

    Attributes:
        target: what they say; None: the same as the problem's, in its classes.
        images: (N, C, *spatial) uint8, as the problem's are.
        samples: (M,) which of them are labeled; `truth` (M,) or (M, L) their encoded labels.
        modality: of the scans, for augmentation.
    """

    target: TargetKind | None
    images: np.ndarray
    samples: np.ndarray
    truth: np.ndarray
    modality: str


@dataclass(frozen=True)
class Problem:
    """One job: what a strategy learns from.

    Attributes:
        target: the target, with what these labels told of it (`TargetKind.taught`).
        train: (n,) numbers of the labeled units; `truth` (n,) or (n, L) their encoded labels.
        pool: (P,) numbers of all units of the pool, labels unknown.
        unit_of: (N,) number of the unit that each sample (image or slice) belongs to, -1 for none.
        images: (N, C, H, W) uint8.
        features: returns (units, D), the mean embedding of each unit's samples.
        encoder: makes a fresh encoder as the arm initialises it; takes the seed of random parts.
        heads: returns the state dict of every head of the checkpoint that the encoder comes from, by name.
        modality: of the scans, for augmentation.
        seed: of everything random in this job.
        precision: `32` or `bf16`, of the training steps.
        others: further labels, where the arm names some.
        device: where networks are trained, as torch names it.
    """

    target: TargetKind
    train: np.ndarray
    truth: np.ndarray
    pool: np.ndarray
    unit_of: np.ndarray
    images: np.ndarray
    features: Callable[[], np.ndarray]
    encoder: Callable[[int], Any]
    modality: str
    seed: int
    precision: str = "32"
    heads: Callable[[], Heads] = dict
    others: OtherLabels | None = None
    device: str = "cpu"
