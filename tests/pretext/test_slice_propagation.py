"""Slice propagation: copies are what the equations say, masks travel, and both shortcuts are closed."""

import pytest
import torch
import torch.nn.functional as F
from test_tasks import faces, make

from medssl.augment import RowGenerator
from medssl.config import View
from medssl.errors import UserError
from medssl.pretext import Batch
from medssl.pretext.slice_propagation import LEAST, Settings, carried, copied, quantiles, scored, shrunk, spread

STILL = {"views": {"crop": [1, 1], "rotation": 0, "brightness": 0, "contrast": 0}}


def rows(n, step=0):
    return RowGenerator(0, step, torch.arange(n))


def stacks(images):
    """(N, K, C, H, W) as a batch."""
    n, k = images.shape[:2]
    ids = torch.arange(n)
    each = ids[:, None].expand(n, k)
    return Batch(images, each, each, ids, ids, torch.arange(float(k)).expand(n, k), ids)


def growing(n=16, size=32, slices=2, seed=0):
    """Faces whose parts grow and drift from slice to slice."""
    side = size + 4 * slices
    cut = [faces(n, side, seed)[..., k : side - k, 2 * k : side - k] for k in range(slices)]
    return torch.stack([F.interpolate(x, (size, size), mode="bilinear") for x in cut], 1)


def test_copies_equal_a_loop_over_places():
    g = torch.Generator().manual_seed(0)
    s = Settings(levels=5, temperature=0.3, references=2)
    references = F.normalize(torch.randn(2, 2, 6, 3, 4, generator=g), dim=2)
    target = F.normalize(torch.randn(2, 6, 3, 4, generator=g), dim=1)
    levels = torch.randint(5, (2, 2, 3, 4), generator=g)
    truth = torch.randint(5, (2, 3, 4), generator=g)
    painted, losses = copied(references, target, levels, s), []
    for n in range(2):
        for j in range(12):
            f = target[n, :, j // 4, j % 4]
            keys = [references[n, r, :, i // 4, i % 4] for r in range(2) for i in range(12)]
            weights = torch.softmax(torch.stack([f @ k for k in keys]) / 0.3, 0)
            flat = [int(levels[n, r, i // 4, i % 4]) for r in range(2) for i in range(12)]
            expected = torch.tensor([sum(float(weights[i]) for i in range(24) if flat[i] == c) for c in range(5)])
            assert torch.allclose(painted[n, j], expected, atol=1e-5)
            losses.append(-torch.log(expected[truth[n, j // 4, j % 4]] + LEAST))
    loss, metrics = scored(painted, truth)
    assert float(loss) == pytest.approx(float(torch.stack(losses).mean()), rel=1e-4)
    assert float(metrics["accuracy"]) == float((painted.argmax(2) == truth.flatten(1)).float().mean())


def test_levels_are_as_common_as_each_other_and_follow_the_gray():
    gray = torch.rand(3, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    levels = quantiles(gray, 4)
    assert all((torch.bincount(row.flatten(), minlength=4) - 32).abs().max() <= 1 for row in levels)
    order = gray.flatten(1).argsort(1)
    assert (levels.flatten(1).gather(1, order).diff(dim=1) >= 0).all()
    flat = quantiles(torch.zeros(1, 2, 4, 4), 4)
    assert (flat == flat[0, 0, 0, 0]).all(), "a blank stack has one level"
    assert torch.equal(quantiles(gray * 0.3 + 0.2, 4), levels), "whatever its contrast"


def test_a_mask_goes_with_what_it_resembles_and_stays_whole_where_nothing_moves():
    g = torch.Generator().manual_seed(0)
    places = F.normalize(torch.randn(1, 16, 8, 8, generator=g), dim=1)
    mask = torch.randint(3, (32, 32), generator=g)
    labels = F.one_hot(mask, 3).permute(2, 0, 1)[None].float()
    assert torch.equal(carried(places, places, labels, 2, 0.001).argmax(1)[0], mask)
    moved = carried(places.roll((1, -2), (2, 3)), places, labels, 2, 0.001).argmax(1)[0]
    inner = (slice(12, 20), slice(4, 20))  # what did not come around the edge
    assert torch.equal(moved[inner], mask.roll((4, -8), (0, 1))[inner])


def test_carrying_equals_a_loop_over_windows():
    g = torch.Generator().manual_seed(1)
    target, reference = (F.normalize(torch.randn(1, 4, 5, 6, generator=g), dim=1) for _ in range(2))
    labels = torch.rand(1, 2, 10, 12, generator=g)
    ours = carried(target, reference, labels, 1, 0.2)
    for y in range(5):
        for x in range(6):
            near = [(v, u) for v in range(y - 1, y + 2) for u in range(x - 1, x + 2) if 0 <= v < 5 and 0 <= u < 6]
            scores = torch.stack([target[0, :, y, x] @ reference[0, :, v, u] / 0.2 for v, u in near])
            block = sum(w * labels[0, :, 2 * v : 2 * v + 2, 2 * u : 2 * u + 2]
                        for w, (v, u) in zip(torch.softmax(scores, 0), near, strict=True))  # fmt: skip
            assert torch.allclose(ours[0, :, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2], block, atol=1e-5)


def test_a_stack_is_filled_from_its_masked_slice_in_both_directions():
    features = torch.randn(1, 8, 4, 4, generator=torch.Generator().manual_seed(0)).expand(5, -1, -1, -1)
    features = F.normalize(features, dim=1)
    mask = torch.zeros(30, 30, dtype=torch.int64)  # not a multiple of the places
    mask[8:20, 10:22] = 2
    filled = spread(features, mask, 2, 1, 0.001)
    assert filled.shape == (5, 30, 30)
    assert all((row == mask).float().mean() > 0.93 for row in filled), "but for rounded borders"


def test_the_slice_to_be_painted_gives_no_level_away():
    """What is copied comes from the references alone."""
    task, batch = make("slice_propagation", STILL), stacks(growing())
    assert task.group_size(task.settings) == 2
    slices, seen = task.puzzle(batch, rows(16))
    assert torch.equal(slices, batch.images) and not torch.allclose(seen, slices)
    assert seen.min() >= 0 and seen.max() <= 1


def matched_by_gray(settings, batch):
    """How often a reader is right who takes the places whose gray, as seen, is nearest; he knows no anatomy."""
    task = make("slice_propagation", settings, View(size=32))
    slices, seen = task.puzzle(batch, rows(len(batch.rows)))
    levels = quantiles(shrunk(slices, (8, 8)), 16)
    gray = shrunk(seen, (8, 8)).flatten(2)
    nearest = (gray[:, 1, :, None] - gray[:, 0, None, :]).abs().argmin(2)
    return float((levels[:, 0].flatten(1).gather(1, nearest) == levels[:, 1].flatten(1)).float().mean())


def test_brightness_would_find_the_level_without_anatomy():
    batch = stacks(growing(64))
    opened, closed = (matched_by_gray(STILL | {"curves": curves}, batch) for curves in (False, True))
    assert opened > 0.25 and closed < opened / 3


def test_the_same_place_would_have_the_same_level():
    batch = stacks(faces(64)[:, None].expand(-1, 2, -1, -1, -1))
    still, moved = ({"views": {"brightness": 0, "contrast": 0}} | x for x in (STILL, {}))
    right = []
    for settings in (still, moved):
        task = make("slice_propagation", settings)
        slices, _ = task.puzzle(batch, rows(64))
        levels = quantiles(shrunk(slices, (8, 8)), 16)
        right.append(float((levels[:, 0] == levels[:, 1]).float().mean()))
    assert right[0] == 1 and right[1] < 0.6


def test_it_learns_more_than_its_floor():
    batch, task = stacks(growing(16)), make("slice_propagation", {})
    optimizer = task.optimizers(3e-3)[0]
    floor = task.floor(batch, rows(16, 9999))
    seen = []
    for step in range(45):
        loss, metrics = task(batch, rows(16, step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append((float(loss.detach()), float(metrics["accuracy"])))
    loss, accuracy = (sum(x[-10:]) / 10 for x in zip(*seen, strict=True))
    assert loss < 0.9 * floor["loss"] and accuracy > floor["accuracy"] + 0.03
    assert all(p.grad is not None for p in task.parameters())


def test_it_says_what_it_needs():
    with pytest.raises(UserError, match="32 pixels"):
        make("slice_propagation", view=View(size=16))
    with pytest.raises(UserError, match="2 spatial dims"):
        make("slice_propagation", view=View(size=32, spatial_dims=3))
