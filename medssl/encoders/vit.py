"""The house's vision transformer (Dosovitskiy 2021), in 2-D and 3-D: patches of 8 pixels, six blocks of width 192.

Positions are sines and cosines of the patch's place (Chen 2021, MoCo v3), computed for whatever grid comes, so that the
encoder is tied to no size. There is no class token: the vector of an image is the mean of its tokens.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from medssl.encoders.base import Encoder
from medssl.encoders.resnet import CONV

WIDTH, DEPTH, HEADS, PATCH = 192, 6, 6, 8
NAMES = ("small_vit",)
LEVELS = (DEPTH // 2 - 1, DEPTH - 1)  # blocks whose tokens make the pyramid: a plain one, of one stride
FEW = 144  # tokens up to which attention is written out on a CPU in bf16; at 784 that takes twice as long


class SmallViT(Encoder):
    """2.7 million weights; 64 pixels are 64 tokens, 32 voxels a side as well."""

    def __init__(self, name: str, spatial_dims: int, in_channels: int) -> None:
        gray = [0.5] * in_channels
        levels = len(LEVELS)
        super().__init__(
            name, spatial_dims, in_channels, [WIDTH] * levels, [PATCH] * levels, WIDTH, gray, [g / 2 for g in gray]
        )
        self.patch = PATCH
        self.patches = CONV[spatial_dims](in_channels, WIDTH, PATCH, PATCH)
        self.blocks = nn.ModuleList(block(WIDTH, HEADS) for _ in range(DEPTH))
        self.norm = nn.LayerNorm(WIDTH)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def stage_ends(self) -> list[str]:
        return [f"blocks.{i}" for i in range(DEPTH)]

    def tokens(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(N, L, D): the tokens of the patches in C-order.

        Args:
            x: (N, C, *spatial) in [0, 1], sides that the patch divides.
            mask: (N, L) bool, True where a patch is hidden, as many in every row; hidden patches are not looked at and
                give no token.
        """
        return self.norm(self._run(x, mask)[-1])

    def forward(self, x: Tensor) -> list[Tensor]:
        grid = [side // PATCH for side in x.shape[2:]]
        found = self._run(x, None)
        maps = [found[level] for level in LEVELS[:-1]] + [self.norm(found[-1])]
        return [tokens.transpose(1, 2).reshape(len(x), WIDTH, *grid) for tokens in maps]

    def embed(self, x: Tensor) -> Tensor:
        return self.tokens(x).mean(1)

    def _run(self, x: Tensor, mask: Tensor | None) -> list[Tensor]:
        """The tokens after every block."""
        cut = self.patches(self.normalise(x))
        tokens = cut.flatten(2).transpose(1, 2)
        tokens = tokens + positions(cut.shape[2:], WIDTH, tokens.device)
        if mask is not None:
            tokens = tokens[~mask].view(len(x), -1, WIDTH)
        found = []
        for layer in self.blocks:
            tokens = layer(tokens)
            found.append(tokens)
        return found


def block(width: int, heads: int) -> nn.Module:
    """Attention, then two layers of four times the width, each after a norm and around a shortcut; no dropout."""
    return _Block(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)


class _Block(nn.TransformerEncoderLayer):
    """torch's flash attention goes backwards slowly on a CPU in bf16 where there are few tokens: a third of a step.
    Written out as products and a softmax, 64 tokens train 107 images/s in place of 83, and 144 tokens 44 in place of 34
    (`small_vit`, one core with avx512_bf16)."""

    def forward(self, src: Tensor, *arguments: Any, **named: Any) -> Tensor:
        if src.shape[1] > FEW or src.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):  # which is to bf16
            return super().forward(src, *arguments, **named)
        with sdpa_kernel(SDPBackend.MATH):
            return super().forward(src, *arguments, **named)


def positions(grid: torch.Size, width: int, device: torch.device) -> Tensor:
    """(L, width): for each axis, sines and cosines of the place at wavelengths from 2 pi to 20,000 pi."""
    each = width // (2 * len(grid))
    rates = torch.exp(-math.log(10_000.0) * torch.arange(each, device=device) / each)
    axes = torch.meshgrid(*[torch.arange(n, device=device, dtype=torch.float32) for n in grid], indexing="ij")
    angles = [axis.reshape(-1, 1) * rates for axis in axes]
    return torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], 1)
