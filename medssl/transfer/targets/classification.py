"""Binary and multi-class classification."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medssl.config import register
from medssl.errors import UserError
from medssl.metrics import one_hot
from medssl.transfer.target import Imbalance, TargetKind

if TYPE_CHECKING:  # torch takes seconds to import
    from torch import Tensor


class Settings(Imbalance):
    """See `Imbalance`."""


class Classification(TargetKind):
    """One of several classes; scores are softmax probabilities.

    Args:
        labels: of all labeled units of the cohort; their sorted different values are the classes.
    """

    family = "classification"
    one_of = per_class = True

    def __init__(self, labels: list[str], settings: Settings) -> None:
        super().__init__(labels, settings)
        self.classes = sorted(set(labels))
        self.outputs = len(self.classes)
        if self.outputs < 2:
            held = f"all labels are '{self.classes[0]}'" if self.classes else "there are no labels"
            fix = "Name a target whose labels tell patients apart, or add the labels that are missing."
            raise UserError(f"{held}; at least 2 classes are needed", "target", fix)

    def encode(self, labels: list[str]) -> np.ndarray:
        return np.searchsorted(self.classes, labels)

    def errors(self, logits: Tensor, truth: Tensor) -> Tensor:
        from torch.nn import functional

        return functional.cross_entropy(logits, truth, reduction="none")

    def fit_linear(self, features: np.ndarray, truth: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
        """Multinomial logistic regression with an L2 penalty of `penalty` / 2 on the weights, none on the bias.

        Raises:
            UserError: all labels are of one class.
        """
        from medssl.transfer.solver import fit_logistic

        if self.imbalance != "none":  # of two classes one row of log odds is penalised, as in `fit_logistic`
            return super().fit_linear(features, truth, penalty * (2 if len(np.unique(truth)) == 2 else 1))
        weight, bias = fit_logistic(features, [(np.arange(len(truth)), truth)], [penalty], self.outputs)
        return weight[0, 0], bias[0, 0]

    def scores(self, logits: np.ndarray) -> np.ndarray:
        """Probabilities (N, classes) from logits (N, classes)."""
        shifted = np.exp(logits - logits.max(1, keepdims=True))
        return shifted / shifted.sum(1, keepdims=True)

    def said(self, scores: np.ndarray) -> np.ndarray:
        """The likeliest class."""
        return np.array(self.classes)[scores.argmax(1)]

    def as_columns(self, truth: np.ndarray) -> np.ndarray:
        return one_hot(truth, self.outputs)


TARGET = Classification
register("target", "classification", Settings)
