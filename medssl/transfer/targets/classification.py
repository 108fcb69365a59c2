"""Binary and multi-class classification."""

from __future__ import annotations

from collections.abc import Callable

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

    def fit_linear(self, features: np.ndarray, truth: np.ndarray, penalty: float) -> Callable[[np.ndarray], np.ndarray]:
        """Multinomial logistic regression with an L2 penalty of `penalty` / 2 on the weights, none on the bias."""
        from sklearn.linear_model import LogisticRegression

        present = np.unique(truth)
        model = LogisticRegression(C=1 / penalty, max_iter=1000, tol=1e-5).fit(features, truth)

        def logits(rows: np.ndarray) -> np.ndarray:
            scores = model.decision_function(rows)
            if scores.ndim == 1:  # two classes: one column, the log odds of the second
                scores = np.stack([-scores / 2, scores / 2], 1)
            out = np.full((len(rows), self.outputs), scores.min() - 30.0)  # a class without any label: hardly possible
            out[:, present] = scores
            return out

        return logits

    def evidence(self, units: pd.DataFrame, logits: np.ndarray) -> pd.DataFrame:
        """One row per unit and class: truth 0 or 1, score in [0, 1]."""
        shifted = np.exp(logits - logits.max(1, keepdims=True))
        scores = shifted / shifted.sum(1, keepdims=True)
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
