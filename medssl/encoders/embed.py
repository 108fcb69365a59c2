"""Embeddings of many images."""

from __future__ import annotations

import numpy as np
import torch

from medssl.encoders.base import Encoder
from medssl.encoders.memory import keep_memory


def layout(spatial_dims: int) -> torch.memory_format:
    """Channels last: what convolutions are fastest with, on CPUs with AMX by far."""
    return torch.channels_last if spatial_dims == 2 else torch.channels_last_3d


def embed_all(encoder: Encoder, images: np.ndarray, batch: int | None = None) -> np.ndarray:
    """The pooled features of all images, in their order.

    Args:
        encoder: on the device to compute on; put into eval mode for the time of the call.
        images: (N, C, H, W) uint8 in [0, 255], in memory or memory-mapped; taken at the size that they have.
        batch: images at once; default about half a million pixels, which fills two cores and small GPUs alike.

    Returns:
        (N, D) float32.
    """
    keep_memory()
    pixels = int(np.prod(images.shape[2:]))
    batch = batch or max(8, min(512, 2**19 // pixels))
    device = encoder.mean.device
    training = encoder.training
    encoder.eval().to(memory_format=layout(encoder.spatial_dims))
    features = np.empty((len(images), encoder.embed_dim), np.float32)
    try:
        # In full 32 bits on a GPU too, so that a predictor gives the same scores there and on a CPU.
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            for start in range(0, len(images), batch):
                part = torch.from_numpy(np.array(images[start : start + batch])).to(device)
                x = (part.float() / 255).contiguous(memory_format=layout(encoder.spatial_dims))
                features[start : start + batch] = encoder.embed(x).float().cpu().numpy()
    finally:
        encoder.train(training)
    return features
