"""Context encoders: what is hidden, two players who do not meet, and shortcuts that are closed."""

import pytest
import torch
import torch.nn.functional as F
from test_tasks import PLAIN, batch_of, cubes, faces, make

from medssl.augment import RowGenerator
from medssl.config import View
from medssl.pretext.inpainting import holes, masked_error, middle

STILL = {"views": {"crop": [1, 1], "rotation": 0, "brightness": 0, "contrast": 0, "gamma": 0}}


def rows(n, step=0):
    return RowGenerator(0, step, torch.arange(n))


@pytest.mark.parametrize("size", [(8, 8), (9, 9), (6, 6, 6)])
@pytest.mark.parametrize("share", [0.25, 0.5, 0.999, 0.001])
def test_the_middle_is_a_box_about_the_centre_and_never_all(size, share):
    side = min(max(1, round(share ** (1 / len(size)) * size[0])), size[0] - 1)
    low = (size[0] - side) // 2
    inside = middle(share, torch.Size(size))
    for place in torch.cartesian_prod(*[torch.arange(n) for n in size]):
        assert bool(inside[tuple(place)]) == all(low <= int(p) < low + side for p in place)
    assert inside.any() and not inside.all()


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("region", "hidden"), [("middle", 0.25), ("around", 0.75), ("blocks", 0.25)])
def test_the_network_sees_nothing_of_what_it_must_paint(dims, region, hidden):
    task = make("inpainting", STILL | {"region": region, "hidden": hidden, "cells": 4},
                View(size=16, spatial_dims=dims), dims=dims)  # fmt: skip
    images = torch.rand(4, 1, *[16] * dims, generator=torch.Generator().manual_seed(0))
    _, seen, where = task.puzzle(batch_of(images), rows(4))
    assert float(where.float().mean()) == pytest.approx(hidden, abs=0.13 if dims == 3 else 0.01)
    assert bool(where[0, 0][(8,) * dims]) is (region != "around") or region == "blocks"
    other = torch.where(where, torch.rand_like(images), images)
    assert torch.equal(task.puzzle(batch_of(other), rows(4))[1], seen)
    assert torch.equal(seen[~where], images[~where])


def test_without_an_adversary_it_is_what_it_was():
    task = make("inpainting", STILL)
    assert list(task.heads()) == ["decoder"] and len(task.optimizers(1e-3)) == 1
    loss, metrics = task(batch_of(faces(8)), rows(8))
    target, seen, hidden = task.puzzle(batch_of(faces(8)), rows(8))
    assert torch.equal(loss, masked_error(task.decoder(task.encoder(seen)[-1], target.shape[2:]), target, hidden))
    assert metrics == {}


@pytest.mark.parametrize("dims", [2, 3])
def test_each_player_follows_its_own_loss_alone(dims):
    """Against one backward pass a player, as the paper alternates them."""
    weight, view = 0.3, View(size=16, spatial_dims=dims)
    images = faces(8, 16) if dims == 2 else cubes(8)
    task = make("inpainting", STILL | {"cells": 4, "adversarial": weight}, view, dims=dims)
    loss, metrics = task(batch_of(images), rows(8))
    loss.backward()
    ours = {name: p.grad.clone() for name, p in task.named_parameters()}
    target, seen, hidden = task.puzzle(batch_of(images), rows(8))
    painted = task.decoder(task.encoder(seen)[-1], target.shape[2:])
    ones, zeros = torch.ones(8, 1), torch.zeros(8, 1)
    judged, bce = task.discriminator(painted), F.binary_cross_entropy_with_logits
    painter = (1 - weight) * masked_error(painted, target, hidden) + weight * bce(judged, ones)
    judge = (bce(task.discriminator(target), ones) + bce(task.discriminator(painted.detach()), zeros)) / 2
    assert float(loss.detach()) == pytest.approx(float(painter + judge), rel=1e-5)
    for player, own in ((painter, ("encoder", "decoder")), (judge, ("discriminator",))):
        task.zero_grad()
        player.backward(retain_graph=True)
        for name, p in task.named_parameters():
            if name.startswith(own):
                assert torch.allclose(ours[name], p.grad, atol=1e-6), name
    assert 0 <= float(metrics["discriminator_accuracy"]) <= 1
    first, second = task.optimizers(1e-3)
    assert {p for g in second.param_groups for p in g["params"]} == set(task.discriminator.parameters())
    assert second.param_groups[0]["lr"] == pytest.approx(first.param_groups[0]["lr"] / 10)
    assert sum(len(g["params"]) for o in (first, second) for g in o.param_groups) == len(list(task.parameters()))


def test_the_adversary_is_shown_whole_paintings_and_no_mixture(monkeypatch):
    task, shown, painted = make("inpainting", STILL | {"adversarial": 0.5}), [], []
    task.discriminator.register_forward_hook(lambda module, inputs, output: shown.append(inputs[0].detach()))
    task.decoder.register_forward_hook(lambda module, inputs, output: painted.append(output.detach()))
    task(batch_of(faces(8)), rows(8))
    assert torch.equal(shown[0], painted[0]) and torch.equal(shown[1], torch.cat([faces(8), painted[0]]))


def test_a_mixture_would_give_itself_away_at_the_seam():
    """Opened: paintings that are as good as images, but for their brightness, are found out by the step at the hole's
    border. Closed: the same paintings, whole, are images like any other."""
    low, high = 8, 24
    inside = middle(0.25, torch.Size((32, 32)))
    assert inside[low:high, low:high].all() and inside.sum() == (high - low) ** 2

    def step(x):
        return ((x[..., low, low:high] - x[..., low - 1, low:high]).mean(-1)).abs().flatten()

    shift = rows(200).between(-0.2, 0.2, 3).view(200, 3, 1, 1, 1)
    real, painted = faces(200, seed=1) + shift[:, 0], faces(200, seed=2) + shift[:, 1]
    mixed = torch.where(inside, painted, faces(200, seed=2) + shift[:, 2])
    found_out = {name: float((step(x)[:, None] > step(real)).float().mean()) for name, x in
                 (("opened", mixed), ("closed", painted))}  # fmt: skip
    assert found_out["opened"] > 0.75, "how often a painting has the larger step"
    assert 0.4 < found_out["closed"] < 0.6


def test_small_holes_are_filled_by_blurring_and_large_ones_are_not():
    """What no network is needed for: each hidden pixel is the mean of the visible ones near it."""
    images, kernel = faces(16, 64), torch.ones(1, 1, 5, 5)

    def error(cells):
        hidden = holes(rows(16), cells, 0.5, images.shape[2:])
        seen = F.conv2d(images * ~hidden, kernel, padding=2)
        count = F.conv2d((~hidden).float(), kernel, padding=2)
        mean = (images * ~hidden).sum((2, 3), keepdim=True) / (~hidden).sum((2, 3), keepdim=True)
        filled = torch.where(count > 0, seen / count.clamp_min(1), mean)
        blank = masked_error(mean.expand_as(images), images, hidden)
        return float(masked_error(filled, images, hidden) / blank)

    assert error(64) < 0.12 and error(8) > 2.5 * error(64)


@pytest.mark.parametrize("region", ["middle", "around"])
def test_an_adversary_does_not_keep_it_from_learning(region):
    images = faces(16)
    task = make("inpainting", PLAIN | {"region": region, "hidden": 0.4, "adversarial": 0.001})
    floor = task.floor(batch_of(images), rows(16, 9999))
    optimizers = task.optimizers(3e-3)
    for step in range(30):
        loss, metrics = task(batch_of(images), rows(16, step))
        for player in optimizers:
            player.zero_grad()
        loss.backward()
        for player in optimizers:
            player.step()
    assert float(metrics["error"]) < 0.8 * floor["error"]
    assert floor["discriminator_accuracy"] == 0.5 and floor["loss"] > floor["error"]
