"""Grades, which have an order: BI-RADS, Kellgren-Lawrence, severity scores.

The head says for each grade but the last whether a unit lies above it (Frank & Hall 2001; in networks Niu 2016). The
linear model has one direction for all of these questions and a threshold for each, as in CORAL (Cao 2020,
arXiv:1901.07884) and in ordinal regression: with few labels, every one of them helps to find that direction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import BeforeValidator, Field

from medssl.config import register
from medssl.errors import UserError, unknown
from medssl.metrics import median_grade, one_hot
from medssl.transfer.target import Imbalance, TargetKind

if TYPE_CHECKING:  # torch takes seconds to import
    from torch import Tensor


class Settings(Imbalance):
    """grades: all of them, lowest first. May be left out where they are numbers."""

    grades: list[Annotated[str, BeforeValidator(str)]] = Field(default=[])


class Ordinal(TargetKind):
    """One of several grades in an order; scores are the probabilities of the grades.

    Args:
        labels: of all labeled units of the cohort.
    """

    family = "ordinal"
    per_class = True
    word = "grade"

    def __init__(self, labels: list[str], settings: Settings) -> None:
        super().__init__(labels, settings)
        found = sorted(set(labels))
        if settings.grades:
            if strange := [label for label in found if label not in settings.grades]:
                raise unknown("grade", strange[0], settings.grades, "target.kind.grades")
            if missing := [grade for grade in settings.grades if grade not in found]:
                raise UserError(
                    f"no unit has the grade '{missing[0]}'", "target.kind.grades", "Leave out grades that nobody has."
                )
            found = settings.grades
        else:
            try:
                found = sorted(found, key=float)
            except ValueError:
                fix = "Name them, lowest first: kind: {name: ordinal, grades: [mild, moderate, severe]}."
                raise UserError("these grades are words, and their order is not known", "target.kind", fix) from None
        self.classes = found
        self.outputs = len(found) - 1
        if len(found) < 3:
            fix = "Take kind: classification."
            raise UserError(f"the labels hold {len(found)} grade(s); at least 3 are needed", "target", fix)

    def encode(self, labels: list[str]) -> np.ndarray:
        place = {grade: number for number, grade in enumerate(self.classes)}
        return np.array([place[label] for label in labels], np.int64)

    def errors(self, logits: Tensor, truth: Tensor) -> Tensor:
        """(N, K - 1) of the questions whether a unit lies above each grade."""
        import torch
        from torch.nn import functional

        above = truth[:, None] > torch.arange(self.outputs, device=truth.device)
        return functional.binary_cross_entropy_with_logits(logits, above.to(logits), reduction="none")

    def fit_linear(self, features: np.ndarray, truth: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
        """One direction and a threshold above each grade."""
        from medssl.transfer.linear import fit_by_loss

        return fit_by_loss(features, truth, penalty, self.loss, self.outputs, shared=True)

    def scores(self, logits: np.ndarray) -> np.ndarray:
        """Probabilities of the grades (N, K). A unit is never likelier above a grade than above the one before."""
        above = np.minimum.accumulate(1 / (1 + np.exp(-np.clip(logits, -80, 80))), 1)
        ends = np.pad(above, ((0, 0), (1, 1)), constant_values=((0, 0), (1, 0)))
        return ends[:, :-1] - ends[:, 1:]

    def said(self, scores: np.ndarray) -> np.ndarray:
        """The median grade."""
        return np.array(self.classes)[median_grade(scores)]

    def as_columns(self, truth: np.ndarray) -> np.ndarray:
        return one_hot(truth, len(self.classes))


TARGET = Ordinal
register("target", "ordinal", Settings)
