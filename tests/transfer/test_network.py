"""The loop that all strategies train in: what its steps see."""

import numpy as np
import pytest
import torch

from medssl.transfer import network, strategy
from medssl.transfer.network import labeled, train
from medssl.transfer.recipe import Recipe

STEPS = 10  # of which the last two see whole images
SHORT = {"min_steps": STEPS, "epochs": 0.1, "batch": 4}
POOL = {**SHORT, "unlabeled": 4}


def test_the_last_fifth_of_the_steps_sees_whole_images(problem):
    given, seen = problem(), []
    head = torch.nn.Linear(32 * 32, 2)

    def loss(batch):
        seen.append(batch)
        further = batch.view(batch.images, network.views_of(given, Recipe()), batch.generator.beside())
        assert torch.equal(further, batch.images) == (batch.step >= 8)
        return given.target.loss(head(batch.images.flatten(1)), batch.truth)

    train(given, Recipe(**SHORT), [network.Group(list(head.parameters()))], loss)
    samples = labeled(given).images.float() / 255
    whole = [all((samples == image).flatten(1).all(1).any() for image in batch.images) for batch in seen]
    assert whole == [False] * 8 + [True] * 2


@pytest.mark.parametrize(
    ("name", "settings", "views"),
    [
        ("finetune", SHORT, 1),
        ("gradual", SHORT, 1),
        ("head_first", SHORT, 1),
        ("sla", SHORT, 1),
        ("s4l", POOL, 1),
        ("distill", {**POOL, "teacher": "prototypes"}, 2),
        ("mean_teacher", POOL, 3),
        ("fixmatch", POOL, 3),
    ],
)
def test_every_strategy_that_trains_ends_on_whole_images(problem, monkeypatch, name, settings, views):
    made = []
    make_view = network.make_view
    monkeypatch.setattr(network, "make_view", lambda *given: made.append(1) or make_view(*given))
    strategy(name, settings).fit(problem())
    assert len(made) == 8 * views


def test_what_is_told_by_size_is_told_of_whole_images(problem):
    """The class is the size of a square, which crops enlarge: after crops alone, a large one is taken for small."""
    rng = np.random.default_rng(0)
    sides = np.where(np.repeat(problem.label, 2) == 1, 14, 11)
    places = np.arange(32)
    images = np.full((120, 1, 32, 32), 40, np.uint8)
    for image, side in zip(images, sides, strict=True):
        top, left = rng.integers(2, 30 - side, 2)
        inside = (places[:, None] >= top) & (places[:, None] < top + side)
        image[0][inside & (places >= left) & (places < left + side)] = 200
    right = {}
    for share in (0.0, network.WHOLE):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(network, "WHOLE", share)
            how = {"images": images, "train": np.arange(30), "truth": problem.label[:30]}
            logits = [problem.predict("finetune", {"min_steps": 60, "batch": 16}, seed=s, **how) for s in range(3)]
        right[share] = [(one.argmax(1) == problem.label[30:]).mean() for one in logits]
    assert np.mean(right[network.WHOLE]) > np.mean(right[0.0]) + 0.1, right
