"""Whether a predictor that is taken away can be calibrated, and its temperature."""

from __future__ import annotations

import numpy as np

from medssl.experiment.predictor.about import Calibration
from medssl.metrics import FAMILIES
from medssl.transfer import TargetKind
from medssl.transfer.temperature import FEWEST, fit_temperature, rarest


def calibrate(target: TargetKind, logits: np.ndarray, labels: list[str]) -> Calibration:
    """Fit the temperature where there are enough units that did not teach.

    Args:
        logits: (N, outputs) of validation units; `labels`: theirs.
    """
    if not target.probable:
        return Calibration(rule="A number has no probability that could be calibrated.")
    few, count = rarest(target, labels)
    if count < FEWEST:
        why = f"{target.word} '{few}' has {count}" if labels else "there are none"
        sides = FAMILIES[target.family].group_words
        rule = f"Not calibrated: at least {FEWEST} validation units {sides} are needed, and {why}."
        return Calibration(rule=rule)
    temperature = fit_temperature(target, logits, target.encode(labels))
    rule = "Temperature scaling (Guo 2017) on the labels of the validation units, which taught nothing else."
    return Calibration(temperature=temperature, units=len(labels), rule=rule)
