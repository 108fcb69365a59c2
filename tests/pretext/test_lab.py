"""Colour spaces and soft bins against scikit-image and against loops that are plainly right."""

import colorsys
import math

import numpy as np
import pytest
import torch

from medssl.pretext import lab
from medssl.pretext.soft_bins import Frequencies, best_constant, cross_entropy


@pytest.fixture
def rgb():
    g = torch.Generator().manual_seed(0)
    corners = torch.stack(torch.meshgrid(*[torch.tensor([0.0, 1.0])] * 3, indexing="ij")).view(1, 3, 2, 4)
    return torch.cat([torch.rand(2, 3, 2, 4, generator=g), 0.05 * torch.rand(1, 3, 2, 4, generator=g), corners])


def test_lab_is_that_of_scikit_image(rgb):
    color = pytest.importorskip("skimage.color")
    theirs = color.rgb2lab(rgb.permute(0, 2, 3, 1).numpy().astype(np.float64))
    ours = lab.rgb_to_lab(rgb)
    np.testing.assert_allclose(ours.permute(0, 2, 3, 1), theirs, atol=1e-3)
    np.testing.assert_allclose(lab.lab_to_rgb(ours), rgb, atol=1e-4)
    beyond = torch.tensor([60.0, 90.0, -90.0]).view(1, 3, 1, 1)  # no screen shows it
    assert lab.lab_to_rgb(beyond).min() >= 0 and lab.lab_to_rgb(beyond).max() <= 1


def test_bins_cover_the_gamut():
    bins = lab.ab_bins(10.0)
    assert len(bins) == 261 and (bins % 10 == 0).all() and len(bins.unique(dim=0)) == len(bins)
    g = torch.Generator().manual_seed(1)
    ab = lab.rgb_to_lab(torch.rand(1, 3, 40, 40, generator=g))[0, 1:].flatten(1).T
    assert torch.cdist(ab, bins).amin(1).max() < 10 / math.sqrt(2) + 1


def test_soft_encoding_is_that_of_a_loop():
    bins = lab.ab_bins(10.0)
    ab = torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(2)) * 30
    index, weight = lab.nearest_bins(ab, bins, 5, 5.0)
    assert index.shape == weight.shape == (2, 3, 5)
    for i in range(2):
        for j in range(3):
            distances = sorted((math.dist(ab[i, j].tolist(), bin_.tolist()), q) for q, bin_ in enumerate(bins))[:5]
            shares = [math.exp(-(d**2) / (2 * 5.0**2)) for d, _ in distances]
            assert [q for _, q in distances] == index[i, j].tolist()
            np.testing.assert_allclose(weight[i, j], np.array(shares) / sum(shares), atol=1e-4)


def test_annealed_mean_is_that_of_a_loop():
    logits = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(3)) * 3
    values = torch.tensor([[0.0, 1.0], [2.0, -1.0], [5.0, 5.0], [-7.0, 0.0]])
    found = lab.annealed_mean(logits, values, 0.38)
    z = np.exp(logits[1, :, 2, 0].double().numpy())
    z /= z.sum()
    sharp = np.exp(np.log(z) / 0.38)
    np.testing.assert_allclose(found[1, :, 2, 0], (sharp / sharp.sum()) @ values.numpy(), atol=1e-4)
    plain = torch.einsum("nqhw,qd->ndhw", logits.softmax(1), values)
    torch.testing.assert_close(lab.annealed_mean(logits, values, 1.0), plain)
    mode = values[logits.argmax(1)].movedim(-1, 1)
    torch.testing.assert_close(lab.annealed_mean(logits, values, 0.001), mode)


def test_hue_and_chroma_are_those_of_the_standard_library(rgb):
    hue, chroma = lab.hue_chroma(rgb)
    for n, y, x in np.ndindex(len(rgb), 2, 4):
        h, s, v = colorsys.rgb_to_hsv(*rgb[n, :, y, x].double().tolist())
        assert chroma[n, y, x].item() == pytest.approx(s * v, abs=1e-5)
        if s * v > 0.01:
            assert abs(hue[n, y, x].item() - h) % 1 == pytest.approx(0, abs=1e-3)
    back = lab.hue_chroma_to_rgb(hue, chroma, lab.rgb_to_lab(rgb)[:, 0])
    torch.testing.assert_close(back, rgb, atol=3e-3, rtol=0)


def test_histograms_are_those_of_a_loop(rgb):
    hue, chroma, amount = lab.hue_chroma_histograms(rgb, 8, 2)
    raw_hue, raw_chroma = lab.hue_chroma(rgb)
    assert hue.shape == chroma.shape == (len(rgb), 8, 1, 2)
    torch.testing.assert_close(hue.sum(1), torch.ones(len(rgb), 1, 2))
    h, c = raw_hue[1, :, 2:].flatten(), raw_chroma[1, :, 2:].flatten()
    slow_hue, slow_chroma = np.zeros(8), np.zeros(8)
    for one, much in zip(h.tolist(), c.tolist(), strict=True):
        slow_hue[min(7, int(one * 8))] += much
        slow_chroma[min(7, int(much * 8))] += 1
    np.testing.assert_allclose(hue[1, :, 0, 1], slow_hue / slow_hue.sum(), atol=1e-5)
    np.testing.assert_allclose(chroma[1, :, 0, 1], slow_chroma / 4, atol=1e-5)
    assert amount[1, 0, 1].item() == pytest.approx(c.mean().item(), abs=1e-5)
    gray = torch.full((1, 3, 2, 2), 0.4)
    assert (lab.hue_chroma_histograms(gray, 8, 2)[0] == 1 / 8).all()


def test_the_mean_hue_goes_round_the_circle():
    probabilities = torch.zeros(1, 8, 1, 1)
    probabilities[0, [0, 7]] = 0.5  # both beside red, on its two sides
    assert math.cos(2 * math.pi * lab.circular_mean(probabilities).item()) == pytest.approx(1, abs=1e-6)


def test_rare_bins_weigh_more_and_the_mean_weight_is_one():
    seen = Frequencies(4)
    assert (seen.importance(0.5) == 1).all(), "nothing is known yet"
    index = torch.tensor([[[0, 1]]] * 3 + [[[2, 1]]])  # (N, 1, 2)
    weight = torch.tensor([[[0.75, 0.25]]]).expand(4, -1, -1)
    seen.meet(index, weight)
    assert (seen.importance(0.5) == 1).all(), "a step's own counts come after it"
    seen.settle()
    p = torch.tensor([9.0, 4.0, 3.0, 0.0]) / 16
    torch.testing.assert_close(seen.counts, p)
    raw = 1 / (0.5 * p + 0.5 / 4)
    torch.testing.assert_close(seen.importance(0.5), raw / (raw * p).sum())
    torch.testing.assert_close(seen.importance(1.0), torch.ones(4))
    assert set(seen.state_dict()) == {"counts"}


def test_cross_entropy_is_that_of_a_dense_truth():
    g = torch.Generator().manual_seed(4)
    logits = torch.randn(2, 6, 3, generator=g)
    index = torch.stack([torch.randperm(6, generator=g)[:2] for _ in range(6)]).view(2, 3, 2)
    weight = torch.rand(2, 3, 2, generator=g)
    importance = torch.rand(2, 3, generator=g)
    dense = torch.zeros(2, 3, 6).scatter_(2, index, weight).movedim(-1, 1)
    slow = -(importance * (dense * logits.log_softmax(1)).sum(1)).mean()
    torch.testing.assert_close(cross_entropy(logits, index, weight, importance), slow)


def test_no_other_constant_is_better_than_the_floor():
    g = torch.Generator().manual_seed(5)
    index = torch.randint(6, (4, 5, 2), generator=g)
    weight = torch.tensor([0.8, 0.2]).expand(4, 5, 2)
    importance = 0.5 + torch.rand(4, 5, generator=g)
    floor = best_constant(index, weight, importance, 6)
    logits = torch.zeros(6, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=60)

    def closure():
        optimizer.zero_grad()
        loss = cross_entropy(logits.view(1, 6, 1).expand(4, 6, 5), index, weight, importance)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert closure().item() == pytest.approx(floor["loss"], abs=1e-4)
