"""How far an embedding lies from those of the training cohort.

Probabilistic PCA (Tipping & Bishop 1999): a normal distribution with few free directions and the same variance in all
others, so that a few dozen units are enough and none of them has to be kept. The distance is Mahalanobis', as in
Lee 2018 (arXiv:1807.03888), without classes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

DIRECTIONS = 32  # at most, and a quarter of the units
FEWEST = 20  # units: fewer do not say what is usual
FOLDS = 5


class Familiar(nn.Module):
    """The distribution of the training units' embeddings.

    Args:
        mean, std: (D,) that embeddings are standardised with.
        basis: (K, D) orthonormal directions; `variance`: (K,) along each.
        noise: () variance in every other direction.
    """

    mean: Tensor
    std: Tensor
    basis: Tensor
    variance: Tensor
    noise: Tensor

    def __init__(self, mean: Tensor, std: Tensor, basis: Tensor, variance: Tensor, noise: Tensor) -> None:
        super().__init__()
        parts = {"mean": mean, "std": std, "basis": basis, "variance": variance, "noise": noise}
        for name, value in parts.items():
            self.register_buffer(name, value.detach().float().clone())

    @classmethod
    def fit(cls, features: np.ndarray) -> Familiar:
        """From embeddings (N, D) of at least `FEWEST` units."""
        x = np.asarray(features, np.float64)
        mean, std = x.mean(0), x.std(0)
        std = np.maximum(std, max(0.01 * std.mean(), 1e-12))  # a feature that never moved here may move a little
        _, values, directions = np.linalg.svd((x - mean) / std, full_matrices=False)
        count = max(1, min(DIRECTIONS, len(x) // 4, x.shape[1] - 1))
        variance = values**2 / (len(x) - 1)
        noise = max(variance[count:].sum() / max(x.shape[1] - count, 1), 1e-6)
        kept = np.maximum(variance[:count], noise)
        return cls(*(torch.from_numpy(np.asarray(a)) for a in (mean, std, directions[:count], kept, noise)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, D) -> (N,) distances."""
        centred = (x - self.mean) / self.std
        along = centred @ self.basis.T
        rest = (centred.square().sum(1) - along.square().sum(1)).clamp(min=0)
        return ((along.square() / self.variance).sum(1) + rest / self.noise).sqrt()

    def distances(self, features: np.ndarray) -> np.ndarray:
        """(N,) from embeddings (N, D)."""
        with torch.inference_mode():
            return self(torch.from_numpy(np.ascontiguousarray(features, np.float32))).numpy()


def held_out_distances(features: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """(N,) distance of each unit from the units of other patients: its own would be too near to itself.

    Args:
        features: (N, D); `patients`: (N,) key of each unit's patient.
    """
    number = np.unique(patients, return_inverse=True)[1]
    fold = np.random.default_rng(0).permutation(number.max() + 1)[number] % FOLDS
    out = np.empty(len(features))
    for one in np.unique(fold):
        out[fold == one] = Familiar.fit(features[fold != one]).distances(features[fold == one])
    return out
