"""Several labels at once, each there or not: findings of a chest X-ray."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medssl.config import register
from medssl.errors import UserError
from medssl.transfer.target import BETWEEN, NOTHING, Imbalance, TargetKind

if TYPE_CHECKING:  # torch takes seconds to import
    from torch import Tensor


class Settings(Imbalance):
    """See `Imbalance`: balanced, each label weighs its units with and without it alike."""


class Multilabel(TargetKind):
    """Any number of labels a unit, written `effusion|nodule`, or `no finding`; scores are each label's own probability.

    Args:
        labels: of all labeled units of the cohort; the labels that any of them has are the classes.
    """

    family = "multilabel"
    joined = True
    word = "label"

    def __init__(self, labels: list[str], settings: Settings) -> None:
        super().__init__(labels, settings)
        self.classes = sorted({name for label in labels for name in parts(label)})
        self.outputs = len(self.classes)
        if not self.outputs:
            raise UserError("no unit has any label", "target", f"Write a unit's labels as first{BETWEEN}second.")

    def encode(self, labels: list[str]) -> np.ndarray:
        """(N, L) zeros and ones."""
        found = [parts(label) for label in labels]
        return np.array([[name in mine for name in self.classes] for mine in found], np.int64).reshape(-1, self.outputs)

    def strata(self, labels: list[str]) -> list[tuple[str, ...]]:
        return [parts(label) or (NOTHING,) for label in labels]

    def balance(self, truth: np.ndarray) -> np.ndarray:
        """(2, L) weights of units without and with each label; 1 on both sides of one that all have, or none."""
        sides = np.stack([(truth == 0).sum(0), (truth == 1).sum(0)])
        return np.where(sides.min(0) > 0, len(truth) / (2 * np.maximum(sides, 1)), 1.0)

    def weigh(self, losses: Tensor, truth: Tensor) -> Tensor:
        import torch

        assert self.weights is not None
        without, with_it = torch.from_numpy(self.weights).to(losses)
        return losses * torch.where(truth == 1, with_it, without)

    def errors(self, logits: Tensor, truth: Tensor) -> Tensor:
        from torch.nn import functional

        return functional.binary_cross_entropy_with_logits(logits, truth.to(logits), reduction="none")

    def fit_linear(self, features: np.ndarray, truth: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
        """A logistic regression for each label, each with its own `penalty`."""
        from medssl.transfer.linear import fit_by_loss

        return fit_by_loss(features, truth, penalty, lambda x, y: self.outputs * self.loss(x, y), self.outputs)

    def scores(self, logits: np.ndarray) -> np.ndarray:
        """Probabilities (N, L) from logits (N, L)."""
        return 1 / (1 + np.exp(-np.clip(logits, -80, 80)))

    def said(self, scores: np.ndarray) -> np.ndarray:
        """All labels with a probability of one half or more."""
        names = np.array(self.classes)
        return np.array([BETWEEN.join(names[row >= 0.5]) or NOTHING for row in scores], dtype=object)

    def as_columns(self, truth: np.ndarray) -> np.ndarray:
        return truth


def parts(label: str) -> tuple[str, ...]:
    """The labels in `effusion|nodule`; none in `no finding`."""
    if label.strip().lower() == NOTHING:
        return ()
    return tuple(dict.fromkeys(name.strip() for name in label.split(BETWEEN) if name.strip()))


TARGET = Multilabel
register("target", "multilabel", Settings)
