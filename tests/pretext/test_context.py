"""Jigsaw, relative patch, Models Genesis and the autoencoders: puzzles are what they say, and shortcuts are closed."""

import pytest
import torch
from test_tasks import STILL, batch_of, faces, learn, make

from medssl import config
from medssl.augment import RowGenerator
from medssl.config import View
from medssl.encoders import create_encoder
from medssl.errors import UserError
from medssl.pretext import genesis, task_class
from medssl.pretext.tiles import cut, permutations, standardised


def rows(n):
    return RowGenerator(0, 0, torch.arange(n))


@pytest.mark.parametrize("dims", [2, 3])
def test_tiles_come_from_their_cells_and_never_touch(dims):
    grid, size, side = (3, 8, 30) if dims == 2 else (2, 8, 22)
    axes = torch.meshgrid(*[torch.arange(float(side))] * dims, indexing="ij")
    images = torch.stack(axes)[None].expand(4, *[-1] * (dims + 1)).contiguous()  # the channels are the coordinates
    cells = torch.stack([torch.randperm(grid**dims, generator=torch.Generator().manual_seed(i)) for i in range(4)])
    tiles = cut(images, cells, grid, size, rows(4))
    assert tiles.shape == (4, grid**dims, dims, *[size] * dims)
    places = tiles.flatten(3)
    assert ((places.amax(3) - places.amin(3)) == size - 1).all(), "a tile is a window of neighbours"
    cell = side // grid
    for axis in range(dims):
        number = cells // grid ** (dims - 1 - axis) % grid
        assert (places[:, :, axis].amin(2) // cell == number).all()
        assert (places[:, :, axis].amax(2) // cell == number).all()
    assert len(places[:, :, 0].amin(2).remainder(cell).unique()) > 1, "the place in the cell is drawn"


def test_permutations_are_far_apart_and_the_same_every_time():
    chosen = permutations(9, 50)
    distance = (chosen[:, None] != chosen[None]).sum(2)
    assert distance[~torch.eye(50, dtype=torch.bool)].min() >= 7
    permutations.cache_clear()
    assert torch.equal(permutations(9, 50), chosen)
    with pytest.raises(ValueError, match="2"):
        permutations(2, 3)


def test_jigsaw_asks_for_the_order_that_it_laid():
    task = make("jigsaw", STILL | {"normalise": False}, View(size=48))
    images = torch.arange(9.0).view(1, 1, 3, 3).expand(6, -1, -1, -1).repeat_interleave(16, 2).repeat_interleave(16, 3)
    tiles, labels = task.puzzle(batch_of(images / 9), rows(6))
    assert torch.equal((tiles.flatten(2).mean(2) * 9).round().long(), task.orders[labels])


@pytest.mark.parametrize("dims", [2, 3])
def test_relative_patch_asks_for_the_side_that_it_chose(dims):
    task = make("relative_patch", STILL | {"normalise": False}, View(size=36, spatial_dims=dims))
    count = 3**dims
    images = torch.arange(float(count)).view(1, 1, *[3] * dims)
    for axis in range(dims):
        images = images.repeat_interleave(12, 2 + axis)
    patches, labels = task.puzzle(batch_of(images.expand(20, *[-1] * (dims + 1)) / count), rows(20))
    cells = (patches.flatten(2).mean(2) * count).round().long()
    centre = count // 2
    assert (cells[:, 0] == centre).all()
    assert torch.equal(cells[:, 1], labels + (labels >= centre)) and (cells[:, 1] != centre).all()


@pytest.mark.parametrize("name", ["jigsaw", "relative_patch"])
def test_standardising_hides_where_a_tile_was(name):
    """Opened, brightness that falls off from the centre tells the answer to anybody; closed, it does not."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 48), torch.linspace(-1, 1, 48), indexing="ij")
    ramp = (0.5 + 0.3 * x + 0.15 * y)[None, None].expand(64, -1, -1, -1)
    noisy = ramp + 0.02 * torch.randn(64, 1, 48, 48, generator=torch.Generator().manual_seed(0))
    means = {}
    for normalise in (True, False):
        task = make(name, STILL | {"normalise": normalise}, View(size=48))
        tiles, labels = task.puzzle(batch_of(noisy), rows(64))
        means[normalise] = tiles.flatten(2).mean(2), labels
    assert float(means[True][0].std()) < 1e-3, "closed: every tile is as bright as the next"
    brightness, labels = means[False]
    if name == "relative_patch":  # opened: brightness alone tells left from right
        difference = brightness[:, 1] - brightness[:, 0]
        cells = labels + (labels >= 4)
        assert (difference[cells % 3 == 2] > 0).all() and (difference[cells % 3 == 0] < 0).all()
    else:
        assert float(brightness.std()) > 0.1


@pytest.mark.parametrize(("name", "chance"), [("jigsaw", 0.25), ("relative_patch", 0.125)])
def test_brightness_that_falls_off_gives_the_place_away_where_it_is_let_in(name, chance):
    """Opened, tiles of noise are put in their places; closed, they are not. Noise teaches no feature."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 48), torch.linspace(-1, 1, 48), indexing="ij")
    own = {"permutations": 4} if name == "jigsaw" else {}
    ramp = 0.5 + 0.3 * x + 0.15 * y

    def shaded(step):
        return batch_of(ramp + 0.1 * torch.randn(32, 1, 48, 48, generator=torch.Generator().manual_seed(step)))

    accuracy = {}
    for normalise in (False, True):
        task = make(name, STILL | own | {"normalise": normalise}, View(size=48))
        accuracy[normalise] = learn(task, shaded, 60, 3e-3)
    assert accuracy[False] > 3 * chance, f"opened: {accuracy}"
    assert accuracy[True] < chance + 0.08, f"closed: {accuracy}"


def test_a_standardised_tile_of_one_value_stays_finite():
    assert torch.isfinite(standardised(torch.zeros(2, 3, 1, 8, 8))).all()


@pytest.mark.parametrize("name", ["jigsaw", "relative_patch"])
def test_too_small_images_are_refused_with_the_size_that_is_needed(name):
    with pytest.raises(UserError, match=r"single point to the last stage of 'small'.*needs 9 pixels(.|\n)*--size"):
        make(name, {"gap": 0.5}, View(size=32))


def test_genesis_curves_are_monotone_and_its_shuffling_keeps_every_pixel():
    ramp = torch.linspace(0, 1, 64 * 64).view(1, 1, 64, 64).expand(12, -1, -1, -1).contiguous()
    bent = genesis.bezier(ramp, rows(12)).flatten(1)
    steps = bent.diff(dim=1)
    up, down = (steps >= 0).all(1), (steps <= 0).all(1)
    assert (up | down).all() and up.any() and down.any()
    assert len({tuple(row[:50].tolist()) for row in bent}) == 12
    images = torch.rand(4, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    moved = genesis.shuffled(images, 16, rows(4))
    assert not torch.equal(moved, images)
    windows = lambda x: x.unfold(2, 4, 4).unfold(3, 4, 4).flatten(4).sort(4).values  # noqa: E731
    assert torch.equal(windows(moved), windows(images))
    same = (moved == images).float().mean()
    assert 0.4 < float(same) < 0.7, "half of the windows"


def test_genesis_boxes_leave_something_and_hide_something():
    hidden = genesis.boxes(torch.Size((48, 48)), RowGenerator(0, 0, torch.arange(200)))
    share = hidden.float().mean((1, 2, 3))
    assert share.min() > 0.15 and share.max() < 0.9 and len(share.unique()) > 100


@pytest.mark.parametrize("name", ["genesis", "denoising"])
def test_what_is_painted_is_the_image_before_the_damage(name):
    task = make(name, STILL)
    target, seen = task.puzzle(batch_of(faces(8)), rows(8))
    assert torch.equal(target, faces(8)) and not torch.equal(seen, target)
    assert seen.min() >= 0 and seen.max() <= 1


def test_cpc_knows_nothing_of_the_rows_below():
    task = make("cpc", STILL).eval()
    z = torch.randn(2, 128, 5, 5)
    before = task.summed_up(z)
    z[:, :, 3:] = torch.randn(2, 128, 2, 5)
    after = task.summed_up(z)
    assert torch.equal(before[:, :, :3], after[:, :, :3]) and not torch.equal(before[:, :, 3:], after[:, :, 3:])


def test_cpc_predicts_no_patch_that_shares_pixels_with_those_it_knows():
    task = make("cpc", STILL, View(size=36))
    images = torch.arange(36.0)[None, None, :, None].expand(1, 1, 36, 36) / 36  # the brightness is the row
    spans = images.unfold(2, task.size, task.size // 2).unfold(3, task.size, task.size // 2)[0, 0, :5, 0]
    assert spans[0].max() >= spans[1].min() and spans[0].max() < spans[2].min()
    assert task.patches(images).shape == (25, 1, task.size, task.size)


def test_a_combination_is_the_weighted_sum_of_its_parts_on_one_encoder():
    parts = {"rotation": {"weight": 2.0}, "inpainting": {"weight": 0.5, "settings": {"cells": 4}}}
    task = make("combine", {"parts": parts})
    loss, metrics = task(batch_of(faces(8)), rows(8))
    total = 2 * metrics["rotation_loss"] + 0.5 * metrics["inpainting_loss"]
    assert float(loss) == pytest.approx(float(total), rel=1e-6)
    assert task.parts["rotation"].encoder is task.encoder and task.parts["inpainting"].settings.cells == 4
    names = [name for name, _ in task.named_parameters()]
    assert sum("stem" in name for name in names) == sum("stem" in n for n, _ in task.encoder.named_parameters())
    assert not any("encoder" in key for head in task.heads().values() for key in head.state_dict())
    for bad in ({}, {"combine": {}}, "trio"):
        with pytest.raises(UserError, match="combin"):
            make("combine", {"parts": bad})
    with pytest.raises(UserError, match="rotatoin"):
        make("combine", {"parts": {"rotatoin": {}}})


def test_adversaries_in_a_combination_keep_their_own_optimizers():
    """Whose steps, moments and clipping are then those of the task alone."""
    adversarial = {"inpainting": {"settings": {"adversarial": 0.01}}, "infomax": {}, "rotation": {}}
    task = make("combine", {"parts": adversarial}, View(size=32))
    players = task.optimizers(0.1)
    owned = [{id(p) for group in one.param_groups for p in group["params"]} for one in players]
    rates = [one.param_groups[0]["lr"] for one in players]
    judge, critic = task.parts["inpainting"].discriminator, task.parts["infomax"].critic
    assert owned[1:] == [{id(p) for p in player.parameters()} for player in (judge, critic)]
    assert rates == pytest.approx([0.1, 0.01, 0.1])
    assert {id(p) for p in task.encoder.parameters()} < owned[0] and not owned[0] & (owned[1] | owned[2])
    assert sum(map(len, owned)) == len([p for p in task.parameters() if p.requires_grad])


@pytest.mark.parametrize("name", ["rotation", "simclr", "dino"])
def test_an_encoder_that_shrinks_an_image_to_a_point_is_refused(name):
    """There a CPU in bf16 hands out gradients of whatever lay in the memory."""
    encoder = create_encoder("resnet10t")  # stride 32
    size = 32 if name == "dino" else 16  # dino's small crops have half the side
    with pytest.raises(UserError, match="needs 17 pixels"):
        task_class(name)(encoder, config.settings_for("task", name, {}), View(size=size))
