"""One random view of every image of a batch: crop, flip and rotation in one resampling, then intensity, blur, noise.

All rows go through the same tensor operations with parameters of their own. Torchvision's transforms on a batch share
one draw over the batch, which would leave contrastive views with nothing to tell apart.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from medssl.augment.random import RowGenerator
from medssl.config import Strict

Share = Annotated[float, Field(ge=0, le=1)]
Kept = Annotated[float, Field(gt=0, le=1)]  # share of an image that a crop keeps: of nothing there is no picture
Positive = Annotated[float, Field(ge=0)]


CACHED = 1 << 19  # pixels that are changed at once on a CPU
BANDED = 96  # pixels a side, up to which a blur is a product of matrices


class Views(Strict):
    """How strongly a view may differ from its image. 0 turns a change off.

    Attributes:
        crop: smallest and largest share of the area (volume in 3-D) that a crop keeps; (1, 1) for no crop.
        aspect: by how much each side of a crop may be longer or shorter: the ratio of two is its square at most.
        rotation: degrees either way.
        flip: left and right may be swapped.
        flip_vertical: up and down may be swapped.
        brightness: added, either way, as a share of the full range.
        contrast: factor between 1/(1 + contrast) and 1 + contrast about the image's mean.
        gamma: exponent between 1/(1 + gamma) and 1 + gamma.
        blur: probability of a Gaussian blur.
        blur_sigma: smallest and largest sigma, as shares of the image's side.
        noise: largest standard deviation of added Gaussian noise.
        cutout: largest share of the area that a gray box may hide.
        colour: gain of each colour channel between 1/(1 + colour) and 1 + colour; colour images only.
        gray: probability that a colour image loses its colour.
        bias_field: smooth gain between 1/(1 + bias_field) and 1 + bias_field over the image, as MR coils leave one.
        window: the CT window's width changes by a factor between 1/(1 + window) and 1 + window, its level by up to
            half of `window` times the width.
    """

    crop: tuple[Kept, Kept] = (1.0, 1.0)
    aspect: Annotated[float, Field(ge=1)] = 4 / 3
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    flip: bool = False
    flip_vertical: bool = False
    brightness: Share = 0.0
    contrast: Positive = 0.0
    gamma: Positive = 0.0
    blur: Share = 0.0
    blur_sigma: tuple[Share, Share] = (0.002, 0.02)
    noise: Share = 0.0
    cutout: Share = 0.0
    colour: Positive = 0.0
    gray: Share = 0.0
    bias_field: Positive = 0.0
    window: Share = 0.0


def make_view(images: Tensor, views: Views, generator: RowGenerator) -> Tensor:
    """A new random view of every image.

    Args:
        images: (N, C, *spatial) float in [0, 1], 2 or 3 spatial dims.
        views: what may change and how much.
        generator: of the same N rows.

    Returns:
        (N, C, *spatial) float in [0, 1].
    """
    with torch.autocast(images.device.type, enabled=False):  # bf16 has 8 bits for a coordinate: too few
        if images.device.type != "cpu":
            return _make_view(images, views, generator)
        # On a CPU a few rows at a time, so that what one change leaves is still in the cache when the next one comes.
        # Rows draw their own numbers, so this changes none of them.
        rows = max(1, CACHED // max(1, images[:1].numel()))
        out, done = torch.empty_like(images, memory_format=torch.contiguous_format), generator
        for start in range(0, len(images), rows):
            part = slice(start, start + rows)
            out[part] = _make_view(images[part], views, done := generator.part(part))
        generator.skip_like(done)
        return out


def geometry(images: Tensor, views: Views, generator: RowGenerator) -> Tensor:
    """Crop, flip and rotation as one affine map, so that every pixel is interpolated once.

    Axes that no rotation mixes are interpolated one after the other: linear interpolation is separable, and a product
    with an (S, S) matrix costs less than looking up eight neighbours of every voxel.
    """
    if views.crop == (1.0, 1.0) and not (views.rotation or views.flip or views.flip_vertical):
        return images
    dims = images.ndim - 2
    maps = affine(dims, views, generator)
    straight = range(dims - 2) if views.rotation else range(dims)
    for axis in straight:  # x, the last axis, comes first in `maps`
        scale, centre = maps[:, dims - 1 - axis, dims - 1 - axis], maps[:, dims - 1 - axis, dims]
        images = along(images, interpolation(scale, centre, images.shape[2 + axis]), axis)
    if not views.rotation:
        return images
    flat = images.flatten(1, -3)  # in 3-D the plane of the last two axes turns, with the slices as channels
    plane = maps[:, :2, [0, 1, dims]]
    grid = F.affine_grid(plane, [len(flat), 1, *flat.shape[2:]], align_corners=False)
    return F.grid_sample(flat, grid, padding_mode="reflection", align_corners=False).view(images.shape)


def interpolation(scale: Tensor, centre: Tensor, size: int) -> Tensor:
    """(N, size, size): the weights of linear interpolation at scale * position + centre, in [-1, 1] coordinates."""
    places = torch.arange(size, device=scale.device, dtype=scale.dtype)
    wanted = scale[:, None] * ((2 * places + 1) / size - 1) + centre[:, None]
    wanted = (((wanted + 1) * size - 1) / 2).clamp(0, size - 1)
    return (1 - (wanted[:, :, None] - places).abs()).clamp_(min=0)


def along(x: Tensor, matrices: Tensor, axis: int) -> Tensor:
    """Multiply each row of x, (N, C, *spatial), along one spatial axis by its own (S, S) matrix."""
    size = x.shape[2 + axis]
    after = math.prod(x.shape[3 + axis :])
    if after == 1:
        return torch.bmm(x.reshape(len(x), -1, size), matrices.transpose(1, 2)).view(x.shape)
    before = math.prod(x.shape[1 : 2 + axis])
    return torch.matmul(matrices[:, None], x.reshape(len(x), before, size, after)).view(x.shape)


def affine(dims: int, views: Views, generator: RowGenerator) -> Tensor:
    """(N, dims, dims + 1): where each output position comes from, in [-1, 1] coordinates with x (the last axis) first.

    The crop's share of the area is uniform, and so is the logarithm of each side's factor (Szegedy 2015 draws the ratio
    of the sides, which cannot be done alike for three); its place is uniform over all that lie inside the image.
    Rotation is in the plane of the last two axes.
    """
    share = generator.between(*views.crop)
    aspect = torch.exp(math.log(views.aspect) * generator.between(-1, 1, dims))
    aspect = aspect / aspect.prod(1, keepdim=True) ** (1 / dims)
    size = (share ** (1 / dims) * aspect).clamp(max=1)
    centre = (1 - size) * generator.between(-1, 1, dims)
    flips = torch.ones_like(size)
    if views.flip:
        flips[:, 0] = torch.where(generator.chance(0.5), -1.0, 1.0)
    if views.flip_vertical:
        flips[:, 1] = torch.where(generator.chance(0.5), -1.0, 1.0)
    turn = torch.diag_embed(torch.ones_like(size))
    if views.rotation:
        angle = math.radians(views.rotation) * generator.between(-1, 1)[:, 0]
        cos, sin = torch.cos(angle), torch.sin(angle)
        turn[:, :2, :2] = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    return torch.cat([turn * (size * flips)[:, None, :], centre[:, :, None]], 2)


def intensity(x: Tensor, views: Views, generator: RowGenerator) -> Tensor:
    """Colour, gamma, contrast, brightness, in this order."""
    if views.colour and x.shape[1] == 3:
        gains = torch.exp(math.log1p(views.colour) * generator.between(-1, 1, 3))
        x = x * gains.view(len(x), 3, *[1] * (x.ndim - 2))
    if views.gray and x.shape[1] == 3:
        gone = _column(generator.chance(views.gray), x)
        x = torch.where(gone, x.mean(1, keepdim=True), x)
    if views.gamma:
        exponent = torch.exp(math.log1p(views.gamma) * generator.between(-1, 1)[:, 0])
        x = torch.exp(torch.log(x.clamp_min(1e-4)) * _column(exponent, x))  # 3 times faster than pow
    if views.contrast or views.brightness:
        factor = _column(torch.exp(math.log1p(views.contrast) * generator.between(-1, 1)[:, 0]), x)
        mean = x.flatten(1).mean(1).view(factor.shape)
        shift = _column(views.brightness * generator.between(-1, 1)[:, 0], x)
        x = x * factor + (mean * (1 - factor) + shift)
    return x.clamp(0, 1)


def blur(x: Tensor, sigma: Tensor, largest: float) -> Tensor:
    """Gaussian blur with a sigma of its own, in pixels, for every row; rows with sigma 0 stay as they are.

    One product with a banded matrix an axis, at small sizes several times faster than the convolutions of large ones.

    Args:
        x: (N, C, *spatial).
        sigma: (N,) in pixels.
        largest: the largest possible sigma as a share of the side; the kernel reaches two of these.
    """
    chosen = sigma.nonzero()[:, 0]
    if not len(chosen):
        return x
    reach = max(1, math.ceil(2 * largest * x.shape[-1]))
    offsets = torch.arange(-reach, reach + 1, device=x.device)
    kernel = torch.exp(-0.5 * (offsets / sigma[chosen].clamp_min(1e-3)[:, None]) ** 2)
    kernel = kernel / kernel.sum(1, keepdim=True)
    blurred = x[chosen]
    for axis, size in enumerate(x.shape[2:]):
        if size > BANDED:
            blurred = _convolved(blurred, kernel, axis)
            continue
        places = torch.arange(size, device=x.device)
        taken = (places[:, None] + offsets).clamp(0, size - 1)  # beyond the border its own value goes on
        band = (taken[:, :, None] == places).to(x.dtype).transpose(0, 1).reshape(len(offsets), -1)
        blurred = along(blurred, (kernel @ band).view(-1, size, size), axis)
    return x.index_copy(0, chosen, blurred)


def _convolved(x: Tensor, kernel: Tensor, axis: int) -> Tensor:
    """x (N, C, *spatial) with a kernel (N, K) for each row along one axis; beyond the border its own value goes on."""
    lines = x.movedim(axis + 2, -1)
    rows = lines.reshape(len(x), -1, lines.shape[-1]).transpose(0, 1)
    rows = F.pad(rows, [kernel.shape[1] // 2] * 2, mode="replicate")
    out = F.conv1d(rows, kernel[:, None].to(x.dtype), groups=len(x))
    return out.transpose(0, 1).reshape(lines.shape).movedim(-1, axis + 2)


def cutout(x: Tensor, largest: float, generator: RowGenerator) -> Tensor:
    """Hide a box of up to `largest` of the area behind the image's mean (DeVries 2017)."""
    dims = x.ndim - 2
    side = generator.between(0, largest)[:, 0] ** (1 / dims)
    place = generator.uniform(dims)
    inside = torch.ones((len(x), 1, *x.shape[2:]), dtype=torch.bool, device=x.device)
    for axis, length in enumerate(x.shape[2:]):
        low = place[:, axis] * (1 - side)
        centres = (torch.arange(length, device=x.device) + 0.5) / length
        here = (centres >= low[:, None]) & (centres < (low + side)[:, None])
        shape = [len(x), 1] + [1] * dims
        shape[2 + axis] = length
        inside &= here.view(shape)
    return torch.where(inside, _column(x.flatten(1).mean(1), x), x)


def bias_field(x: Tensor, strength: float, generator: RowGenerator) -> Tensor:
    """Multiply by a smooth field between 1/(1 + strength) and 1 + strength, as MR coils leave one (Sudre 2017).

    Its logarithm is a sum of products of Legendre polynomials up to order 3, one factor an axis, with random weights.
    """
    dims = x.ndim - 2
    weights = generator.between(-1, 1, 4**dims).view(-1, *[4] * dims)
    weights = weights / weights.flatten(1).abs().sum(1).view(-1, *[1] * dims)  # the polynomials are within -1 and 1
    field = weights[:, None]
    for size in x.shape[2:]:
        t = (torch.arange(size, device=x.device, dtype=x.dtype) + 0.5) / size * 2 - 1
        basis = torch.stack([torch.ones_like(t), t, (3 * t**2 - 1) / 2, (5 * t**3 - 3 * t) / 2], 1)
        field = torch.tensordot(field, basis, ([2], [1]))  # takes the first axis that is left, puts the new one last
    largest = field.flatten(1).abs().amax(1).clamp_min(1e-6)
    reached = math.log1p(strength) * generator.uniform(1)[:, 0]
    return x * torch.exp(field * _column(reached / largest, field))


def window(x: Tensor, strength: float, generator: RowGenerator) -> Tensor:
    """Show a CT as if its window were up to 1 + strength times wider or narrower and its level moved by up to
    strength / 2 of the width. What the View's own window cut off does not come back."""
    width = torch.exp(math.log1p(strength) * generator.between(-1, 1)[:, 0])
    level = 0.5 + strength / 2 * generator.between(-1, 1)[:, 0]
    return (x - _column(level, x)) / _column(width, x) + 0.5


def _make_view(images: Tensor, views: Views, generator: RowGenerator) -> Tensor:
    x = geometry(images, views, generator)
    if views.bias_field or views.window:
        apart = generator.beside()  # the other changes draw the same numbers with and without these two
        if views.bias_field:
            x = bias_field(x, views.bias_field, apart)
        if views.window:
            x = window(x, views.window, apart).clamp_(0, 1)
    x = intensity(x, views, generator)
    if views.blur:
        sigma = generator.between(*views.blur_sigma)[:, 0] * images.shape[-1]
        x = blur(x, torch.where(generator.chance(views.blur), sigma, 0.0), views.blur_sigma[1])
    if views.noise:
        deviation = _column(generator.between(0, views.noise)[:, 0], x)
        x = torch.addcmul(x, deviation, generator.noise(x.shape[1:]))
    if views.cutout:
        x = cutout(x, views.cutout, generator)
    return x.clamp(0, 1)


def _column(values: Tensor, like: Tensor) -> Tensor:
    """(N,) as (N, 1, 1, ...), to meet (N, C, *spatial)."""
    return values.view(-1, *[1] * (like.ndim - 1))
