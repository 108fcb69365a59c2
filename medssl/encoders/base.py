"""What every encoder offers, whatever library its layers come from."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from medssl.display import card
from medssl.encoders.stages import Stage, walk
from medssl.errors import UserError


class Encoder(nn.Module):
    """An image in, a feature pyramid or one vector out.

    Attributes:
        name: what `create_encoder` was asked for.
        spatial_dims: 2 or 3.
        in_channels: channels that `forward` takes.
        channels, strides: one entry a level of the pyramid, finest first.
        embed_dim: D of `embed`.
        patch: pixels a side of a transformer's patches, which must divide the image; 1 where there are none.
        mean, std: (C,) buffers that the input is normalised with; inside a checkpoint like any weight.
    """

    mean: Tensor
    std: Tensor
    patch: int = 1

    def __init__(
        self,
        name: str,
        spatial_dims: int,
        in_channels: int,
        channels: list[int],
        strides: list[int],
        embed_dim: int,
        mean: list[float],
        std: list[float],
    ) -> None:
        super().__init__()
        self.name, self.spatial_dims, self.in_channels = name, spatial_dims, in_channels
        self.channels, self.strides, self.embed_dim = channels, strides, embed_dim
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))

    def _repr_html_(self) -> str:
        """For notebooks; `repr` prints the whole network."""
        weights = sum(p.numel() for p in self.parameters())
        facts = [
            f"{self.spatial_dims}-D, {self.in_channels} channel{'' if self.in_channels == 1 else 's'} in, "
            f"{weights / 1e6:.1f} M weights, embeds into {self.embed_dim} numbers"
        ]
        levels = [
            [f"1/{stride}", f"{channels:,}"] for stride, channels in zip(self.strides, self.channels, strict=True)
        ]
        return card(f"Encoder {self.name}", facts, ["feature map", "channels"], levels)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Feature maps of x, (N, C, *spatial) in [0, 1], finest first."""
        raise NotImplementedError

    def embed(self, x: Tensor) -> Tensor:
        """The pooled feature before any classifier, (N, embed_dim), of x (N, C, *spatial) in [0, 1]."""
        raise NotImplementedError

    def stage_ends(self) -> list[str]:
        """Names of the modules that the stages after the stem end with, in order."""
        raise NotImplementedError

    def in_stages(self) -> list[Stage]:
        """All of the network from the input to the output: the stem is 0, then come the stages that double stride or
        width (a transformer's blocks), and last, where there is more, what lies between them and the vector."""
        return walk(self, self.stage_ends())

    def stages_to(self, last: int, where: str) -> list[Stage]:
        """Stages 0 to `last`.

        Raises:
            UserError: there are not so many; `where` is the key that asked.
        """
        stages = self.in_stages()
        if last >= len(stages):
            raise UserError(
                f"'{self.name}' has no stage {last}: its stages are 0 (the stem) to {len(stages) - 1}",
                where,
                f"Ask for a stage from 0 to {len(stages) - 1}, or take another encoder.",
            )
        return stages[: last + 1]

    def hold(self, stages: Iterable[Stage], still: bool = True) -> None:
        """Keep stages as they are: no gradient, and batch norm goes on with the statistics that it has (a later
        `train()` would end that). With `still=False` they learn again."""
        parameters = dict(self.named_parameters())
        for stage in stages:
            for name in parameters.keys() & set(stage.tensors):
                parameters[name].requires_grad_(not still)
            for module in stage.modules:
                module.training = not still

    def check_field(self, what: str, side: int, view: int, who: str) -> None:
        """Refuse to train where the last stage is given a picture as a single place, or patches do not fit into it.

        One place has no shape. And on a CPU in bf16 torch gives for it no gradient but what lay in the memory, as was
        measured with a 3x3 convolution of stride 2 on a 1x1 map.

        Args:
            what: the picture, for the message ("an image").
            side: its pixels.
            view: pixels of the samples that it is cut from.
            who: wants to train, for the message.

        Raises:
            UserError: the picture is too small, or a transformer's patches do not divide it.
        """
        if side % self.patch:
            fitting = self.patch * math.ceil(side / self.patch)
            fix = f"Set --size (in a config view.size) to {fitting}, or take" if side == view else "Take"
            raise UserError(
                f"{what} of {side} pixels is not divided by the patches of {self.patch} of '{self.name}'",
                "view.size",
                f"{fix} another encoder.",
            )
        least = self.strides[-1] // 2 + 1
        if side < least:
            raise UserError(
                f"{what} of {side} pixels is a single point to the last stage of '{self.name}', "
                f"and {who} needs {least} pixels",
                "view.size",
                f"Set --size (in a config view.size) to {math.ceil(least * view / side)} or more, "
                "or take an encoder that shrinks less.",
            )

    def architecture(self) -> dict[str, Any]:
        """What `create_encoder` needs to build this encoder again, as plain data for a checkpoint."""
        return {"name": self.name, "spatial_dims": self.spatial_dims, "in_channels": self.in_channels}

    def normalise(self, x: Tensor) -> Tensor:
        """(x - mean) / std by channel. Gray is repeated to as many channels as the mean has."""
        shape = (1, -1) + (1,) * self.spatial_dims
        return (x - self.mean.view(shape)) / self.std.view(shape)
