"""From features back to pixels, for the tasks that paint an image."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl.config import View
from medssl.encoders import Encoder
from medssl.encoders.resnet import CONV, norm_layer

LINEAR = {2: "bilinear", 3: "trilinear"}


def decoder_of(encoder: Encoder, width: int, view: View) -> Decoder:
    """From the encoder's coarsest features to images as the View has them; normalised as the encoder is."""
    grouped = any(isinstance(module, nn.GroupNorm) for module in encoder.modules())
    coarse = encoder.channels[-1], encoder.strides[-1]
    return Decoder(view.spatial_dims, *coarse, width, view.channels, "group" if grouped else "batch")


def blank_error(target: Tensor) -> float:
    """Of (N, C, *spatial) where every pixel is painted with its image's mean: what comes without learning."""
    return float(target.flatten(2).var(2, correction=0).mean())


class Decoder(nn.Module):
    """From the coarsest features to pixels: two doublings with a 3x3 convolution each, the rest by pixel shuffle."""

    def __init__(self, dims: int, inputs: int, stride: int, width: int, channels: int, norm: str) -> None:
        super().__init__()
        left = max(1, stride // 4)
        conv, self.mode = CONV[dims], LINEAR[dims]
        self.body = nn.Sequential(
            conv(inputs, 2 * width, 1, bias=False),
            norm_layer(norm, dims, 2 * width),
            nn.ReLU(inplace=True),
            nn.Upsample(scale_factor=2, mode=self.mode),
            conv(2 * width, width, 3, padding=1, bias=False),
            norm_layer(norm, dims, width),
            nn.ReLU(inplace=True),
            nn.Upsample(scale_factor=2, mode=self.mode),
            conv(width, channels * left**dims, 3, padding=1),
            PixelShuffle(left),
        )

    def forward(self, x: Tensor, size: torch.Size) -> Tensor:
        """(N, inputs, *small) -> (N, channels, *size)."""
        y = self.body(x)
        return y if y.shape[2:] == size else F.interpolate(y, size, mode=self.mode)


class PixelShuffle(nn.Module):
    """torch's PixelShuffle for any number of spatial dims (Shi 2016): blocks of channels become blocks of pixels."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """(N, C * factor^dims, *spatial) -> (N, C, *(factor * spatial))."""
        rows, channels, *spatial = x.shape
        dims, factor = len(spatial), self.factor
        blocks = x.view(rows, channels // factor**dims, *[factor] * dims, *spatial)
        pairs = [axis for d in range(dims) for axis in (2 + dims + d, 2 + d)]
        return blocks.permute(0, 1, *pairs).reshape(rows, -1, *[factor * s for s in spatial])
