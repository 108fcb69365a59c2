"""Colorization: learns colours, sees none, refuses gray, and the exact number of L gives nothing away."""

import pytest
import torch
from test_tasks import batch_of, make

from medssl.augment import RowGenerator
from medssl.config import View
from medssl.errors import UserError
from medssl.pretext import lab, task_class
from medssl.pretext.colorization import lightness

STILL = {"views": {"crop": [1, 1], "rotation": 0, "flip": False}}
COLOUR = View(size=32, channels=3)


def stained(n=32, size=32, seed=0):
    """Cells on a slide: discs are violet, bars are red, and both are as light as each other."""
    g = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, size)] * 2, indexing="ij")
    place = torch.rand(n, 2, 1, 1, generator=g) - 0.5
    disc = torch.zeros(n, dtype=torch.bool).index_fill_(0, torch.arange(0, n, 2), True)[:, None, None]
    round_ = (x - place[:, 0]) ** 2 + (y - place[:, 1]) ** 2 < 0.16
    bar = ((x - place[:, 0]).abs() < 0.15) & ((y - place[:, 1]).abs() < 0.8)
    there = torch.where(disc, round_, bar)
    ab = torch.where(
        disc[:, None], torch.tensor([30.0, -40.0]).view(1, 2, 1, 1), torch.tensor([50.0, 30.0]).view(1, 2, 1, 1)
    )
    values = torch.cat([torch.where(there, 45.0, 85.0)[:, None], ab * there[:, None]], 1)
    return lab.lab_to_rgb(values)


def generator(n):
    return RowGenerator(0, 9999, torch.arange(n))


def colorize(settings=None, view=COLOUR):
    return make("colorization", STILL | (settings or {}), view, in_channels=3)


@pytest.mark.parametrize("form", ["ab", "hypercolumn"])
def test_it_learns_colours_from_shape(form):
    images = stained()
    task = colorize({"form": form})
    floor = task.train().floor(batch_of(images), generator(32))
    optimizers = task.optimizers(3e-3)
    for step in range(60):
        loss, metrics = task(batch_of(images), RowGenerator(0, step, torch.arange(32)))
        optimizers[0].zero_grad()
        loss.backward()
        optimizers[0].step()
        task.after_step(step, 60)
    assert float(loss.detach()) < 0.7 * floor["loss"] and metrics.keys() == floor.keys() - {"loss"}
    task.eval()
    painted = task.recolored(images)
    inside = lab.rgb_to_lab(images)[:, 1:].abs().sum(1, keepdim=True) > 20
    error = ((lab.rgb_to_lab(painted) - lab.rgb_to_lab(images))[:, 1:] * inside).norm(dim=1).sum() / inside.sum()
    gray = (lab.rgb_to_lab(images)[:, 1:] * inside).norm(dim=1).sum() / inside.sum()
    assert error < 0.7 * gray, "nearer to the true colours than gray is"
    assert (lab.rgb_to_lab(painted)[:, 0] - lab.rgb_to_lab(images)[:, 0]).abs().median() < 2, "as light as before"


def test_the_truth_is_the_mean_colour_of_each_cell():
    task = colorize()
    images = stained(2)
    index, weight = task.truth(images)
    assert index.shape == weight.shape == (2, 8, 8, 5)
    mean = lab.rgb_to_lab(images)[1, 1:, 12:16, 16:20].mean((1, 2))
    slow, shares = lab.nearest_bins(mean, task.bins, 5, 5.0)
    assert index[1, 3, 4].tolist() == slow.tolist()
    torch.testing.assert_close(weight[1, 3, 4], shares)


def test_what_the_network_sees_has_no_colour_and_256_levels():
    fine = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    seen = lightness(fine)
    assert torch.equal(seen[:, 0], seen[:, 1]) and torch.equal(seen[:, 0], seen[:, 2])
    assert torch.equal((seen * 255).round() / 255, seen) and len(seen.unique()) <= 256
    again = lightness(lab.lab_to_rgb(lab.rgb_to_lab(fine) * torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)))
    assert (again - seen).abs().max() <= 1 / 255 + 1e-6, "images that differ in colour alone look the same"


def test_the_exact_lightness_would_give_colours_away():
    """Of pictures of 8 bits nearly every colour has an L of its own: looking it up paints them without any network.
    Rounded to 256 levels the same lookup does little better than the mean colour."""
    g = torch.Generator().manual_seed(0)
    palette = (torch.rand(1, 3, 1, 3000, generator=g) * 255).round() / 255
    values = lab.rgb_to_lab(palette)[0, :, 0]
    for key, told in ((values[0], True), ((values[0] * 2.55).round(), False)):
        same = key[:, None] == key[None]
        looked_up = (same.float() @ values[1:].T) / same.sum(1, keepdim=True)
        error = (looked_up - values[1:].T).norm(dim=1).mean()
        blank = (values[1:].T - values[1:].mean(1)).norm(dim=1).mean()
        assert error < 0.1 * blank if told else error > 0.8 * blank


def test_changes_of_colour_are_off_whatever_the_preset():
    task = make("colorization", {"preset": "microscopy"}, COLOUR, in_channels=3)
    assert task.plan.colour == task.plan.gray == task.plan.contrast == task.plan.brightness == 0
    assert task.plan.flip_vertical, "the preset's flips stay"


def test_gray_is_refused_and_cross_channel_named():
    with pytest.raises(UserError) as refused:
        task_class("colorization").check(View(size=32))
    assert "cross_channel" in refused.value.text("view")
    with pytest.raises(UserError) as refused:
        task_class("colorization").check(View(size=32, windows=[(0, 1), (1, 2), (2, 3)]))
    assert "cross_channel" in refused.value.text("view")
    gray = stained(4).mean(1, keepdim=True).expand(-1, 3, -1, -1)
    with pytest.raises(UserError, match="gray in three channels"):
        colorize().floor(batch_of(gray), generator(4))
    with pytest.raises(UserError, match="cells of 5"):
        colorize({"cell": 5})


def test_rebalancing_makes_rare_colours_count():
    images = stained(8)
    even, rare = colorize({"rebalance": 1.0}), colorize({"rebalance": 0.1})
    for task in (even, rare):
        task(batch_of(images), generator(8))
        task.after_step(0, 1)
    index = even.truth(images)[0][..., 0]
    common = index.flatten().mode().values
    weights = rare.seen.importance(0.1)[index]
    assert (even.seen.importance(1.0) == 1).all()
    assert weights[index != common].mean() > 3 * weights[index == common].mean()


def test_show_gives_input_answer_and_truth():
    task = colorize().eval()
    with torch.no_grad():
        shown = task.show(batch_of(stained(2)), generator(2))
    assert len(shown) == 2 and shown[0].captions == ["seen", "answer", "truth"]
    assert all(panel.shape == (3, 32, 32) for panel in shown[0].panels)
    torch.testing.assert_close(shown[1].panels[2], stained(2)[1])
