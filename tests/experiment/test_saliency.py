"""Saliency of real arms: a frozen one, a finetuned one that is fitted again, and those that have none."""

import numpy as np
import pytest

from medssl.cohort import Cohort
from medssl.errors import UserError
from medssl.experiment.saliency import Heat, class_heats, model_of, unit_heat


@pytest.mark.parametrize("arm", ["simclr", "scratch"])
def test_heat_of_frozen_and_finetuned_arms(finished, arm):
    results, _ = finished
    unit = str(results.arrays.units[0])
    predictor, draw = model_of(results, arm, 2, unit)
    assert draw == 0
    cohort = Cohort.open(results.cohort_folder)
    found = {cls: unit_heat(predictor, cohort, unit, cls) for cls in predictor.about.classes}
    for heat in found.values():
        assert isinstance(heat, Heat) and heat.heat.shape == (32, 32) and heat.of == 1
        assert heat.heat.min() >= 0 and heat.heat.max() in (0, 1)
    assert np.isclose(sum(h.probability for h in found.values()), 1, atol=1e-5)
    row = results.arrays.units.tolist().index(unit)
    recorded = results.arrays.scores[arm, 2][0, 0, row]
    assert np.allclose([h.probability for h in found.values()], recorded, atol=1e-3)


def test_pixels_and_strange_units_have_none(finished):
    results, _ = finished
    cohort, unit = Cohort.open(results.cohort_folder), str(results.arrays.units[0])
    predictor, _ = model_of(results, "pixels", 2, unit)
    with pytest.raises(UserError, match="no saliency map"):
        unit_heat(predictor, cohort, unit, predictor.about.classes[0])
    predictor, _ = model_of(results, "random", 2, unit)
    with pytest.raises(UserError, match="no picture"):
        unit_heat(predictor, cohort, "nobody", predictor.about.classes[0])


def test_a_class_in_a_few_tested_scans(finished):
    results, _ = finished
    truths = dict(zip(results.arrays.units.tolist(), results.arrays.truth.tolist(), strict=True))
    classes = results.arrays.classes
    found, rolled_out = class_heats(results, "simclr", "all", classes[1], count=3, seed=0)
    assert (
        not rolled_out
        and len(found) == 3
        and all(look.image.ndim == 2 and look.heat.heat.shape == (32, 32) for look in found)
    )
    predictor, _ = model_of(results, "simclr", "all", str(results.arrays.units[0]))
    cohort = Cohort.open(results.cohort_folder)
    said = {u: unit_heat(predictor, cohort, str(u), classes[1]).probability for u in truths}
    for look in found:
        assert any(np.isclose(look.heat.probability, p) and classes[truths[u]] == look.truth for u, p in said.items())
    others, _ = class_heats(results, "simclr", "all", classes[1], count=3, seed=1)
    assert [look.heat.probability for look in others] != [look.heat.probability for look in found]
