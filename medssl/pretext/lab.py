"""Colour spaces and their bins: Lab with quantised ab (Zhang 2016), hue and chroma (Larsson 2016). All in torch."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

# sRGB (IEC 61966-2-1) to XYZ and the white of D65 for the 2-degree observer, so that white is (100, 0, 0)
TO_XYZ = torch.tensor([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
TO_RGB = torch.linalg.inv(TO_XYZ.double()).float()
WHITE = torch.tensor([0.95047, 1.0, 1.08883])
EPSILON, KAPPA = 6 / 29, 841 / 108  # CIE 15: below EPSILON the cube root goes on as a straight line


def rgb_to_lab(rgb: Tensor) -> Tensor:
    """(N, 3, H, W) sRGB in [0, 1] -> L in [0, 100], a and b in about [-110, 110]."""
    linear = torch.where(rgb > 0.04045, ((rgb.clamp_min(0.04) + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    xyz = torch.einsum("ij,njhw->nihw", (TO_XYZ / WHITE[:, None]).to(rgb), linear)
    f = torch.where(xyz > EPSILON**3, xyz.clamp_min(1e-3) ** (1 / 3), KAPPA * xyz + 4 / 29)
    x, y, z = f.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


def lab_to_rgb(lab: Tensor) -> Tensor:
    """The way back; colours that no screen shows are clipped to [0, 1]."""
    lightness, a, b = lab.unbind(1)
    y = (lightness + 16) / 116
    f = torch.stack([y + a / 500, y, y - b / 200], 1)
    xyz = torch.where(f > EPSILON, f**3, (f - 4 / 29) / KAPPA)
    linear = torch.einsum("ij,njhw->nihw", (TO_RGB * WHITE).to(lab), xyz)
    curved = 1.055 * linear.clamp_min(0.0031) ** (1 / 2.4) - 0.055
    return torch.where(linear > 0.0031308, curved, 12.92 * linear).clamp(0, 1)


@lru_cache(maxsize=4)
def ab_bins(step: float) -> Tensor:
    """(Q, 2): centres, multiples of `step` in a and b, of the bins that some colour of a screen falls into.

    With the paper's step of 10 there are 261; the paper's own list has 313, since it counts the rim of the gamut in.
    """
    edge = torch.linspace(0, 1, 65)
    cube = torch.stack(torch.meshgrid(edge, edge, edge, indexing="ij")).view(1, 3, -1, 1)
    ab = rgb_to_lab(cube)[0, 1:, :, 0].T
    return (ab / step).round().unique(dim=0) * step


def nearest_bins(ab: Tensor, bins: Tensor, count: int, sigma: float) -> tuple[Tensor, Tensor]:
    """Soft encoding (Zhang 2016, section 2.2): the nearest bins, weighted by a Gaussian of their distance.

    Args:
        ab: (..., 2).
        bins: (Q, 2).
        count: bins a pixel (the paper's 5).
        sigma: of the Gaussian, in units of ab (the paper's 5).

    Returns:
        (indices, weights), both (..., count), the nearest bin first; weights of a pixel add up to 1.
    """
    flat = ab.reshape(-1, 2)
    # |p - q|^2 less |p|^2, which is the same for all bins: one matrix product instead of Q differences a pixel
    distance = torch.addmm((bins**2).sum(1), flat, bins.T, alpha=-2)
    near, index = distance.topk(min(count, len(bins)), 1, largest=False)
    weight = torch.softmax(-near / (2 * sigma**2), 1)
    shape = (*ab.shape[:-1], index.shape[1])
    return index.view(shape), weight.view(shape)


def annealed_mean(logits: Tensor, values: Tensor, temperature: float) -> Tensor:
    """One value a place: the mean of a distribution sharpened to f_T(z) = exp(log z / T) / sum (Zhang 2016, 2.3).

    T = 1 is the mean, which is dull, T towards 0 the mode, which is spotty.

    Args:
        logits: (N, Q, *spatial).
        values: (Q, D).

    Returns:
        (N, D, *spatial).
    """
    sharp = torch.softmax(logits.float().log_softmax(1) / temperature, 1)
    return torch.einsum("nq...,qd->nd...", sharp, values)


def hue_chroma(rgb: Tensor) -> tuple[Tensor, Tensor]:
    """Hue in [0, 1) and chroma in [0, 1] of HSV, both (N, H, W), of (N, 3, H, W); hue is 0 where there is no chroma."""
    high, which = rgb.max(1)
    chroma = high - rgb.amin(1)
    red, green, blue = rgb.unbind(1)
    raw = torch.stack([green - blue, blue - red, red - green], 1).gather(1, which[:, None])[:, 0]
    sixth = raw / chroma.clamp_min(1e-6) + 2 * which
    return torch.where(chroma > 1e-6, (sixth / 6) % 1.0, 0.0), chroma


def hue_chroma_to_rgb(hue: Tensor, chroma: Tensor, lightness: Tensor) -> Tensor:
    """(N, 3, H, W) in [0, 1] of this hue and chroma, moved along gray until its L of Lab is `lightness`; (N, H, W)."""
    sector = (hue * 6)[:, None] + torch.tensor([0.0, 4.0, 2.0], device=hue.device).view(1, 3, 1, 1)
    pure = ((sector % 6 - 3).abs() - 1).clamp(0, 1) * chroma[:, None]
    low, high = torch.zeros_like(lightness), 1 - chroma
    for _ in range(10):  # L grows with gray: halving finds it to a thousandth
        middle = (low + high) / 2
        darker = rgb_to_lab(pure + middle[:, None])[:, 0] < lightness
        low, high = torch.where(darker, middle, low), torch.where(darker, high, middle)
    return (pure + low[:, None]).clamp(0, 1)


def tally(index: Tensor, weight: Tensor, bins: int) -> Tensor:
    """(bins,) float32: sum of the weights, (M,) in [0, 1], of each bin, (M,). Added up as whole numbers, so that a GPU
    finds the same in any order."""
    whole = torch.zeros(bins, dtype=torch.int64, device=index.device)
    return (whole.index_add_(0, index, (weight.double() * 2**30).round().long()).double() / 2**30).float()


def circular_mean(probabilities: Tensor) -> Tensor:
    """(N, *spatial) in [0, 1): the mean direction of a histogram over the hue circle, (N, K, *spatial)."""
    bins = probabilities.shape[1]
    angle = (torch.arange(bins, device=probabilities.device) + 0.5) / bins * 2 * math.pi
    x, y = (torch.einsum("nk...,k->n...", probabilities, part) for part in (angle.cos(), angle.sin()))
    return (torch.atan2(y, x) / (2 * math.pi)) % 1.0


def hue_chroma_histograms(rgb: Tensor, count: int, cell: int) -> tuple[Tensor, Tensor, Tensor]:
    """What Larsson 2016 asks for (section 3.2), over cells of `cell` x `cell` pixels instead of 7 x 7 about a pixel.

    A pixel counts for the hue as much as it has chroma, since gray has none.

    Args:
        rgb: (N, 3, H, W), sides divided by `cell`.
        count: bins, K.
        cell: pixels a side.

    Returns:
        Histograms (N, K, H / cell, W / cell) of hue and of chroma, each adding up to 1, and the mean chroma of each
        cell (N, H / cell, W / cell). The hue of a cell without chroma is even.
    """
    hue, chroma = hue_chroma(rgb)
    height, width = (side // cell for side in rgb.shape[2:])
    place = torch.arange(len(rgb) * height * width, device=rgb.device).view(len(rgb), height, 1, width, 1)
    place = place.expand(-1, -1, cell, -1, cell).reshape(hue.shape)
    found = []
    for value, weight in ((hue, chroma), (chroma, torch.ones_like(chroma))):
        index = (place * count + (value * count).long().clamp(max=count - 1)).flatten()
        sums = tally(index, weight.flatten(), len(rgb) * height * width * count)
        sums = sums.view(len(rgb), height, width, count).permute(0, 3, 1, 2)
        total = sums.sum(1, keepdim=True)
        found.append(torch.where(total > 1e-4, sums / total.clamp_min(1e-4), 1 / count))
    return found[0], found[1], F.avg_pool2d(chroma[:, None], cell)[:, 0]
