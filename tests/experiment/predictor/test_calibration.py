import numpy as np
import pytest

from medssl.experiment.predictor.calibration import calibrate, fit_temperature
from medssl.metrics import METRICS
from medssl.transfer import target_kind


@pytest.fixture
def target():
    return target_kind("classification", ["calm", "rough"])


def overconfident(n=2000, factor=3.0, seed=0):
    """Logits that are `factor` times too large, and the truth drawn from the right ones."""
    rng = np.random.default_rng(seed)
    right = rng.normal(0, 2, n)
    truth = (rng.random(n) < 1 / (1 + np.exp(-right))).astype(int)
    return np.stack([-right / 2, right / 2], 1) * factor, truth


def test_the_temperature_is_that_by_which_logits_were_scaled(target):
    logits, truth = overconfident()
    temperature = fit_temperature(target, logits, truth)
    assert temperature == pytest.approx(3, rel=0.1)
    one = np.ones((1, len(truth)))
    before, after = (METRICS["ece"](truth, target.scores(x)[None], one)[0, 0] for x in (logits, logits / temperature))
    assert after < 0.03 < before


def test_few_validation_units_are_left_alone(target):
    logits, truth = overconfident(60)
    labels = ["calm" if t == 0 else "rough" for t in truth]
    assert min(labels.count("calm"), labels.count("rough")) >= 20
    enough = calibrate(target, logits, labels)
    assert enough.temperature > 1.5 and enough.units == 60
    keep = [*np.flatnonzero(truth == 0)[:19], *np.flatnonzero(truth == 1)]
    few = calibrate(target, logits[keep], [labels[i] for i in keep])
    assert (few.temperature, few.units) == (1.0, 0) and "class 'calm' has 19" in few.rule
    assert "there are none" in calibrate(target, logits[:0], []).rule
