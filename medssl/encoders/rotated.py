"""An encoder that looks at an image in its four rotations, for predictors that average over them (Lee 2020)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from medssl.encoders.base import Encoder

ROTATIONS = 4


def rotations(x: Tensor) -> Tensor:
    """(4 * N, C, *spatial): x turned by 0, 90, 180 and 270 degrees in the plane of its last two axes, which must be as
    long as each other; first all upright ones."""
    return torch.cat([torch.rot90(x, k, (-2, -1)) for k in range(ROTATIONS)])


class FourRotations(Encoder):
    """Another encoder's embeddings of the four rotations side by side, in the order of `rotations`; its pyramid is that
    of the upright image."""

    def __init__(self, inner: Encoder) -> None:
        super().__init__(
            inner.name,
            inner.spatial_dims,
            inner.in_channels,
            channels=inner.channels,
            strides=inner.strides,
            embed_dim=ROTATIONS * inner.embed_dim,
            mean=inner.mean.tolist(),
            std=inner.std.tolist(),
        )
        self.inner, self.patch = inner, inner.patch
        self.to(inner.mean.device)

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.inner(x)

    def embed(self, x: Tensor) -> Tensor:
        """(N, 4 * D) of x (N, C, *spatial) in [0, 1]."""
        return torch.cat(self.inner.embed(rotations(x)).chunk(ROTATIONS), 1)

    def architecture(self) -> dict[str, Any]:
        return {**self.inner.architecture(), "rotations": ROTATIONS}
