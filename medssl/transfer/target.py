"""What is predicted: the encoding of labels, the loss, the linear model, what a predictor says, evidence rows.

A strategy knows a target by this class alone. Each kind of target is one file in `targets/`.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from medssl.config import Strict

if TYPE_CHECKING:  # torch takes seconds to import
    from torch import Tensor

BETWEEN, NOTHING = "|", "no finding"  # how several labels of a unit are written as one: `effusion|nodule`


class Imbalance(Strict):
    """What the loss does where some classes have many labels and others few; the same for every arm.

    Attributes:
        imbalance: `none`; `balanced`: each class weighs as much as any other, by its frequency among the labeled units
            (King & Zeng 2001); `focal`: what is told well already counts less (Lin 2017, arXiv:1708.02002). Both make
            probabilities that are not frequencies any more.
        focus: exponent of the focal loss; the paper's.
    """

    imbalance: Literal["none", "balanced", "focal"] = "none"
    focus: float = Field(2.0, ge=1)


class TargetKind(ABC):
    """A target, made from the labels of the whole cohort (so that every job has the same classes) and its settings.

    Attributes:
        family: of its metrics, in `medssl.metrics.FAMILIES`.
        one_of: each unit has exactly one of `classes`, and the softmax of logits (N, classes) are its probabilities.
        per_class: budgets may count the units of each class.
        joined: several labels of the cohort can be one such target.
        probable: scores are probabilities.
        word: what is evenly drawn from when units are split and labeled: classes, or what stands for them.
        classes: names; empty where the target is a number.
        outputs: of the head.
        weights: of the classes, from the labeled units (`taught`); None: all weigh the same.
    """

    family: ClassVar[str]
    one_of: ClassVar[bool] = False
    per_class: ClassVar[bool] = False
    joined: ClassVar[bool] = False
    probable: ClassVar[bool] = True
    word: ClassVar[str] = "class"
    classes: list[str]
    outputs: int
    weights: np.ndarray | None = None

    def __init__(self, labels: list[str], settings: Any) -> None:
        self.settings = settings

    @property
    def columns(self) -> list[str]:
        """Names of the columns of scores."""
        return self.classes

    @property
    def imbalance(self) -> str:
        """What the loss does about rare classes."""
        return getattr(self.settings, "imbalance", "none")

    @abstractmethod
    def encode(self, labels: list[str]) -> np.ndarray:
        """Labels as text -> truth, (N,) or (N, L)."""

    @abstractmethod
    def errors(self, logits: Tensor, truth: Tensor) -> Tensor:
        """Minus the log-likelihood of each unit, (N,), or of each of its outputs, (N, outputs), from logits."""

    @abstractmethod
    def scores(self, logits: np.ndarray) -> np.ndarray:
        """What a predictor says of units, (N, columns), from logits (N, outputs)."""

    @abstractmethod
    def said(self, scores: np.ndarray) -> np.ndarray:
        """(N,) the same in one word or number, from scores (N, columns)."""

    @abstractmethod
    def as_columns(self, truth: np.ndarray) -> np.ndarray:
        """The truth as evidence holds it, (N, columns)."""

    def strata(self, labels: list[str]) -> list[tuple[str, ...]]:
        """What each unit counts as when units are split and labeled evenly; more than one where it has several."""
        return [(label,) for label in labels]

    def taught(self, truth: np.ndarray) -> TargetKind:
        """The target with what only the labeled units may tell: how often each class is, or where the values lie."""
        return self.weighed(truth)

    def weighed(self, truth: np.ndarray) -> TargetKind:
        """The target with the weights that balance classes in `truth`, and all else as it is."""
        found = copy.copy(self)
        found.weights = self.balance(truth) if self.imbalance == "balanced" else None
        return found

    def balance(self, truth: np.ndarray) -> np.ndarray:
        """Weights (C,) by which classes in `truth` (N,) weigh the same, 1 on average; 1 for a class without units."""
        counts = np.bincount(truth, minlength=len(self.classes))
        return np.where(counts > 0, len(truth) / (np.maximum(counts, 1) * (counts > 0).sum()), 1.0)

    def weigh(self, losses: Tensor, truth: Tensor) -> Tensor:
        """Losses of `errors`, each times the weight of its class."""
        import torch

        assert self.weights is not None
        mine = torch.from_numpy(self.weights).to(losses)[truth]
        return losses * mine.view(-1, *[1] * (losses.ndim - 1))

    def loss(self, logits: Tensor, truth: Tensor) -> Tensor:
        """Mean loss of a batch, from logits (N, outputs) and encoded truth."""
        import torch

        losses = self.errors(logits.to(torch.promote_types(logits.dtype, torch.float32)), truth)
        if self.imbalance == "focal":
            losses = (1 - torch.exp(-losses)) ** self.settings.focus * losses
        return (losses if self.weights is None else self.weigh(losses, truth)).mean()

    def likelihood(self, logits: Tensor, truth: Tensor) -> Tensor:
        """Minus the mean log-likelihood, whatever the loss does about rare classes: for calibration."""
        return self.errors(logits, truth).mean()

    def fit_linear(self, features: np.ndarray, truth: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
        """Linear model of features (M, D) by this loss: weights (outputs, D) and bias (outputs,).

        Args:
            penalty: half of it times the squared weights is added to the loss, which is summed over units.
        """
        from medssl.transfer.linear import fit_by_loss

        return fit_by_loss(features, truth, penalty, self.loss, self.outputs)

    def learnt(self) -> dict[str, float]:
        """What `scores` needs of the labeled units, for a file; see `relearn`."""
        return {}

    def relearn(self, learnt: dict[str, float]) -> TargetKind:
        """The target as `taught` had left it, from `learnt`."""
        return self

    def evidence(self, units: pd.DataFrame, logits: np.ndarray) -> pd.DataFrame:
        """Rows `unit, patient, cls, truth, score`, one a unit and column, of units with `unit, patient, label`."""
        names = self.columns
        truth = self.as_columns(self.encode(units["label"].tolist()))
        return pd.DataFrame(
            {
                "unit": np.repeat(units["unit"].to_numpy(), len(names)),
                "patient": np.repeat(units["patient"].to_numpy(), len(names)),
                "cls": np.tile(names, len(units)),
                "truth": truth.ravel().astype(np.float32),
                "score": self.scores(logits).ravel().astype(np.float32),
            }
        )
