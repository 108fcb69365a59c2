"""Batched views against a slow reference, one sample at a time."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from medssl.augment import PRESETS, RowGenerator, Views, make_view, preset, preset_for
from medssl.augment import views as views_module
from medssl.augment.views import affine, bias_field, blur, cutout, geometry, intensity, window
from medssl.errors import UserError


def scans(n=6, channels=1, size=24, dims=2):
    rough = torch.rand((n, channels) + (size,) * dims, generator=torch.Generator().manual_seed(0))
    return torch.from_numpy(ndimage.gaussian_filter(rough.numpy(), [0, 0] + [1.5] * dims)) * 0.8 + 0.1


def generator(n=6, rows=None):
    return RowGenerator(3, 7, torch.arange(n) if rows is None else rows)


EVERYTHING = Views(
    crop=(0.3, 1), rotation=15, flip=True, flip_vertical=True, brightness=0.2, contrast=0.4, gamma=0.4, blur=0.5,
    noise=0.05, cutout=0.2, colour=0.2, gray=0.3, bias_field=0.3, window=0.2,
)  # fmt: skip


@pytest.mark.parametrize("rotation", [0, 20])
@pytest.mark.parametrize("dims", [2, 3])
def test_geometry_equals_map_coordinates(dims, rotation):
    x = scans(dims=dims, size=16)
    plan = Views(crop=(0.2, 0.9), rotation=rotation, flip=True, flip_vertical=True)
    ours = geometry(x, plan, generator())
    matrices = affine(dims, plan, generator()).numpy()
    size = x.shape[-1]
    axis = (np.arange(size) + 0.5) / size * 2 - 1
    places = np.stack(np.meshgrid(*[axis] * dims, indexing="ij")[::-1], -1)  # x first
    for row in range(len(x)):
        source = places @ matrices[row][:, :dims].T + matrices[row][:, dims]
        index = [((source[..., d] + 1) * size - 1) / 2 for d in range(dims)][::-1]
        expected = ndimage.map_coordinates(x[row, 0].numpy(), index, order=1, mode="reflect")
        assert np.abs(ours[row, 0].numpy() - expected).max() < 1e-4


def test_crops_stay_inside_and_keep_the_stated_share():
    plan = Views(crop=(0.2, 0.6))
    matrices = affine(2, plan, generator(500))
    scale, centre = matrices[:, [0, 1], [0, 1]], matrices[:, :, 2]
    assert (scale.abs() + centre.abs() <= 1 + 1e-5).all()
    share = scale.prod(1)
    assert 0.15 < share.min() < 0.25 and 0.5 < share.max() <= 0.6 + 1e-5
    assert (matrices[:, 0, 1] == 0).all()


@pytest.mark.parametrize("banded", [True, False], ids=["small", "large"])
@pytest.mark.parametrize("dims", [2, 3])
def test_blur_equals_a_gaussian_filter_and_leaves_sigma_0_alone(dims, banded, monkeypatch):
    monkeypatch.setattr("medssl.augment.views.BANDED", 96 if banded else 0)
    x, sigma = scans(dims=dims), torch.tensor([0.0, 0.3, 0.6, 0.9, 1.2, 0.0])
    ours = blur(x, sigma, 1.2 / 24)
    assert torch.equal(ours[0], x[0]) and torch.equal(ours[5], x[5])
    for row in range(1, 5):
        expected = ndimage.gaussian_filter(x[row, 0].numpy(), sigma[row].item(), mode="nearest", radius=3)
        assert np.abs(ours[row, 0].numpy() - expected).max() < 1e-5


def test_intensity_equals_its_formula():
    x = scans(channels=3)
    plan = Views(brightness=0.1, contrast=0.3, gamma=0.3, colour=0.2)
    ours = intensity(x, plan, generator())
    g = generator()
    gains, gamma, contrast, shift = g.between(-1, 1, 3), *(g.between(-1, 1)[:, 0] for _ in range(3))
    for row in range(len(x)):
        y = x[row].numpy() * (1.2 ** gains[row].numpy())[:, None, None]
        y = y ** (1.3 ** gamma[row].item())
        y = (y - y.mean()) * 1.3 ** contrast[row].item() + y.mean() + 0.1 * shift[row].item()
        assert np.abs(ours[row].numpy() - y.clip(0, 1)).max() < 1e-4


@pytest.mark.parametrize("dims", [2, 3])
def test_a_bias_field_is_smooth_and_as_strong_as_said(dims):
    x = torch.full((40, 1) + (24,) * dims, 0.5)
    field = bias_field(x, 0.4, generator(40)) / x
    assert 1 / 1.4 - 1e-5 <= field.min() < 0.8 and 1.25 < field.max() <= 1.4 + 1e-5
    t = (np.arange(24) + 0.5) / 12 - 1
    for row in field[:3, 0].log().numpy():  # Legendre polynomials up to order 3 and nothing else, by least squares
        for axis in range(dims):
            lines = np.moveaxis(row, axis, 0).reshape(24, -1)
            fitted = np.polynomial.legendre.legfit(t, lines, 3)
            assert np.abs(np.polynomial.legendre.legval(t, fitted).T - lines).max() < 1e-4


def test_a_window_is_another_readers_window():
    x, g = scans(), generator()
    ours = window(x, 0.3, generator())
    factor, shift = (g.between(-1, 1)[:, 0] for _ in range(2))
    for row in range(len(x)):
        width, level = 1.3 ** factor[row].item(), 0.5 + 0.15 * shift[row].item()
        low = level - width / 2
        assert np.abs(ours[row].numpy() - (x[row].numpy() - low) / width).max() < 1e-5


@pytest.mark.parametrize("name", ["MR", "CT"])
def test_what_was_added_last_leaves_all_other_draws_alone(name):
    with_them = preset(name).views
    without = with_them.model_copy(update={"bias_field": 0.0, "window": 0.0})
    hardly = with_them.model_copy(update={k: 1e-7 for k in ("bias_field", "window") if getattr(with_them, k)})
    x = scans()
    assert torch.allclose(make_view(x, without, generator()), make_view(x, hardly, generator()), atol=1e-4)
    assert not torch.allclose(make_view(x, without, generator()), make_view(x, with_them, generator()), atol=1e-2)


def test_the_numbers_behind_a_view_are_those_of_2026():
    """Runs of weeks depend on them: the same seed, step and row give the same view in every version."""
    x = torch.linspace(0, 1, 2 * 16 * 16).view(2, 1, 16, 16)
    view = make_view(x, preset("XR").views, RowGenerator(1, 2, torch.arange(2)))
    assert view[0, 0, 3, 4:7].tolist() == pytest.approx([0.056015, 0.086127, 0.054399], abs=2e-5)


@pytest.mark.parametrize(("dims", "channels"), [(2, 1), (2, 3), (3, 1)])
def test_rows_changed_a_few_at_a_time_are_the_same(dims, channels, monkeypatch):
    x, g, h = scans(5, channels, 16, dims), generator(5), generator(5)
    whole = [make_view(x, EVERYTHING, g) for _ in range(2)]
    monkeypatch.setattr(views_module, "CACHED", 2 * x[0].numel())
    for view in whole:
        assert torch.allclose(view, make_view(x, EVERYTHING, h), atol=1e-5)


@pytest.mark.parametrize(("dims", "channels"), [(2, 1), (2, 3), (3, 1)])
def test_a_row_looks_the_same_whatever_is_beside_it(dims, channels):
    x = scans(8, channels, 16, dims)
    whole = make_view(x, EVERYTHING, generator(8))
    part = make_view(x[[5, 2]], EVERYTHING, generator(rows=torch.tensor([5, 2])))
    assert whole.shape == x.shape and whole.min() >= 0 and whole.max() <= 1
    assert torch.allclose(whole[[5, 2]], part, atol=1e-5)
    assert (whole - x).flatten(1).abs().mean(1).min() > 0.01


def test_two_views_of_a_batch_differ_and_the_same_step_repeats():
    x, g = scans(), generator()
    first, second = make_view(x, EVERYTHING, g), make_view(x, EVERYTHING, g)
    assert (first - second).abs().flatten(1).mean(1).min() > 0.01
    assert torch.equal(first, make_view(x, EVERYTHING, generator()))


def test_nothing_asked_nothing_changed():
    x = scans()
    assert torch.equal(make_view(x, Views(), generator()), x)


def test_presets_keep_the_side_and_say_why():
    for name in ("XR", "CT", "MR", "colour", "general"):
        assert not PRESETS[name].views.flip, name
    for name in ("XR", "CT", "MR", "US", "colour", "general"):
        assert not PRESETS[name].views.flip_vertical and PRESETS[name].reason, name
    assert preset_for("DX") == "XR" and preset_for("", colour=True) == "colour" and preset_for("") == "general"
    with pytest.raises(UserError, match="Known"):
        preset("XRAY")


@pytest.mark.parametrize("dims", [2, 3])
def test_cutout_equals_a_box_written_by_hand(dims):
    x = scans(dims=dims, size=16)
    ours, g = cutout(x, 0.3, generator()), generator()
    side, place = g.between(0, 0.3)[:, 0] ** (1 / dims), g.uniform(dims)
    for row in range(len(x)):
        expected, mean = x[row, 0].numpy().copy(), x[row].mean().item()
        for index in np.ndindex(*expected.shape):
            lows = [place[row, d].item() * (1 - side[row].item()) for d in range(dims)]
            if all(lo <= (i + 0.5) / 16 < lo + side[row].item() for i, lo in zip(index, lows, strict=True)):
                expected[index] = mean
        assert np.abs(ours[row, 0].numpy() - expected).max() < 1e-6


@pytest.mark.parametrize("dims", [2, 3])
def test_a_whole_view_is_its_parts_one_sample_at_a_time(dims):
    """The batched way against each row alone, change after change, with the same draws."""
    x, plan = scans(dims=dims, size=16), EVERYTHING
    ours = make_view(x, plan, generator())
    for row in range(len(x)):
        g, one = RowGenerator(3, 7, torch.tensor([row])), x[row : row + 1]
        y = geometry(one, plan, g)
        aside = g.beside()
        y = window(bias_field(y, plan.bias_field, aside), plan.window, aside).clamp(0, 1)
        y = intensity(y, plan, g)
        sigma = g.between(*plan.blur_sigma)[:, 0].item() * 16
        if bool(g.chance(plan.blur)):
            y = torch.from_numpy(
                ndimage.gaussian_filter(y[0, 0].numpy(), sigma, mode="nearest", radius=1)
            )[None, None]  # fmt: skip
        y = y + g.between(0, plan.noise)[:, 0].item() * g.noise(y.shape[1:])
        y = cutout(y, plan.cutout, g).clamp(0, 1)
        assert (y - ours[row : row + 1]).abs().max() < 1e-4


def test_cutout_hides_at_most_the_stated_share():
    x = scans(64)
    hidden = (make_view(x, Views(cutout=0.25), generator(64)) != x).float().mean((1, 2, 3))
    assert 0.02 < hidden.mean() < 0.25 and hidden.max() < 0.36
