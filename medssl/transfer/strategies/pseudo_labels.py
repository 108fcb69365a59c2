"""Pseudo-labels: what a predictor is sure of is taken for the truth, and it learns once more (Lee 2013).

Lee trains one network and guesses anew in every step; here a predictor (any strategy) is fitted whole, guesses, and is
fitted again on true labels and guesses, each round from the arm's own encoder (self-training as in Xie 2020,
arXiv:1911.04252), so that a job costs a few fits and a frozen encoder's probe can do it too.

A predictor that prefers one class would teach itself to prefer it more. So the guesses keep the shares of the classes
among the labeled units: of each class the surest are taken, as many as the class allows that runs out first. A class of
which nothing is sure therefore leaves no guesses at all, and the predictor stays what the labels made it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from pydantic import Field

from medssl.config import Strict, register
from medssl.transfer.fitted import Fitted
from medssl.transfer.problem import Problem
from medssl.transfer.unlabeled import Choice, Nested, need_classes, predict, softmax


class Settings(Strict):
    """
    Attributes:
        predictor: the strategy that is fitted in each round. Finetuning with half the usual passes: they are over the
            guesses too, and so are many steps all the same.
        rounds: of guessing. Each costs a fit on all of the pool, so one; Xie 2020 makes three.
        threshold: a guess needs this probability. The papers that train long take .95; a short training is less sure,
            and the shares of the classes hold back what a lower threshold lets in.
    """

    predictor: Choice = Field(default={"name": "finetune", "epochs": 3.0})
    rounds: int = Field(1, ge=1)
    threshold: float = Field(0.9, ge=0, lt=1)


class PseudoLabels(Nested):
    grid = ({"threshold": 0.8}, {"threshold": 0.95}, {"threshold": 0.7})
    beside = ("same", "in sequence")
    of_classes = True
    setting = "predictor"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.frozen = self.inner.frozen

    def images(self, labeled: int, pool: int) -> float:
        """See `Strategy.images`; as if all of the pool were believed in each round."""
        return self.inner.images(labeled, pool) + self.settings.rounds * self.inner.images(pool, pool)

    def fit(self, problem: Problem) -> Fitted:
        """See `Strategy.fit`.

        Raises:
            UserError: the target has no classes; whatever the predictor raises.
        """
        need_classes(problem, "pseudo_labels")
        shares = np.bincount(problem.truth, minlength=problem.target.outputs) / len(problem.truth)
        unlabeled = np.setdiff1d(problem.pool, problem.train)
        fitted = self.inner.fit(problem)
        for _ in range(self.settings.rounds if len(unlabeled) else 0):
            probability = softmax(predict(problem, fitted, unlabeled))
            rows, guesses = sure(probability, self.settings.threshold, shares)
            if not len(rows):
                break
            units, truth = np.append(problem.train, unlabeled[rows]), np.append(problem.truth, guesses)
            fitted = self.inner.fit(replace(problem, train=units, truth=truth))
        return fitted


def sure(probability: np.ndarray, threshold: float, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which rows to believe, and their classes.

    Args:
        probability: (N, C), rows summing to 1.
        threshold: least probability of a row's class.
        shares: (C,), summing to 1, that the classes have among the believed ones (but for rounding down).

    Returns:
        rows (M,) and classes (M,), class after class, the surest first.
    """
    guess, height = probability.argmax(1), probability.max(1)
    surest = np.argsort(-height, kind="stable")
    surest = surest[height[surest] >= threshold]
    rows = [surest[guess[surest] == c] for c in range(len(shares))]
    total = min(len(mine) / share for mine, share in zip(rows, shares, strict=True) if share > 0)
    taken = [mine[: int(total * share + 1e-9)] for mine, share in zip(rows, shares, strict=True)]
    return np.concatenate(taken), np.repeat(np.arange(len(shares)), [len(mine) for mine in taken])


STRATEGY = PseudoLabels
register("strategy", "pseudo_labels", Settings)
