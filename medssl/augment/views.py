"""One random view of every image of a batch: crop, flip and rotation in one resampling, then intensity, blur, noise.

All rows go through the same tensor operations with parameters of their own; a row that is not to be blurred is
blurred with sigma 0. Torchvision's transforms on a batch share one draw over the batch, which would leave contrastive
views with nothing to tell apart.
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
Positive = Annotated[float, Field(ge=0)]


class Views(Strict):
    """How strongly a view may differ from its image. 0 turns a change off.

    Attributes:
        crop: smallest and largest share of the area (volume in 3-D) that a crop keeps; (1, 1) for no crop.
        aspect: largest ratio of a crop's sides.
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
    """

    crop: tuple[Share, Share] = (1.0, 1.0)
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
        return _make_view(images, views, generator)


def geometry(images: Tensor, views: Views, generator: RowGenerator) -> Tensor:
    """Crop, flip and rotation as one affine map, so that every pixel is interpolated once."""
    if views.crop == (1.0, 1.0) and not (views.rotation or views.flip or views.flip_vertical):
        return images
    grid = F.affine_grid(affine(images.ndim - 2, views, generator), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def affine(dims: int, views: Views, generator: RowGenerator) -> Tensor:
    """(N, dims, dims + 1): where each output position comes from, in [-1, 1] coordinates with x (the last axis) first.

    The crop's share of the area is uniform, its aspect log-uniform as in Szegedy 2015; its place is uniform over all
    that lie inside the image. Rotation is in the plane of the last two axes.
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

    Args:
        x: (N, C, *spatial).
        sigma: (N,) in pixels.
        largest: the largest possible sigma as a share of the side; the kernel reaches two of these.
    """
    reach = max(1, math.ceil(2 * largest * x.shape[-1]))
    offsets = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma.clamp_min(1e-3)[:, None]) ** 2)
    kernel = kernel / kernel.sum(1, keepdim=True)
    rows, channels, *spatial = x.shape
    dims = len(spatial)
    convolve = F.conv2d if dims == 2 else F.conv3d
    kernel = kernel.repeat_interleave(channels, 0)
    flat = x.reshape(1, rows * channels, *spatial)
    for axis in range(dims):
        shape, padding = [1] * dims, [0] * (2 * dims)
        shape[axis] = len(offsets)
        padding[2 * (dims - 1 - axis) : 2 * (dims - axis)] = [reach, reach]
        padded = F.pad(flat, padding, mode="replicate")
        flat = convolve(padded, kernel.view(-1, 1, *shape), groups=rows * channels)
    return flat.view_as(x)


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


def _make_view(images: Tensor, views: Views, generator: RowGenerator) -> Tensor:
    x = geometry(images, views, generator)
    x = intensity(x, views, generator)
    if views.blur:
        sigma = generator.between(*views.blur_sigma)[:, 0] * images.shape[-1]
        x = blur(x, torch.where(generator.chance(views.blur), sigma, 0.0), views.blur_sigma[1])
    if views.noise:
        x = x + _column(generator.between(0, views.noise)[:, 0], x) * generator.noise(x.shape[1:])
    if views.cutout:
        x = cutout(x, views.cutout, generator)
    return x.clamp(0, 1)


def _column(values: Tensor, like: Tensor) -> Tensor:
    """(N,) as (N, 1, 1, ...), to meet (N, C, *spatial)."""
    return values.view(-1, *[1] * (like.ndim - 1))
