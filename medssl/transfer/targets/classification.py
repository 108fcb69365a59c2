"""Binary and multi-class classification."""

from __future__ import annotations

import numpy as np
import pandas as pd

from medssl.errors import UserError
from medssl.metrics import METRICS, one_hot


class Classification:
    """One of several classes; scores are softmax probabilities.

    Args:
        labels: of all labeled units of the cohort; their sorted different values are the classes.
    """

    metrics = tuple(METRICS)

    def __init__(self, labels: list[str]) -> None:
        self.classes = sorted(set(labels))
        self.outputs = len(self.classes)
        if self.outputs < 2:
            raise UserError(f"the labels hold {self.outputs} class(es); at least 2 are needed", "target")

    def encode(self, labels: list[str]) -> np.ndarray:
        return np.searchsorted(self.classes, labels)

    def loss(self, logits, truth):
        from torch.nn import functional

        return functional.cross_entropy(logits.float(), truth)

    def fit_linear(self, features: np.ndarray, truth: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
        """Multinomial logistic regression with an L2 penalty of `penalty` / 2 on the weights, none on the bias.

        Raises:
            UserError: all labels are of one class.
        """
        from medssl.transfer.solver import fit_logistic

        weight, bias = fit_logistic(features, [(np.arange(len(truth)), truth)], [penalty], self.outputs)
        return weight[0, 0], bias[0, 0]

    def scores(self, logits: np.ndarray) -> np.ndarray:
        """Probabilities (N, classes) from logits (N, classes)."""
        shifted = np.exp(logits - logits.max(1, keepdims=True))
        return shifted / shifted.sum(1, keepdims=True)

    def evidence(self, units: pd.DataFrame, logits: np.ndarray) -> pd.DataFrame:
        """One row per unit and class: truth 0 or 1, score in [0, 1]."""
        scores = self.scores(logits)
        truth = one_hot(self.encode(units["label"].tolist()), self.outputs)
        return pd.DataFrame(
            {
                "unit": np.repeat(units["unit"].to_numpy(), self.outputs),
                "patient": np.repeat(units["patient"].to_numpy(), self.outputs),
                "cls": np.tile(self.classes, len(units)),
                "truth": truth.ravel().astype(np.float32),
                "score": scores.ravel().astype(np.float32),
            }
        )


TARGET = Classification
