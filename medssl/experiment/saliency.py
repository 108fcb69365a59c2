"""Which places of a scan spoke for a class: the arm is fitted once more as its job was, and asked for one unit."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from medssl.cohort import Cohort
from medssl.cohort.cohort import UNIT_COLUMN
from medssl.config import Budget
from medssl.errors import UserError
from medssl.experiment.crossfit import read_folds
from medssl.experiment.pictures import picture
from medssl.experiment.results import Results

if TYPE_CHECKING:
    from medssl.experiment.predictor import Predictor

MOST = 64  # samples of a unit that are asked which of them speaks most for the class


class Heat(NamedTuple):
    """
    Attributes:
        place: number of the sample that speaks most for the class; `of`: how many the unit has.
        heat: (H, W), or (D, H, W) of a 3-D sample, from 0 to 1.
        probability: of the class, by this model, for this sample alone.
    """

    place: int
    of: int
    heat: np.ndarray
    probability: float


class Looked(NamedTuple):
    """
    Attributes:
        truth: the unit's class.
        image: (S, S) or in colour (S, S, 3) uint8, the sample that the heat is of, as `picture` draws it.
    """

    truth: str
    heat: Heat
    image: np.ndarray


class ClassHeats(NamedTuple):
    """
    Attributes:
        units: one a unit that was drawn.
        rolled_out: the heat is attention roll-out, and so the same for every class.
    """

    units: list[Looked]
    rolled_out: bool


def model_of(results: Results, arm: str, budget: Budget, unit: str) -> tuple[Predictor, int]:
    """The arm as a job fitted it, and that job's draw: the first, or where it is cross-fitted the first that tested
    this unit. Finetuned weights are not kept, so they are trained once more with the same labels and seed.

    Raises:
        UserError: all of `refit`, or a unit that was never tested.
    """
    from medssl.experiment.predictor import refit

    draw = 0
    if results.settings.split.folds:
        tested = [d for d, units in sorted(read_folds(results.path).items()) if unit in units]
        if not tested:
            raise UserError(f"unit '{unit}' was tested in no fold", results.name, "Choose another one.")
        draw = tested[0]
    return refit(results, arm, budget, draw), draw


def unit_heat(predictor: Predictor, cohort: Cohort, unit: str, cls: str) -> Heat:
    """Heat over the sample of a unit that speaks most for a class; see `attribution` for the method.

    Raises:
        UserError: the predictor reads raw pixels, or the unit has no sample.
    """
    import torch

    from medssl.experiment.attribution import attribution

    encoder, head = predictor.fitted.encoder, predictor.fitted.head.eval()
    if encoder is None:
        fix = "Choose an arm that has an encoder."
        raise UserError("this arm reads 16 x 16 raw pixels without an encoder: it has no saliency map", "", fix)
    encoder.cpu()  # where the head is; for a few pictures that will do
    samples = cohort.samples(predictor.about.view)
    places = np.flatnonzero(samples.table[UNIT_COLUMN[predictor.about.target.unit]].to_numpy() == unit)
    if not len(places):
        raise UserError("this unit has no picture in the arm's View", "", "Choose another one.")
    asked = places[np.linspace(0, len(places) - 1, min(len(places), MOST)).round().astype(int)]
    images = torch.from_numpy(np.array(samples.images[asked])).float() / 255
    number = predictor.about.classes.index(cls)
    with torch.no_grad():
        chances = head(encoder.eval().embed(images)).softmax(1)[:, number]
    best = int(chances.argmax())
    heat = attribution(encoder, lambda features: head(features)[:, number], images[best : best + 1])
    return Heat(int(asked[best]), len(places), heat[0, 0].numpy(), float(chances[best]))


def class_heats(results: Results, arm: str, budget: Budget, cls: str, count: int = 4, seed: int = 0) -> ClassHeats:
    """Where a class is seen, in a few of the units that the arm was tested on, drawn at random; of a cross-fitted
    experiment in those of one fold, so that one model is fitted again.

    Raises:
        UserError: all of `model_of` and `unit_heat`.
    """
    from medssl.experiment.attribution import rolls_out

    tested, numbers = results.arrays.units.astype(str), np.arange(len(results.arrays.units))
    if results.settings.split.folds:
        fold = set(min(read_folds(results.path).items())[1])
        numbers = np.array([n for n in numbers if tested[n] in fold])
    drawn = np.random.default_rng(seed).permutation(numbers)[:count]
    predictor, _ = model_of(results, arm, budget, tested[drawn[0]])
    encoder = predictor.fitted.encoder
    cohort = Cohort.open(results.cohort_folder)
    samples = cohort.samples(predictor.about.view)
    found = []
    for number in drawn:
        heat = unit_heat(predictor, cohort, tested[number], cls)
        truth = results.arrays.classes[results.arrays.truth[number]]
        found.append(Looked(truth, heat, picture(cohort, samples, heat.place)))
    return ClassHeats(found, encoder is not None and rolls_out(encoder))


def middle_sample(places: np.ndarray) -> int:
    """The sample that stands for a unit: the middle one."""
    return int(places[len(places) // 2])
