"""What fitting leaves: a head on a unit's mean embedding, and the encoder that gives it where that was trained too."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from medssl.encoders import Encoder, embed_all
from medssl.transfer.features import unit_means


class LinearHead(nn.Module):
    """Standardised embeddings times weights: (N, D) -> (N, outputs).

    Like every head it has a `kind`, a buffer for all that it predicts from, and a constructor that takes the buffers by
    their names: so a file of tensors is enough to make it again (`registry.make_head`).

    Args:
        weight: (outputs, D); `bias`: (outputs,).
        mean, std: (D,) that embeddings are standardised with first; default 0 and 1.
    """

    kind = "linear"
    weight: Tensor
    bias: Tensor
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        weight: Tensor | np.ndarray,
        bias: Tensor | np.ndarray,
        mean: Tensor | np.ndarray | None = None,
        std: Tensor | np.ndarray | None = None,
    ) -> None:
        super().__init__()
        width = weight.shape[1]
        parts = {
            "weight": weight,
            "bias": bias,
            "mean": torch.zeros(width) if mean is None else mean,
            "std": torch.ones(width) if std is None else std,
        }
        for name, value in parts.items():
            self.register_buffer(name, torch.as_tensor(value).detach().float().clone())

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear((x - self.mean) / self.std, self.weight, self.bias)


@dataclass(frozen=True)
class Fitted:
    """A predictor.

    Attributes:
        head: (N, D) float32 embeddings -> (N, outputs) logits.
        encoder: that gives the embeddings; None: the arm's own, as it was.
    """

    head: nn.Module
    encoder: Encoder | None = None

    def logits(self, features: np.ndarray) -> np.ndarray:
        """(N, outputs) from mean embeddings (N, D) of units."""
        with torch.inference_mode():
            return self.head.eval()(torch.from_numpy(np.ascontiguousarray(features, np.float32))).numpy()

    def embed(self, images: np.ndarray, unit_of: np.ndarray, units: np.ndarray) -> np.ndarray:
        """Mean embeddings (len(units), D) of `units` by the trained encoder.

        Args:
            images: (N, C, *spatial) uint8.
            unit_of: (N,) number of each sample's unit, -1 for none.
            units: numbers of the units that are wanted.
        """
        assert self.encoder is not None, "embeddings of a frozen encoder are there already"
        number = np.full(max(int(unit_of.max()), int(units.max())) + 2, -1)  # the last place is for -1
        number[units] = np.arange(len(units))
        mine = number[unit_of]
        samples = np.flatnonzero(mine >= 0)
        return unit_means(embed_all(self.encoder, images[samples]), mine[samples], len(units))
