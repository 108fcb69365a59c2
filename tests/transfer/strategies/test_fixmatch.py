import pytest
import torch
import torch.nn.functional as F

from medssl.augment import PRESETS, Views
from medssl.transfer import strategy
from medssl.transfer.network import Batch
from medssl.transfer.strategies.fixmatch import agreement, strong, weak


def test_only_confident_weak_views_teach_and_get_no_gradient():
    sure = torch.tensor([[4.0, 0.0], [0.3, 0.0], [0.0, 5.0]], requires_grad=True)
    said = torch.tensor([[0.0, 1.0], [2.0, 0.0], [0.0, 1.0]], requires_grad=True)
    value = agreement(sure, said, 0.95)
    wanted = (F.cross_entropy(said[:1], torch.tensor([0])) + F.cross_entropy(said[2:], torch.tensor([1]))) / 3
    assert value.item() == pytest.approx(wanted.item())
    value.backward()
    assert sure.grad is None
    assert (said.grad[1] == 0).all() and (said.grad[[0, 2]] != 0).all()


def test_a_step_sees_a_weak_and_another_strong_view_of_the_same_scans(problem, monkeypatch):
    seen, view = [], Batch.view

    def watched(batch, images, views, generator):
        out = view(batch, images, views, generator)
        seen.append((images, views, out, generator.rows))
        return out

    monkeypatch.setattr(Batch, "view", watched)
    strategy("fixmatch", {"min_steps": 2, "batch": 4, "unlabeled": 8, "epochs": 0.1}).fit(problem())
    assert len(seen) == 4
    for (images, hard, strongly, rows), (same, easy, weakly, others) in zip(seen[::2], seen[1::2], strict=True):
        assert images is same and rows.tolist() == others.tolist() and hard.cutout == 0.25 and easy.cutout == 0
        changed = [(x - images).abs().mean() for x in (strongly, weakly)]
        assert changed[0] > 1.2 * changed[1] > 0


def test_strong_views_are_the_presets_made_stronger():
    for name, chosen in PRESETS.items():
        usual = chosen.views
        hard, easy = strong(usual, 2.0, 0.25), weak(usual)
        Views.model_validate(hard.model_dump())  # no change beyond its limits
        assert hard.brightness == min(1, 2 * usual.brightness) and hard.gamma == 2 * usual.gamma, name
        assert (hard.crop, hard.flip, hard.flip_vertical) == (usual.crop, usual.flip, usual.flip_vertical)
        assert easy == Views(crop=(0.8, 1.0), flip=usual.flip, flip_vertical=usual.flip_vertical)


def test_nothing_below_the_threshold_is_learnt_from(problem):
    few = {"min_steps": 2, "batch": 4, "unlabeled": 8, "epochs": 0.1, "threshold": 0.9999}
    silent, loud = (problem.predict("fixmatch", {**few, "weight": weight}) for weight in (0.0, 5.0))
    assert abs(silent - loud).max() == 0
    heard = problem.predict("fixmatch", {**few, "weight": 5.0, "threshold": 0.0})
    assert abs(heard - silent).max() > 1e-3
