"""Linear models of few units: ridge regression in closed form, and any other loss by a quasi-Newton method."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # torch takes seconds to import
    from torch import Tensor

FREE = 1e-3  # penalty of a bias: a label that no unit has, or all, would have an infinite one
MOST = 1000  # steps


def fit_ridge(x: np.ndarray, y: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights (outputs, D) and bias (outputs,) that minimise |y - xw - b|² + penalty |w|².

    Args:
        x: (n, D); `y`: (n, outputs).
    """
    centre, level = x.mean(0), y.mean(0)
    x, y = x - centre, y - level
    if len(x) <= x.shape[1]:
        weight = x.T @ np.linalg.solve(x @ x.T + penalty * np.eye(len(x)), y)
    else:
        weight = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y)
    return weight.T, level - centre @ weight


def fit_by_loss(
    features: np.ndarray,
    truth: np.ndarray,
    penalty: float,
    loss: Callable[[Tensor, Tensor], Tensor],
    outputs: int,
    shared: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Linear model by a loss of logits, found by L-BFGS in float64 from zero, along the units' principal axes.

    Args:
        features: (n, D); `truth`: (n,) or (n, L).
        penalty: half of it times the squared weights is added.
        loss: mean over units, from logits (n, outputs) and truth; it counts n times.
        outputs: of the model.
        shared: all outputs have the same weights, and differ in their bias alone.

    Returns:
        weights (outputs, D) and bias (outputs,).
    """
    import torch
    from scipy.optimize import minimize

    x, known = torch.from_numpy(features).double(), torch.from_numpy(truth)
    centre = x.mean(0)
    left, size, axes = torch.linalg.svd(x - centre, full_matrices=False)
    projected = left * size  # (n, r)
    rows, width = 1 if shared else outputs, len(size)

    def value(flat: np.ndarray) -> tuple[float, np.ndarray]:
        at = torch.from_numpy(flat).requires_grad_()
        weight, bias = at[: rows * width].view(rows, width), at[rows * width :]
        total = len(x) * loss(projected @ weight.T + bias, known)
        total = total + penalty / 2 * weight.square().sum() + FREE / 2 * bias.square().sum()
        total.backward()
        assert at.grad is not None
        return float(total.detach()), at.grad.numpy()

    options = {"maxiter": MOST, "maxfun": 2 * MOST, "ftol": 1e-12, "gtol": 1e-7}
    found = minimize(value, np.zeros(rows * width + outputs), jac=True, method="L-BFGS-B", options=options)
    weight = found.x[: rows * width].reshape(rows, width) @ axes.numpy()
    bias = found.x[rows * width :] - weight @ centre.numpy()
    return np.repeat(weight, outputs // rows, 0), bias
