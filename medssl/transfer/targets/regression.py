"""A number a unit: age, volume, ejection fraction."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np

from medssl.config import Strict, register
from medssl.errors import UserError
from medssl.transfer.target import TargetKind

if TYPE_CHECKING:  # torch takes seconds to import
    from torch import Tensor

VALUE = "value"  # name of the one column of scores


class Settings(Strict):
    """loss: `squared`, or `huber` (Huber 1964), which lets units that are off by more than a standard deviation pull
    no harder than that."""

    loss: Literal["squared", "huber"] = "squared"


class Regression(TargetKind):
    """A number; logits are in standard deviations of the labeled units around their mean, scores in its own unit.

    Args:
        labels: of all labeled units of the cohort. Their thirds are what units are evenly drawn from.
    """

    family = "regression"
    probable = False
    word = "range"

    def __init__(self, labels: list[str], settings: Settings) -> None:
        super().__init__(labels, settings)
        self.classes, self.outputs, self.centre, self.spread = [], 1, 0.0, 1.0
        values = self.encode(labels)
        self.edges = np.unique(np.quantile(values, [1 / 3, 2 / 3])) if len(values) else np.empty(0)
        self.edges = self.edges[self.edges < values.max(initial=-np.inf)]
        if len(values) and not len(self.edges):
            raise UserError("all units have the same value", "target", "Choose a target that differs between units.")

    @property
    def columns(self) -> list[str]:
        return [VALUE]

    def encode(self, labels: list[str]) -> np.ndarray:
        """(N,) numbers.

        Raises:
            UserError: labels that are none.
        """
        try:
            values = np.array([float(label) for label in labels], np.float64)
        except ValueError:
            values = np.full(1, np.nan)
        if not np.isfinite(values).all():
            fix = "Write numbers with a point and without a unit, and leave cells without a value empty."
            raise UserError("some labels are no numbers", "target", fix)
        return values

    def strata(self, labels: list[str]) -> list[tuple[str, ...]]:
        """Low, middle and high third of the cohort's values; fewer where many of them are equal."""
        ends = [f"{edge:.4g}" for edge in self.edges]
        names = [f"up to {ends[0]}", *(f"{a} to {b}" for a, b in pairwise(ends)), f"over {ends[-1]}"]
        return [(names[place],) for place in np.searchsorted(self.edges, self.encode(labels), "left")]

    def taught(self, truth: np.ndarray) -> Regression:
        spread = float(truth.std())
        return self.relearn({"centre": float(truth.mean()), "spread": spread if spread > 0 else 1.0})

    def learnt(self) -> dict[str, float]:
        return {"centre": self.centre, "spread": self.spread}

    def relearn(self, learnt: dict[str, float]) -> Regression:
        found = copy.copy(self)
        found.centre, found.spread = learnt["centre"], learnt["spread"]
        return found

    def errors(self, logits: Tensor, truth: Tensor) -> Tensor:
        """(N,) squared, or Huber's, in standard deviations."""
        from torch.nn import functional

        wanted = ((truth - self.centre) / self.spread).to(logits)
        if self.settings.loss == "huber":
            return 2 * functional.huber_loss(logits[:, 0], wanted, reduction="none")
        return functional.mse_loss(logits[:, 0], wanted, reduction="none")

    def fit_linear(self, features: np.ndarray, truth: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
        """Ridge regression: |y - xw - b|² + penalty |w|², y in standard deviations; or Huber's loss in its place."""
        from medssl.transfer.linear import fit_by_loss, fit_ridge

        if self.settings.loss == "huber":
            return fit_by_loss(features, truth, 2 * penalty, self.loss, 1)
        return fit_ridge(features.astype(np.float64), ((truth - self.centre) / self.spread)[:, None], penalty)

    def scores(self, logits: np.ndarray) -> np.ndarray:
        """(N, 1) in the target's unit."""
        return logits * np.float32(self.spread) + np.float32(self.centre)

    def said(self, scores: np.ndarray) -> np.ndarray:
        return scores[:, 0]

    def as_columns(self, truth: np.ndarray) -> np.ndarray:
        return truth[:, None]


TARGET = Regression
register("target", "regression", Settings)
