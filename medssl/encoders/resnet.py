"""The house's encoder for CPUs: a ResNet (He 2016) of ten layers, 1.2 million weights in 2-D and 0.9 million in 3-D.

`small` has batch normalisation. `small_gn` has group normalisation (Wu 2018), which knows no batch: for few images at
once, for accumulation, and for several processes. The other names differ in width and depth alone, to ask whether
bigger encoders need fewer labels (SimCLRv2, Chen 2020, arXiv:2006.10029, figure 1).
"""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor, nn

from medssl.encoders.base import Encoder
from medssl.encoders.small_maps import SmallMapConv2d

CONV = {2: SmallMapConv2d, 3: nn.Conv3d}
NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
GROUPS = 8
# In 3-D a quarter of ResNet-10's widths: a 48-voxel cube costs as much as a hundred 64-pixel images at these.
WIDTHS = {2: (32, 64, 128, 256), 3: (16, 32, 64, 128)}


class Shape(NamedTuple):
    """norm: `batch` or `group`; width: times the house's; depth: blocks a stage."""

    norm: str = "batch"
    width: float = 1
    depth: int = 1


SMALL = {
    "small": Shape(),
    "small_gn": Shape(norm="group"),
    "small_narrow": Shape(width=0.5),
    "small_wide": Shape(width=2),
    "small_narrow_deep": Shape(width=0.5, depth=2),
    "small_deep": Shape(depth=2),
    "small_wide_deep": Shape(width=2, depth=2),
}


def norm_layer(kind: str, spatial_dims: int, width: int) -> nn.Module:
    """`batch` or `group` normalisation of `width` channels."""
    return NORM[spatial_dims](width) if kind == "batch" else nn.GroupNorm(math.gcd(GROUPS, width), width)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; the shortcut is projected where the shape changes."""

    def __init__(self, spatial_dims: int, inputs: int, width: int, stride: int, norm: str) -> None:
        super().__init__()
        conv = CONV[spatial_dims]
        self.conv1 = conv(inputs, width, 3, stride, padding=1, bias=False)
        self.norm1 = norm_layer(norm, spatial_dims, width)
        self.conv2 = conv(width, width, 3, padding=1, bias=False)
        self.norm2 = norm_layer(norm, spatial_dims, width)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != width:
            self.shortcut = nn.Sequential(
                conv(inputs, width, 1, stride, bias=False), norm_layer(norm, spatial_dims, width)
            )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.norm1(self.conv1(x)))
        return self.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class SmallResNet(Encoder):
    """Stem 3x3 with stride 2, then stages with strides 1, 2, 2, 2: 64 pixels end as 4 x 4 features."""

    def __init__(self, name: str, spatial_dims: int, in_channels: int, share: int = 1) -> None:
        norm, times, depth = SMALL[name]
        widths = [int(width * times) // share for width in WIDTHS[spatial_dims]]
        super().__init__(
            name,
            spatial_dims,
            in_channels,
            channels=list(widths),
            strides=[2, 4, 8, 16],
            embed_dim=widths[-1],
            mean=[0.5] * in_channels,
            std=[0.25] * in_channels,
        )
        self.stem = nn.Sequential(
            CONV[spatial_dims](in_channels, widths[0], 3, 2, padding=1, bias=False),
            norm_layer(norm, spatial_dims, widths[0]),
            nn.ReLU(inplace=True),
        )
        inputs = (widths[0], *widths[:-1])
        self.stages = nn.ModuleList()
        for before, width, stride in zip(inputs, widths, (1, 2, 2, 2), strict=True):
            first = BasicBlock(spatial_dims, before, width, stride, norm)
            more = [BasicBlock(spatial_dims, width, width, 1, norm) for _ in range(depth - 1)]
            self.stages.append(nn.Sequential(first, *more) if more else first)
        for module in self.modules():
            if isinstance(module, CONV[spatial_dims]):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def stage_ends(self) -> list[str]:
        return [f"stages.{i}" for i in range(len(self.stages))]

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(self.normalise(x))
        pyramid = []
        for stage in self.stages:
            x = stage(x)
            pyramid.append(x)
        return pyramid

    def embed(self, x: Tensor) -> Tensor:
        return self.forward(x)[-1].flatten(2).mean(2)
