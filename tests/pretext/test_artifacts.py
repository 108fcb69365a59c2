"""Spotting artifacts: three players who do not meet, damage that stays where it is, and the decoder's traces closed."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from test_tasks import PLAIN, batch_of, cubes, faces, make

from medssl.augment import RowGenerator
from medssl.config import View
from medssl.errors import UserError

STILL = {"views": {"crop": [1, 1], "rotation": 0, "brightness": 0, "contrast": 0, "gamma": 0}}


def rows(n, step=0):
    return RowGenerator(0, step, torch.arange(n))


def trained(settings, steps, images, repairing=True):
    task = make("artifacts", settings)
    players, seen = task.optimizers(2e-3), []
    if not repairing:
        del players[1]
    for step in range(steps):
        loss, metrics = task(batch_of(images), rows(len(images), step))
        for player in players:
            player.zero_grad()
        loss.backward()
        for player in players:
            player.step()
        seen.append({k: float(v) for k, v in metrics.items()})
    return task, {k: sum(s[k] for s in seen[-5:]) / 5 for k in seen[0]}


@pytest.mark.parametrize("dims", [2, 3])
def test_each_player_follows_its_own_loss_alone(dims):
    """Against one pass a player: the autoencoder copies, the discriminator tells, the repair network climbs."""
    images = faces(6, 32) if dims == 2 else cubes(6, 24)
    task = make("artifacts", STILL, View(size=images.shape[-1], spatial_dims=dims), dims=dims)
    loss, _ = task(batch_of(images), rows(6))
    loss.backward()
    ours = {name: p.grad.clone() for name, p in task.named_parameters()}
    _, copied, damaged, gone = task.puzzle(batch_of(images), rows(6))
    answers, places = task.judged(torch.cat([copied.detach(), damaged]), gone.shape[2:])
    labels = torch.cat([torch.ones(6), torch.zeros(6)])
    marks = torch.cat([torch.zeros_like(gone), gone]).float()
    bce = F.binary_cross_entropy_with_logits
    told, error = bce(answers, labels) + bce(places, marks), F.mse_loss(copied, images)
    left = 1000 * F.mse_loss(damaged, images)
    assert float(loss.detach()) == pytest.approx(float((told + error + left).detach()), rel=1e-5)
    for player, own in (
        (told, ("encoder", "whole", "where")),
        (left - told, ("repair",)),
        (error, ("coder", "decoder")),
    ):
        task.zero_grad()
        player.backward(retain_graph=True)
        for name, p in task.named_parameters():
            if name.startswith(own):
                assert torch.allclose(ours[name], p.grad, atol=1e-6), name
    owned = [{p for group in player.param_groups for p in group["params"]} for player in task.optimizers(1e-3)]
    assert [len(a & b) for a, b in pairwise(owned)] == [0, 0]
    assert set().union(*owned) == set(task.parameters())


@pytest.mark.parametrize("dims", [2, 3])
def test_damage_stays_near_the_dropped_places_and_is_filled_from_their_neighbours(dims):
    torch.manual_seed(0)
    size = 64 if dims == 2 else 48
    task = make("artifacts", STILL, View(size=size, spatial_dims=dims), dims=dims).eval()
    code = torch.randn(2, 64, *[size // 8] * dims)
    gone = torch.zeros(2, 1, *[size // 8] * dims, dtype=torch.bool)
    gone[(slice(None), 0, *[1] * dims)] = True
    whole = task.decoder(code, torch.Size([size] * dims))
    damaged = task.damaged(code, gone, whole.shape[2:])
    changed = (whole != damaged).any(1)
    assert changed.any()
    far = changed[(slice(None), *[slice(40, None)] * dims)]
    assert not far.any(), "an image is as it was, away from what was dropped"
    code[(slice(None), slice(None), *[1] * dims)] = 1e6  # what was dropped is not to be known
    assert torch.allclose(task.damaged(code, gone, whole.shape[2:]), damaged, atol=1e-4)


def test_the_same_number_of_places_is_dropped_in_every_row():
    task = make("artifacts", {"dropped": 0.25}, View(size=64))
    gone = task.drawn(torch.zeros(5, 64, 8, 8), rows(5))
    assert gone.shape == (5, 1, 8, 8) and (gone.sum((1, 2, 3)) == 16).all()
    assert len({tuple(g.flatten().tolist()) for g in gone}) == 5


def test_the_floor_is_what_constant_answers_cost():
    task, images = make("artifacts", STILL | {"dropped": 0.25}), faces(8)
    floor = task.floor(batch_of(images), rows(8))
    with torch.no_grad():
        for module in (task.whole, task.where[0]):
            module.weight.zero_(), module.bias.zero_()
        task.where[0].bias.fill_(torch.logit(torch.tensor(0.125)))
        loss, metrics = task(batch_of(images), rows(8))
    rest = float(loss) - float(metrics["autoencoder"]) - 1000 * float(metrics["repaired"])
    assert rest == pytest.approx(floor["loss"] - floor["autoencoder"] - 1000 * floor["repaired"], rel=1e-4)
    assert float(metrics["mask_accuracy"]) == pytest.approx(floor["mask_accuracy"])


def test_it_learns_to_tell_what_nobody_repairs():
    images = faces(16)
    task, learned = trained(PLAIN, 120, images, repairing=False)
    floor = task.floor(batch_of(images), rows(16, 9999))
    assert learned["accuracy"] > 0.8
    assert learned["autoencoder"] < 0.8 * floor["autoencoder"]


def test_a_repair_network_that_is_free_would_give_the_damage_away():
    """Opened, it wanders off to gray levels that no image has, and these are found; closed, it stays near the image."""
    opened, closed = (trained(PLAIN | {"likeness": weight}, 60, faces(16))[1] for weight in (0.0, 1000.0))
    assert opened["mask_accuracy"] > 0.8 > closed["mask_accuracy"]
    assert closed["repaired"] < 0.1 * opened["repaired"]


def test_the_decoders_traces_would_tell():
    """Opened, an image that was never decoded is told from a damaged one though next to nothing is damaged, so that
    there is nothing to be learned; closed, it is not."""
    little = PLAIN | {"dropped": 0.02, "mask": 0.0}
    opened, closed = (trained(little | {"decoded": on}, 20, faces(16))[1]["accuracy"] for on in (False, True))
    assert opened > 0.7 and closed < opened - 0.2


def test_too_small_images_are_refused():
    with pytest.raises(UserError, match="24 pixels"):
        make("artifacts", view=View(size=16))
