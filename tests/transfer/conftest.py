from dataclasses import replace

import numpy as np
import pytest

from medssl.transfer import Problem, strategy, target_kind, unit_means


@pytest.fixture
def problem():
    """Two classes of 32-pixel images that differ in texture and not in brightness; 2 samples a unit, 60 units."""
    rng = np.random.default_rng(0)
    units, per = 60, 2
    label = np.arange(units) % 2
    base = rng.normal(size=(units * per, 1, 32, 32))
    stripes = np.where(np.arange(32) % 4 < 2, 1.0, -1.0)
    angle = np.repeat(label, per)
    pattern = np.where(angle[:, None, None, None] == 1, stripes[None, None, :, None], stripes[None, None, None, :])
    images = np.clip(128 + 30 * base + 50 * pattern, 0, 255).astype(np.uint8)
    unit_of = np.repeat(np.arange(units), per)
    embedding = rng.normal(size=(units * per, 6)) + angle[:, None] * np.array([2, 0, 0, 0, 0, 0])
    features = unit_means(embedding, unit_of, units)
    target = target_kind("classification", ["no", "yes"])

    def encoder(seed):
        from medssl.encoders import create_encoder

        return create_encoder("small", seed=seed)

    def make(**changes):
        base = Problem(
            target=target,
            train=np.arange(16),
            truth=label[:16],
            pool=np.arange(30),
            unit_of=unit_of,
            images=images,
            features=lambda: features,
            encoder=encoder,
            modality="OT",
            seed=3,
        )
        return replace(base, **changes)

    def predict(name, settings=None, **changes):
        """Logits of the units 30 to 59."""
        given, test = make(**changes), np.arange(30, 60)
        fitted = strategy(name, settings).fit(given)
        if fitted.encoder is None:
            return fitted.logits(given.features()[test])
        return fitted.logits(fitted.embed(given.images, given.unit_of, test))

    make.label, make.predict = label, predict
    return make
