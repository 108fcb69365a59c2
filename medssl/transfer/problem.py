"""What a strategy is given, and what targets and strategies must offer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd


class TargetKind(Protocol):
    """What is predicted: encoding of labels, loss, linear model, evidence rows, metrics."""

    outputs: int
    metrics: tuple[str, ...]

    def encode(self, labels: list[str]) -> np.ndarray:
        """Labels as text -> numbers (N,)."""

    def loss(self, logits: Any, truth: Any) -> Any:
        """Loss of a batch, from logits (N, outputs) and encoded truth (N,), both torch tensors."""

    def fit_linear(self, features: np.ndarray, truth: np.ndarray, penalty: float) -> Callable[[np.ndarray], np.ndarray]:
        """Fit a linear model; the result maps features (M, D) to logits (M, outputs)."""

    def evidence(self, units: pd.DataFrame, logits: np.ndarray) -> pd.DataFrame:
        """Rows `unit, patient, cls, truth, score` of test units with columns `unit, patient, label`."""


class Strategy(Protocol):
    """How encoder and labels become a predictor. `frozen` ones read `Problem.features` and never build an encoder."""

    frozen: bool

    def predict(self, problem: Problem) -> np.ndarray:
        """Fit on the labeled units and return logits (M, outputs) of the test units."""


@dataclass(frozen=True)
class Problem:
    """One job: labeled units in, test units to be predicted.

    Attributes:
        target: the target.
        train: (n,) numbers of the labeled units; `truth` (n,) their encoded labels.
        pool: (P,) numbers of all units of the pool, labels unknown.
        test: (M,) numbers of the units to be predicted.
        unit_of: (N,) number of the unit that each sample (image or slice) belongs to, -1 for none.
        images: (N, C, H, W) uint8.
        features: returns (units, D), the mean embedding of each unit's samples.
        encoder: makes a fresh encoder as the arm initialises it; takes the seed of random parts.
        modality: of the scans, for augmentation.
        seed: of everything random in this job.
        precision: `32` or `bf16`, of the training steps.
    """

    target: TargetKind
    train: np.ndarray
    truth: np.ndarray
    pool: np.ndarray
    test: np.ndarray
    unit_of: np.ndarray
    images: np.ndarray
    features: Callable[[], np.ndarray]
    encoder: Callable[[int], Any]
    modality: str
    seed: int
    precision: str = "32"
