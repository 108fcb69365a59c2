"""Temperature scaling (Guo 2017, arXiv:1706.04599): one number that makes probabilities mean what they say."""

from __future__ import annotations

import numpy as np

from medssl.metrics import FAMILIES
from medssl.transfer.target import TargetKind

FEWEST = 20  # validation units of each class: fewer say little about a probability
BOUNDS = (0.05, 20.0)


def rarest(target: TargetKind, labels: list[str]) -> tuple[str, int]:
    """The class with the fewest of these units, and how many; of several labels the rarer side of the rarest one."""
    if not labels:
        return target.columns[0], 0
    columns = target.as_columns(target.encode(labels))
    groups = FAMILIES[target.family].groups(FAMILIES[target.family].truth(columns), len(target.columns))
    sizes = [int(group.sum()) for group in groups]
    least = int(np.argmin(sizes))
    return target.columns[least * len(target.columns) // len(groups)], sizes[least]


def fit_temperature(target: TargetKind, logits: np.ndarray, truth: np.ndarray) -> float:
    """The temperature within `BOUNDS` at which the labels are likeliest.

    Args:
        logits: (N, outputs); `truth`: (N,) or (N, L) encoded labels.
    """
    import torch
    from scipy.optimize import minimize_scalar

    x, y = torch.from_numpy(np.asarray(logits, np.float64)), torch.from_numpy(truth)
    found = minimize_scalar(
        lambda log: float(target.likelihood(x / np.exp(log), y)), bounds=np.log(BOUNDS), method="bounded"
    )
    return float(np.exp(found.x))
