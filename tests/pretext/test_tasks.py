"""Every task: found in its file, honest about what it needs, and learning something on easy images."""

import pandas as pd
import pytest
import torch

from medssl import config
from medssl.augment import RowGenerator
from medssl.config import View
from medssl.encoders import create_encoder
from medssl.errors import UserError
from medssl.pretext import Batch, task_class, tasks
from medssl.pretext.decoder import PixelShuffle
from medssl.pretext.inpainting import holes, masked_error
from medssl.pretext.momentum import MomentumCopy, momentum_at
from medssl.pretext.rotation import circle, turn, turned

BLOCKS = ("mae", "simmim")  # need sides that their patches divide
PLAIN = {"views": {"crop": [0.7, 1.0], "blur": 0, "noise": 0, "brightness": 0, "contrast": 0, "gamma": 0}}


def make(name, settings=None, view=None, dims=2, encoder=None, **options):
    chosen = config.settings_for("task", name, settings or {}) if name in tasks() else None
    torch.manual_seed(0)
    encoder = encoder or ("small_vit" if task_class(name).needs_tokens else "small")
    return task_class(name)(create_encoder(encoder, dims, **options), chosen, view or View(size=32))


STILL = {"views": {"crop": [1, 1], "rotation": 0, "flip": False, "blur": 0, "noise": 0, "brightness": 0,
                   "contrast": 0, "gamma": 0}}  # fmt: skip


def learn(task, batches, steps, rate=2e-3):
    """Mean accuracy over the last quarter of the steps; `batches` gives the batch of a step."""
    optimizer = task.optimizers(rate)[0]
    found = []
    for step in range(steps):
        batch = batches(step)
        loss, metrics = task(batch, RowGenerator(0, step, torch.arange(len(batch.rows))))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(float(metrics["accuracy"]))
    return sum(found[-(steps // 4) :]) / (steps // 4)


def cubes(n=16, size=16, seed=0):
    """The faces, each the middle of a volume that fades towards its first and last slice."""
    fade = 1 - torch.linspace(-1, 1, size).abs()
    return faces(n, size, seed)[:, :, None] * fade.view(-1, 1, 1)


def batch_of(images, task=None):
    """Images as a batch; for a task that takes several together, each one so many times, a mm apart."""
    n = len(images)
    ids = each = torch.arange(n)
    position = torch.full((n,), float("nan"))
    if task is not None and task.sampling != "image":
        group = task.group_size(task.settings)
        images = images[:, None].expand(-1, group, *[-1] * (images.ndim - 1))
        each, position = ids[:, None].expand(-1, group), torch.arange(float(group)).expand(n, group)
    return Batch(images, each, each, ids, ids, position, ids)


def faces(n=32, size=32, seed=0):
    """Images with an up and a down and an identity: a bright half-disc above a dark bar, at places of their own."""
    g = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
    images = []
    for _ in range(n):
        a, b, c, d = (torch.rand(4, generator=g) - 0.5).tolist()
        disc = ((x - 0.4 * a) ** 2 + (y + 0.3 - 0.3 * b) ** 2 < (0.35 + 0.2 * c) ** 2).float()
        bar = ((y - 0.5 - 0.3 * d).abs() < 0.1 + 0.1 * c).float()
        images.append(0.4 + 0.5 * disc * (0.7 + 0.6 * d) - 0.3 * bar + 0.1 * y)
    return torch.stack(images)[:, None].clamp(0, 1)


def train(task, steps, images):
    optimizers = task.optimizers(3e-3)
    values = []
    for step in range(steps):
        loss, metrics = task(batch_of(images), RowGenerator(0, step, torch.arange(len(images))))
        optimizers[0].zero_grad()
        loss.backward()
        optimizers[0].step()
        values.append({"loss": loss.item(), **{k: v.item() for k, v in metrics.items()}})
    return {k: sum(v[k] for v in values[-5:]) / 5 for k in values[0]}


def test_the_folder_is_the_list():
    assert {"inpainting", "rotation", "simclr"} <= set(tasks())
    for name, task in tasks().items():
        assert task.paper and task.line and task.Settings.model_config["extra"] == "forbid"
        assert name == task.__module__.rpartition(".")[2], "a task lives in the file of its name"
    with pytest.raises(UserError, match="simclr"):
        task_class("simlcr")


@pytest.mark.parametrize("name", ["inpainting", "rotation", "simclr"])
def test_the_loss_goes_under_its_floor(name):
    images = faces()
    task = make(name, PLAIN)
    floor = task.floor(batch_of(images), RowGenerator(0, 9999, torch.arange(len(images))))
    before = torch.get_rng_state()
    learned = train(task, 40, images)
    assert learned["loss"] < 0.8 * floor["loss"]
    if "accuracy" in floor:
        assert learned["accuracy"] > floor["accuracy"] + 0.15
    assert task.last_embedding.shape == (len(task.last_embedding), 256)
    assert torch.equal(torch.get_rng_state(), before), "all draws come from the row generator"


@pytest.mark.parametrize("name", ["inpainting", "rotation", "simclr"])
def test_heads_are_named_and_settings_are_checked(name):
    assert make(name).heads() and "encoder" not in make(name).heads()
    with pytest.raises(UserError, match="preset"):
        make(name, {"presett": "XR"})
    with pytest.raises(UserError, match="crop"):
        make(name, {"views": {"crops": [0.1, 1]}})
    with pytest.raises(UserError, match="16 pixels"):
        make(name, view=View(size=8))


def test_every_task_takes_colour():
    for name in tasks().keys() - {"cross_channel"}:  # which names `colorization` instead
        size = 32 if name in BLOCKS else 36
        images = faces(8, size).expand(-1, 3, -1, -1)
        task = make(name, view=View(size=size, channels=3), in_channels=3)
        loss, _ = task(batch_of(images, task), RowGenerator(0, 0, torch.arange(8)))
        loss.backward()
        assert all(p.grad is not None for p in task.parameters() if p.requires_grad), name


@pytest.mark.parametrize("name", ["inpainting", "rotation", "simclr"])
def test_tasks_learn_on_volumes(name):
    images = cubes()
    task = make(name, PLAIN | ({"cells": 4} if name == "inpainting" else {}), View(size=16, spatial_dims=3), dims=3)
    floor = task.floor(batch_of(images), RowGenerator(0, 9999, torch.arange(len(images))))
    assert train(task, 40, images)["loss"] < 0.85 * floor["loss"]


def test_a_cube_turns_in_24_different_ways():
    x = torch.arange(27.0).view(1, 1, 3, 3, 3)
    ways = {tuple(turned(x, k).flatten().tolist()) for k in range(24)}
    assert len(ways) == 24
    corner = torch.stack([turned(x, k)[0, 0, 1, 1, 1] for k in range(24)])
    assert (corner == 13).all(), "the centre stays"
    labels = torch.arange(24)
    rows = turn(x.expand(24, -1, -1, -1, -1), labels)
    assert all(torch.equal(rows[k : k + 1], turned(x, k)) for k in range(24))
    for k in range(24):  # proper rotations: the handedness of three corners about the centre is kept
        at = [(turned(x, k)[0, 0] == value).nonzero()[0].float() - 1 for value in (22.0, 16.0, 14.0)]
        assert torch.linalg.det(torch.stack(at)) == pytest.approx(torch.linalg.det(torch.stack(
            [(x[0, 0] == value).nonzero()[0].float() - 1 for value in (22.0, 16.0, 14.0)])).item())  # fmt: skip
    view = View(size=16, spatial_dims=3)
    task = make("rotation", PLAIN | {"axes": "all"}, view, dims=3)
    assert task.head.out_features == 24
    with pytest.raises(UserError, match="equal sides"):
        make("rotation", {"axes": "all"})


def test_holes_of_volumes_are_cubes():
    hidden = holes(RowGenerator(0, 0, torch.arange(3)), 4, 0.25, torch.Size((16, 16, 16)))
    assert hidden.shape == (3, 1, 16, 16, 16) and (hidden.float().mean((1, 2, 3, 4)) == 0.25).all()
    blocks = hidden.view(3, 4, 4, 4, 4, 4, 4).permute(0, 1, 3, 5, 2, 4, 6).reshape(3, 64, 64).float().mean(2)
    assert set(blocks.flatten().tolist()) == {0.0, 1.0}


def test_pixels_are_shuffled_as_torch_does():
    x = torch.rand(2, 12, 3, 5)
    assert torch.equal(PixelShuffle(2)(x), torch.nn.functional.pixel_shuffle(x, 2))
    assert PixelShuffle(2)(torch.rand(2, 8, 3, 4, 5)).shape == (2, 1, 6, 8, 10)


def test_a_momentum_copy_follows_its_source():
    source = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    copy, before = MomentumCopy(source), source[0].weight.detach().clone()
    with torch.no_grad():
        source[0].weight += 1
        source[1].running_mean += 2
    copy.follow(source, 0.9)
    assert torch.allclose(copy.module[0].weight, before + 0.1) and not copy.module[0].weight.requires_grad
    assert torch.equal(copy.module[1].running_mean, source[1].running_mean)
    assert momentum_at(0, 100, 0.99) == pytest.approx(0.99) and momentum_at(100, 100, 0.99) == 1


def test_turns_are_those_of_rot90_and_labels_are_right():
    x, labels = torch.rand(5, 1, 6, 6), torch.tensor([0, 1, 2, 3, 1])
    for row, label in enumerate(labels):
        assert torch.equal(turn(x, labels)[row], torch.rot90(x[row], int(label), (-2, -1)))


@pytest.mark.parametrize("turns", ["one", "all"])
def test_rotation_asks_for_the_turn_that_it_made(turns, monkeypatch):
    """An encoder that sees a bright top row and a head that reads it off must be right every time."""
    task = make("rotation", {"turns": turns, "views": {"crop": [1, 1], "brightness": 0, "contrast": 0, "gamma": 0}})
    task.plan = task.plan.model_copy(update={"blur": 0.0, "noise": 0.0})
    x = torch.zeros(6, 1, 32, 32)
    x[:, :, 0] = 1
    edges = lambda v: torch.stack([v[..., 0, :], v[..., 0], v[..., -1, :], v[..., -1]], -1).mean((1, 2))  # noqa: E731
    monkeypatch.setattr(task.encoder, "embed", edges)
    task.head = torch.nn.Identity()  # counter-clockwise: top goes left, bottom, right
    assert float(task(batch_of(x), RowGenerator(0, 0, torch.arange(6)))[1]["accuracy"]) == 1


@pytest.mark.parametrize("name", sorted(set(tasks()) - {"colorization"}))
def test_contrasts_are_channels_to_every_task(name):
    """Four of MR, as for Swin UNETR; its pictures show the first one."""
    view = View(size=64, contrasts=tuple({"bids_suffix": suffix} for suffix in ("T1w", "T1c", "T2w", "FLAIR")))
    task = make(name, view=view, in_channels=4).train()
    ids, group = torch.arange(8), () if task.sampling == "image" else (task.group_size(task.settings),)
    images = torch.rand(8, *group, 4, 64, 64)
    index = torch.arange(images[..., 0, 0, 0].numel()).view(8, *group)
    scan = index // index.shape[-1] if task.sampling == "stack" else index
    place = torch.arange(float(group[0])).expand(8, -1) if group else torch.zeros(8)
    batch = Batch(images, index, scan, ids, ids, place, ids)
    task.meet(index.flatten(), ids.repeat_interleave(index[0].numel()))
    loss, _ = task(batch, RowGenerator(0, 0, ids))
    loss.backward()
    assert torch.isfinite(loss) and any(p.grad is not None for p in task.encoder.parameters())
    with torch.no_grad():
        shown = task.eval().show(batch, RowGenerator(0, 0, ids))
    assert {panel.shape[0] for picture in shown for panel in picture.panels} <= {1, 3}


def test_rotation_refuses_scans_that_are_squeezed():
    """Noise without any direction, 4 : 1 thick and resampled, let the turn be read."""
    rows = {"scan": ["a", "b"], "kind": "volume", "shape": [[20, 60, 60]] * 2, "spacing": [[1.2, 1, 1], [5, 1, 1]]}
    scans, cube = pd.DataFrame(rows), View(size=32, spatial_dims=3, spacing=1.0)
    kind, all_ways = task_class("rotation"), config.settings_for("task", "rotation", {"axes": "all"})
    kind.check_scans(scans[:1], cube, all_ways)
    kind.check_scans(scans, cube, config.settings_for("task", "rotation", {}))
    with pytest.raises(UserError, match="scan b has voxels of 5 x 1 x 1 mm"):
        kind.check_scans(scans, cube, all_ways)
    parts = config.settings_for("task", "combine", {"parts": {"rotation": {"settings": {"axes": "all"}}}})
    with pytest.raises(UserError, match="scan b has voxels"):
        task_class("combine").check_scans(scans, cube, parts)
    images = pd.DataFrame({"scan": ["c", "d"], "kind": ["image", "colour"], "spacing": None})
    images["shape"] = [[50, 52], [60, 90, 3]]
    plain = config.settings_for("task", "rotation", {})
    kind.check_scans(images, View(size=32), plain)
    kind.check_scans(images[:1], View(size=32, fit="stretch"), plain)
    with pytest.raises(UserError, match="scan d has a frame of 60 x 90"):
        kind.check_scans(images, View(size=32, fit="stretch"), plain)


def test_parts_that_see_tiles_alone_see_no_wholes_together():
    assert not make("combine", {"parts": {"jigsaw": {}, "relative_patch": {}}}, View(size=96)).sees_wholes
    assert make("combine", {"parts": {"jigsaw": {}, "rotation": {}}}, View(size=96)).sees_wholes


@pytest.mark.parametrize("name", ["inpainting", "autoencoder"])
def test_a_decoder_of_any_width_can_be_normalised_by_groups(name):
    task = make(name, {"width": 9}, encoder="small_gn")
    images = torch.rand(2, 1, 32, 32)
    ids = torch.arange(2)
    batch = Batch(images, ids, ids, ids, ids, torch.zeros(2), ids)
    assert torch.isfinite(task(batch, RowGenerator(0, 0, ids))[0])


def test_rotation_closes_its_shortcuts():
    with pytest.raises(UserError, match="bars"):
        make("rotation", view=View(size=32, fit="pad"))
    with pytest.raises(UserError, match="up-down"):
        make("rotation", {"views": {"flip_vertical": True}})
    assert not make("rotation", {"preset": "microscopy"}).plan.flip_vertical
    hidden = circle(torch.ones(1, 1, 32, 32))
    assert hidden[0, 0, 0, 0] == 0.5 and hidden[0, 0, 16, 16] == 1
    assert torch.equal(torch.rot90(hidden, 1, (-2, -1)), hidden)


def test_a_marker_in_the_corner_gives_the_turn_away_where_it_is_let_in():
    """Opened, images of noise are set upright by their marker; closed, they are not: noise has no way up."""
    accuracy = {}
    for mask in ("none", "circle"):
        task = make("rotation", STILL | {"mask": mask})
        accuracy[mask] = learn(task, marked, 40, 3e-3)
    assert accuracy["none"] > 0.8 and accuracy["circle"] < 0.4, accuracy


def marked(step):
    images = 0.5 + 0.1 * torch.randn(32, 1, 32, 32, generator=torch.Generator().manual_seed(step))
    images[:, :, :4, :4] = 1
    return batch_of(images)


def test_inpainting_counts_hidden_pixels_alone():
    hidden = holes(RowGenerator(0, 0, torch.arange(4)), 8, 0.25, torch.Size((32, 32)))
    assert (hidden.float().mean((1, 2, 3)) == 0.25).all()
    assert len({tuple(h.flatten().tolist()) for h in hidden}) == 4
    target = torch.rand(4, 1, 32, 32)
    assert float(masked_error(torch.where(hidden, target, 7.0), target, hidden)) == 0
    assert float(masked_error(torch.where(hidden, target + 2, 7.0), target, hidden)) == pytest.approx(4, rel=1e-4)


def test_the_inpainting_network_never_sees_what_it_must_paint():
    task = make("inpainting")
    one, other = faces(8), faces(8)
    generator = lambda: RowGenerator(0, 0, torch.arange(8))  # noqa: E731
    task.plan = task.plan.model_copy(
        update={"crop": (1.0, 1.0), "rotation": 0.0, "gamma": 0.0, "contrast": 0.0, "brightness": 0.0}
    )
    hidden = task.puzzle(batch_of(one), generator())[2]
    other[hidden] = 0
    assert torch.equal(*(task.puzzle(batch_of(x), generator())[1] for x in (one, other)))
