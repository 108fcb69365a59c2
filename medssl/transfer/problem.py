"""What a strategy is given, and what targets and strategies must offer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import pandas as pd

if TYPE_CHECKING:  # torch takes seconds to import
    from medssl.encoders import Encoder
    from medssl.transfer.fitted import Fitted


Heads = dict[str, dict[str, Any]]
Grid = tuple[dict[str, Any], ...]
SameOrOther = Literal["same", "other"]
Order = Literal["in sequence", "jointly"]


class TargetKind(Protocol):
    """What is predicted: encoding of labels, loss, linear model, evidence rows, metrics."""

    classes: list[str]
    outputs: int
    metrics: tuple[str, ...]

    def encode(self, labels: list[str]) -> np.ndarray:
        """Labels as text -> numbers (N,)."""

    def loss(self, logits: Any, truth: Any) -> Any:
        """Loss of a batch, from logits (N, outputs) and encoded truth (N,), both torch tensors."""

    def fit_linear(self, features: np.ndarray, truth: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
        """Fit a linear model of features (M, D): weights (outputs, D) and bias (outputs,)."""

    def scores(self, logits: np.ndarray) -> np.ndarray:
        """What a predictor says of units, (N, outputs), from logits (N, outputs)."""

    def evidence(self, units: pd.DataFrame, logits: np.ndarray) -> pd.DataFrame:
        """Rows `unit, patient, cls, truth, score` of test units with columns `unit, patient, label`."""


class Strategy(ABC):
    """How encoder and labels become a predictor.

    Attributes:
        frozen: it reads `Problem.features` and never builds an encoder.
        grid: recipes worth trying beside an arm's own where an experiment tunes: settings that are changed, the most
            promising first.
        rooms: further folders of medssl whose code decides what it fits, so that a change there makes new jobs.
        beside: what it learns from the cohort's scans beside their labels: (the same task as the labels' or another,
            before them or jointly). Guesses of the labels are the same task. None: it learns from labels alone.
        takes_others: it learns from `Problem.others`, and cannot do without.
    """

    frozen: bool = False
    grid: Grid = ()
    beside: tuple[SameOrOther, Order] | None = None
    takes_others: bool = False
    rooms: tuple[str, ...] = ()

    def __init__(self, settings: Any) -> None:
        """`settings` are those that the strategy's file registers."""
        self.settings = settings

    @abstractmethod
    def fit(self, problem: Problem) -> Fitted:
        """Fit on the labeled units; unlabeled ones of the pool may be looked at, test units may not."""

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
        samples: (M,) which of them are labeled; `truth` (M,) their encoded labels.
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
        target: the target.
        train: (n,) numbers of the labeled units; `truth` (n,) their encoded labels.
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
