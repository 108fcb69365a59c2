"""Temperature scaling (Guo 2017, arXiv:1706.04599): one number that makes probabilities mean what they say."""

from __future__ import annotations

import numpy as np

from medssl.experiment.predictor.about import Calibration
from medssl.transfer import TargetKind

FEWEST = 20  # validation units of each class: fewer say little about a probability
BOUNDS = (0.05, 20.0)


def calibrate(target: TargetKind, logits: np.ndarray, labels: list[str]) -> Calibration:
    """Fit the temperature where there are enough units that did not teach.

    Args:
        logits: (N, outputs) of validation units; `labels`: theirs.
    """
    counts = {name: labels.count(name) for name in target.classes}
    few = min(counts, key=lambda name: counts[name])
    if counts[few] < FEWEST:
        why = f"class '{few}' has {counts[few]}" if labels else "there are none"
        rule = f"Not calibrated: at least {FEWEST} validation units of each class are needed, and {why}."
        return Calibration(rule=rule)
    temperature = fit_temperature(target, logits, target.encode(labels))
    rule = "Temperature scaling (Guo 2017) on the validation units, which taught nothing else."
    return Calibration(temperature=temperature, units=len(labels), rule=rule)


def fit_temperature(target: TargetKind, logits: np.ndarray, truth: np.ndarray) -> float:
    """The temperature within `BOUNDS` by which the target's loss is smallest.

    Args:
        logits: (N, outputs); `truth`: (N,) encoded labels.
    """
    import torch
    from scipy.optimize import minimize_scalar

    x, y = torch.from_numpy(np.asarray(logits, np.float64)), torch.from_numpy(truth)
    found = minimize_scalar(lambda log: float(target.loss(x / np.exp(log), y)), bounds=np.log(BOUNDS), method="bounded")
    return float(np.exp(found.x))
