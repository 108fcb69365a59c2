"""What fitting leaves: a head on a unit's mean embedding, and the encoder that gives it where that was trained too."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from medssl.encoders import Encoder, embed_all
from medssl.transfer.features import unit_means


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
