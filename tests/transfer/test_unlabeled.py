"""What the strategies with unlabeled scans share, and what all of them must hold."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from medssl.encoders import create_encoder, embed_all
from medssl.errors import UserError
from medssl.transfer import strategy, target_kind, unit_means
from medssl.transfer.fitted import Fitted
from medssl.transfer.heads import LinearHead
from medssl.transfer.unlabeled import Pool, chosen, need_classes, predict, softmax

SHORT = {"min_steps": 40, "batch": 16, "unlabeled": 16}
FEW = {"min_steps": 3, "batch": 4, "unlabeled": 8}
STRATEGIES = {
    "pseudo_labels": ({"predictor": {"name": "finetune", "min_steps": 40, "batch": 16}, "threshold": 0.6}, None),
    "mean_teacher": ({**SHORT, "min_steps": 60, "decay": 0.9}, FEW),
    "fixmatch": (SHORT, {**FEW, "threshold": 0.0}),
    "s4l": (SHORT, FEW),
    "s4l exemplar": ({**SHORT, "task": "exemplar"}, {**FEW, "task": "exemplar"}),
    "sla": ({"min_steps": 50, "batch": 8}, {"min_steps": 3, "batch": 4}),
    "sla distilled": ({"min_steps": 50, "batch": 8, "predictor": "distilled"}, {"min_steps": 3, "batch": 4}),
    "distill": ({**SHORT, "min_steps": 60, "teacher": {"name": "finetune", "min_steps": 60, "batch": 16}}, None),
}
SMALL = {"name": "finetune", "min_steps": 3, "batch": 4, "epochs": 0.1}
BRIEF = {
    "pseudo_labels": {"predictor": {**SMALL, "min_steps": 20, "batch": 8}, "threshold": 0.0},
    "distill": {**FEW, "teacher": SMALL},
} | {name: few for name, (_, few) in STRATEGIES.items() if few}


@pytest.fixture
def hard(problem):
    """Fine stripes across or along, faint beside large blobs: what a random encoder's mean features are full of."""
    rng = np.random.default_rng(0)
    label = np.repeat(problem.label, 2)
    blobs = F.interpolate(torch.from_numpy(rng.normal(size=(120, 1, 4, 4))), size=32, mode="bicubic").numpy()
    stripes = np.where((np.arange(32) + rng.integers(0, 4, (120, 1))) % 4 < 2, 1.0, -1.0)
    pattern = np.where(label[:, None, None] == 1, stripes[:, :, None], stripes[:, None, :])[:, None]
    noise = 20 * rng.normal(size=(120, 1, 32, 32))
    return np.clip(128 + 40 * blobs + 15 * pattern + noise, 0, 255).astype(np.uint8)


def test_a_probe_on_a_frozen_random_encoder_fails_on_the_hard_task(problem, hard):
    right = []
    for seed in range(3):
        features = unit_means(embed_all(create_encoder("small", seed=seed), hard), problem().unit_of, 60)
        logits = problem.predict("probe", features=lambda features=features: features)
        right.append((logits.argmax(1) == problem.label[30:]).mean())
    assert np.mean(right) < 0.7


@pytest.mark.parametrize("case", STRATEGIES)
def test_each_learns_what_a_random_encoder_cannot_show(problem, hard, case):
    logits = problem.predict(case.split()[0], STRATEGIES[case][0], images=hard)
    assert logits.shape == (30, 2)
    assert (logits.argmax(1) == problem.label[30:]).mean() > 0.85


@pytest.mark.parametrize("case", BRIEF)
def test_test_units_change_nothing_and_the_pool_and_the_seed_do(problem, case):
    def weights(images, **changes):
        fitted = strategy(case.split()[0], BRIEF[case]).fit(problem(images=images, **changes))
        parts = {**fitted.head.state_dict(), **fitted.encoder.state_dict()}
        return torch.cat([value.flatten().float() for value in parts.values()])

    images, unit_of = problem().images, problem().unit_of
    first = weights(images)
    assert torch.equal(first, weights(np.where((unit_of >= 30)[:, None, None, None], 255 - images, images)))
    assert not torch.allclose(first, weights(images, seed=4), atol=1e-4)
    unlabeled = (unit_of >= 16) & (unit_of < 30)
    other = weights(np.where(unlabeled[:, None, None, None], 255 - images // 2, images))
    assert torch.equal(first, other) == case.startswith("sla")  # which has no use for them


@pytest.mark.parametrize("case", ["pseudo_labels", "mean_teacher", "fixmatch", "sla", "distill"])
def test_a_target_without_classes_is_refused(problem, case):
    number = target_kind("regression", ["1", "2", "3"])
    with pytest.raises(UserError, match=rf"'{case}' needs a target(.|\n)*kind classification"):
        strategy(case, BRIEF[case]).fit(problem(target=number, truth=np.linspace(0, 1, 16)))


def test_several_classes_at_once_are_no_class(problem):
    need_classes(problem(), "fixmatch")
    with pytest.raises(UserError):
        need_classes(problem(truth=np.zeros((16, 2), np.int64)), "fixmatch")


def test_the_pool_comes_whole_before_it_comes_again(problem):
    beside = SimpleNamespace(truth=torch.zeros(5), step=0)
    given = problem()
    pool = Pool(given, 20)
    drawn = [pool.draw(beside) for _ in range(3)]
    units = torch.cat([batch.unit for batch in drawn])
    assert sorted(units.tolist()) == sorted(np.repeat(given.pool, 2).tolist())
    batch = drawn[1]
    for image, unit in zip(batch.images, batch.unit.tolist(), strict=True):
        own = given.images[given.unit_of == unit]
        assert any(np.array_equal(np.round(image.numpy() * 255), picture) for picture in own)
    assert batch.generator.rows.tolist() == list(range(5, 25))  # after the labeled rows of the step
    again = Pool(given, 20)
    assert all(torch.equal(again.draw(beside).unit, old.unit) for old in drawn)
    other = Pool(replace(given, seed=9), 20)
    assert not torch.equal(other.draw(beside).unit, drawn[0].unit)


def test_a_pool_smaller_than_the_batch_comes_whole_every_time(problem):
    pool = Pool(problem(pool=np.arange(16)), 100)
    beside = SimpleNamespace(truth=torch.zeros(2), step=0)
    assert all(sorted(pool.draw(beside).unit.tolist()) == sorted([*range(16)] * 2) for _ in range(2))


def test_predictions_come_from_the_features_or_from_the_trained_encoder(problem):
    given, units = problem(), np.array([3, 20])
    head = LinearHead(np.eye(2, 6), np.zeros(2))
    assert predict(given, Fitted(head), units) == pytest.approx(given.features()[units, :2])
    encoder = create_encoder("small", seed=5)
    head = LinearHead(np.eye(2, 256), np.zeros(2))
    wanted = unit_means(embed_all(encoder, given.images), given.unit_of, 60)[units, :2]
    assert predict(given, Fitted(head, encoder), units) == pytest.approx(wanted, abs=1e-5)
    assert softmax(np.array([[0.0, np.log(3)]])) == pytest.approx(np.array([[0.25, 0.75]]))


def test_a_strategy_inside_another_is_named_as_in_an_arm():
    assert chosen({"name": "probe", "penalty": 3.0}, "distill.teacher").settings.penalty == 3
    with pytest.raises(UserError, match=r"strategy.teacher(.|\n)*Did you mean 'propagate'"):
        strategy("distill", {"teacher": "propagat"})
    with pytest.raises(UserError, match="Did you mean 'penalty'"):
        strategy("pseudo_labels", {"predictor": {"name": "probe", "penalti": 1.0}})
