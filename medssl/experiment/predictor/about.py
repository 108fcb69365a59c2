"""What a predictor says of itself: `predictor.json`."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from medssl.config import Budget, Strict, Target, View

SCHEMA = 1


class Calibration(Strict):
    """Temperature of the probabilities.

    Attributes:
        temperature: logits are divided by it; 1 where it was not fitted.
        units: of the validation part that it was fitted on; 0 where it was not.
        rule: in words.
    """

    temperature: float = 1.0
    units: int = 0
    rule: str


class Labels(Strict):
    """Whose labels it was fitted on.

    Attributes:
        budget, draw: of the experiment.
        every: all labels of the cohort, those of its validation and test parts too.
        units, patients: how many that was.
        job: the experiment's job that was fitted on the very same; None where it has none.
    """

    budget: Budget
    draw: int
    every: bool
    units: int
    patients: int
    job: str | None


class About(Strict):
    """What a predictor is and where it comes from. No path, no patient.

    Attributes:
        view: how scans become samples.
        encoder: its name, or that of handcrafted features (`pixels`, `radiomics`).
        classes: names of its classes, labels or grades; none where it predicts a number.
        learnt: what turns its output into such a number (`TargetKind.learnt`).
        head: its kind.
        recipe: the arm, its pretraining run, and the key of its encoder.
        cohort: name and hash.
        revision: of the code that fitted it.
        weights: SHA-256 of `predictor.safetensors`.
    """

    schema_version: int = SCHEMA
    experiment: str
    arm: str
    target: Target
    classes: list[str]
    view: View
    encoder: str
    head: str
    recipe: dict[str, Any]
    calibration: Calibration
    learnt: dict[str, float] = Field(default={})
    cohort: dict[str, str]
    labels: Labels
    versions: dict[str, str]
    revision: str
    weights: str = ""
