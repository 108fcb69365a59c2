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


@pytest.fixture
def faint(problem):
    """accuracy(strategy, settings, **changes) on stripes that drown in blobs and in noise of varying strength.

    Of 100 units of 2 samples the first 40 are labeled and the last 40 tested. Features of a random encoder tell the
    blobs and the noise, and hardly the stripes' direction.
    """
    rng = np.random.default_rng(0)
    units, per = 100, 2
    label, unit_of = np.arange(units) % 2, np.repeat(np.arange(units), per)
    wave = np.where((np.arange(32) + rng.integers(0, 4, (units * per, 1))) % 4 < 2, 1.0, -1.0)
    stripes = np.where(np.repeat(label, per)[:, None, None] == 1, wave[:, :, None], wave[:, None, :])
    blobs = np.kron(rng.normal(size=(units * per, 4, 4)), np.ones((8, 8)))
    strength = rng.uniform(10, 60, (units * per, 1, 1))
    grays = 128 + 40 * blobs + strength * rng.normal(size=(units * per, 32, 32)) + 24 * stripes
    images = np.clip(grays, 0, 255).astype(np.uint8)[:, None]

    def features():
        from medssl.encoders import create_encoder, embed_all

        return unit_means(embed_all(create_encoder("small", seed=3), images), unit_of, units)

    def accuracy(name, settings=None, **changes):
        given = {"train": np.arange(40), "truth": label[:40], "pool": np.arange(60), "features": features} | changes
        known = problem(images=images, unit_of=unit_of, **given)
        fitted, test = strategy(name, settings).fit(known), np.arange(60, 100)
        vectors = known.features()[test] if fitted.encoder is None else fitted.embed(images, unit_of, test)
        return float((fitted.logits(vectors).argmax(1) == label[test]).mean())

    return accuracy
