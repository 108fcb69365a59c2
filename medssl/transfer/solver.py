"""Penalised logistic regression for many small problems at once: all draws and penalties that read the same features.

Three things make it quick. A problem of n labeled units in D dimensions has its solution in the span of its units, so
it is turned to the units' principal axes first: at most min(n, D) coordinates, and one eigendecomposition serves all
penalties. Along these axes the features are uncorrelated, so that dividing the gradient by their energy nearly solves
the problem; what is left is done by nonlinear conjugate gradients (Polak & Ribiere 1969), two batched products a step
for all problems and penalties. And a step's length is found on the line of the logits, without another product.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from medssl.errors import MedsslError, UserError
from medssl.transfer.heads import NEVER

CLOSE = 1e-10  # loss above the optimum, summed over units, at which a problem counts as solved
MOST = 2000  # steps; some dozens are the rule
TRIALS = 3  # lengths of a step
TINY = 1e-300  # instead of a division by zero, where a problem is solved to the last digit
AT_ONCE = 2**23  # numbers in the features of the problems that are solved together: 64 MB

Labeled = tuple[np.ndarray, np.ndarray]  # (n,) numbers of the labeled units, (n,) their classes


def fit_logistic(
    features: np.ndarray, problems: Sequence[Labeled], penalties: Sequence[float], outputs: int
) -> tuple[np.ndarray, np.ndarray]:
    """Multinomial logistic regression of every problem with every penalty, in float64.

    It minimises the cross-entropy, summed over the labeled units, plus half the penalty times the squared weights; the
    bias is free. As in scikit-learn, two classes have one row of log odds, whose square is penalised. Problems of the
    same labels (the draws of the budget `all`) are solved once.

    Args:
        features: (units, D).
        problems: unit numbers and classes of each.
        penalties: above zero; scikit-learn's `C` is one over it.
        outputs: number of classes; one that a problem has no label of gets a bias of -10,000 and no weights.

    Returns:
        Weights (problems, penalties, outputs, D) and bias (problems, penalties, outputs).

    Raises:
        UserError: all labels of a problem are of one class.
        MedsslError: features that are not finite, or no solution after 2,000 steps.
    """
    weight = np.zeros((len(problems), len(penalties), outputs, features.shape[1]))
    bias = np.zeros((len(problems), len(penalties), outputs))
    for places, train, truth in _batches(problems, features.shape[1]):
        x = torch.from_numpy(features[train]).double()
        if not x.isfinite().all():
            raise MedsslError("some features of the labeled units are not finite", "features")
        found, constant = _solve(x, torch.from_numpy(truth), penalties, outputs)
        for row, places_of_one in enumerate(places):
            weight[places_of_one], bias[places_of_one] = found[row], constant[row]
    return weight, bias


def _batches(problems: Sequence[Labeled], dimensions: int) -> Iterator[tuple[list[list[int]], np.ndarray, np.ndarray]]:
    """Different problems of as many units: where each stands in the list, unit numbers (B, n), classes (B, n)."""
    by_size: dict[int, dict[bytes, list[int]]] = defaultdict(lambda: defaultdict(list))
    for place, (train, truth) in enumerate(problems):
        if len(set(truth.tolist())) < 2:
            raise UserError(
                "all labeled units of a draw are of one class",
                "budgets",
                "Ask for more labels, or for a number of each class (per: class).",
            )
        order = np.argsort(train)
        by_size[len(train)][np.stack([train[order], truth[order]]).astype(np.int64).tobytes()].append(place)
    for size, same in by_size.items():
        together = max(1, AT_ONCE // (size * dimensions))
        places = list(same.values())
        for start in range(0, len(places), together):
            some = places[start : start + together]
            train, truth = (np.stack([problems[place[0]][part] for place in some]) for part in (0, 1))
            yield some, train, truth.astype(np.int64)


def _solve(x: Tensor, labels: Tensor, penalties: Sequence[float], outputs: int) -> tuple[Tensor, Tensor]:
    """Weights (B, P, C, D) and bias (B, P, C) of B problems x (B, n, D) with `labels` (B, n)."""
    truth = torch.nn.functional.one_hot(labels, outputs).double()  # (B, n, C)
    present = truth.amax(1)  # (B, C)
    centre = x.mean(1, keepdim=True)
    projected, axes = _principal_axes(x - centre)
    design = torch.cat([projected, torch.ones_like(projected[..., :1])], 2)  # (B, n, r + 1), columns orthogonal
    ridge = torch.tensor(list(penalties), dtype=torch.float64)
    ridge = ridge * torch.where(present.sum(1, keepdim=True) == 2, 2, 1)  # (B, P)
    ridge = ridge[:, None, None].repeat(1, design.shape[2], 1, 1)
    ridge[:, -1] = 0  # the bias
    absent = torch.zeros_like(present).masked_fill(present == 0, -torch.inf)
    solution = _minimise(design, truth[..., None], ridge, absent)
    weight = torch.einsum("bdr,brcp->bpcd", axes, solution[:, :-1])
    bias = solution[:, -1].mT - torch.einsum("bpcd,bd->bpc", weight, centre[:, 0])
    return weight, torch.where(present[:, None] > 0, bias, NEVER)


def _principal_axes(x: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates (B, n, r) of centred x (B, n, D) along its principal axes (B, D, r), r = min(n, D).

    Among few units, axes along which they do not vary are zero.
    """
    if x.shape[1] > x.shape[2]:  # in float32, which is twice as quick: axes that are right to 1e-6 serve as well
        _, axes = torch.linalg.eigh(x.mT.float() @ x.float())
        return x @ axes.double(), axes.double()
    energy, vectors = torch.linalg.eigh(x @ x.mT)
    kept = energy > 1e-13 * energy[:, -1:].clamp_min(TINY)
    spread = energy.clamp_min(0).sqrt() * kept
    inverse = torch.where(kept, 1 / spread, 0.0)
    return vectors * spread[:, None], x.mT @ (vectors * inverse[:, None])


def _minimise(design: Tensor, truth: Tensor, ridge: Tensor, absent: Tensor) -> Tensor:
    """Preconditioned conjugate gradients from zero: coefficients (B, r + 1, C, P).

    Args:
        design: (B, n, r + 1).
        truth: (B, n, C, 1), one-hot.
        ridge: (B, r + 1, 1, P) penalty of each coefficient.
        absent: (B, C) minus infinity for a class without labels, else 0.
    """
    energy = design.square().sum(1)[..., None, None]
    choices = absent.isfinite().sum(1)[:, None, None, None] - 1
    solution = design.new_zeros(len(design), design.shape[2], truth.shape[2], ridge.shape[3])
    left = torch.arange(ridge.shape[3])  # penalties that are not solved
    at = before = direction = torch.zeros_like(solution)
    scale = torch.ones_like(at[:, :1, :1])
    logits = absent[:, None, :, None].expand(-1, design.shape[1], -1, len(left))
    for _ in range(MOST):
        chance = logits.softmax(2)
        gradient = _times(design.mT, chance - truth) + ridge * at
        curvature = (1 - chance.square().sum(2, keepdim=True)).mean(1, keepdim=True) / choices
        scaled = gradient / (curvature * energy + ridge).clamp_min(TINY)
        decrement = _inner(scaled, gradient)  # about twice the loss above the optimum
        solved = decrement.amax((0, 1, 2)) < 2 * CLOSE
        if solved.any():  # these penalties leave
            solution[..., left[solved]] = at[..., solved]
            if solved.all():
                return solution
            state = left, ridge, at, before, direction, scale, logits, chance, gradient, scaled, decrement
            left, ridge, at, before, direction, scale, logits, chance, gradient, scaled, decrement = (
                part[..., ~solved] for part in state
            )
        kept = (_inner(scaled, gradient - before) / scale.clamp_min(TINY)).clamp_min(0)
        direction = kept * direction - scaled
        direction = torch.where(_inner(direction, gradient) < 0, direction, -scaled)
        before, scale = gradient, decrement
        move = _times(design, direction)
        slope, growth = _inner(gradient, direction), _inner(ridge * direction, direction)
        length = _line_search(logits, chance, move, slope, growth)
        at, logits = at + length * direction, logits + length * move
    raise MedsslError(f"the logistic regression found no solution in {MOST} steps", "penalty", "Ask for a larger one.")


def _line_search(logits: Tensor, chance: Tensor, move: Tensor, slope: Tensor, ridge: Tensor) -> Tensor:
    """How far (B, 1, 1, P) to go along `move`: Newton's method for the slope's zero, kept between its signs.

    Args:
        logits: (B, n, C, P) where it starts, `chance` their softmax, `move` their change at length 1.
        slope: (B, 1, 1, P) of the whole loss at the start; `ridge`: what the penalty adds to its growth.
    """
    length, low, high = torch.zeros_like(slope), torch.zeros_like(slope), torch.full_like(slope, torch.inf)
    start, now = chance, slope
    for trial in range(TRIALS):
        if trial:
            chance = (logits + length * move).softmax(2)
            now = slope + _inner(chance - start, move) + length * ridge
        share = chance * move
        growth = _inner(share, move) - share.sum(2, keepdim=True).square().sum(1, keepdim=True) + ridge
        low, high = torch.where(now < 0, length, low), torch.where(now < 0, high, length)
        length = length - now / growth.clamp_min(TINY)
        inside = (length >= low) & (length <= high)
        length = torch.where(inside, length, (low + high) / 2)  # only a finite `high` leaves it outside
    return length


def _times(matrix: Tensor, columns: Tensor) -> Tensor:
    """(B, i, j) times (B, j, C, P), for all classes and penalties in one product."""
    return (matrix @ columns.flatten(2)).unflatten(2, columns.shape[2:])


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """Inner product over units or axes and classes: (B, 1, 1, P)."""
    return (a * b).sum((1, 2), keepdim=True)
