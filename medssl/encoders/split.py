"""The split-brain encoder (Zhang 2017, arXiv:1611.09842): two networks half as wide, each with its own channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medssl.encoders.base import Encoder
from medssl.encoders.resnet import SmallResNet
from medssl.encoders.stages import Stage
from medssl.errors import UserError

SPLIT = "small_split"


def halves(channels: int) -> list[list[int]]:
    """Which channels go to each half; of an odd number the second one has more."""
    return [list(range(channels // 2)), list(range(channels // 2, channels))]


class SplitResNet(Encoder):
    """Two of the house's ResNets, half as wide. Each level holds the first half's maps, then the second's.

    Raises:
        UserError: fewer than 2 channels.
    """

    def __init__(self, spatial_dims: int, in_channels: int) -> None:
        if in_channels < 2:
            raise UserError(f"'{SPLIT}' needs at least 2 channels, and the View has {in_channels}", "encoder")
        parts = [SmallResNet("small", spatial_dims, len(own), share=2) for own in halves(in_channels)]
        super().__init__(
            SPLIT,
            spatial_dims,
            in_channels,
            channels=[2 * width for width in parts[0].channels],
            strides=parts[0].strides,
            embed_dim=2 * parts[0].embed_dim,
            mean=[0.5] * in_channels,
            std=[0.25] * in_channels,
        )
        self.parts = nn.ModuleList(parts)

    def in_stages(self) -> list[Stage]:
        """Stage by stage of both halves."""
        stages = [
            Stage(
                [f"parts.{i}.{name}" for i, stage in enumerate(both) for name in stage.tensors],
                [module for stage in both for module in stage.modules],
            )
            for both in zip(*(part.in_stages() for part in self.parts), strict=True)  # type: ignore[operator]
        ]
        stages[0].tensors.extend(["mean", "std"])
        stages[-1].modules.extend([self.parts, self])
        return stages

    def forward(self, x: Tensor) -> list[Tensor]:
        """Each half normalises its own channels, with the same mean and spread as stand here."""
        both = [part(x[:, own]) for part, own in zip(self.parts, halves(self.in_channels), strict=True)]
        return [torch.cat(level, 1) for level in zip(*both, strict=True)]

    def embed(self, x: Tensor) -> Tensor:
        return self.forward(x)[-1].flatten(2).mean(2)
