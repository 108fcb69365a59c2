"""What an encoder's batch norms know of the images that it is used on."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from medssl.encoders.base import Encoder


def settled(encoder: Encoder) -> bool:
    """False where a batch norm has seen nothing yet: its mean and variance are still 0 and 1."""
    known = [(m.running_mean, m.running_var) for m in encoder.modules() if isinstance(m, _BatchNorm)]
    return not any(
        mean is not None
        and variance is not None
        and not mean.any()
        and torch.equal(variance, torch.ones_like(variance))
        for mean, variance in known
    )


@torch.no_grad()
def settle_norms(encoder: Encoder, batches: Iterable[Tensor]) -> None:
    """Batch norms get the mean and variance of these images in place of those that they have: means over batches,
    through the weights as they are (Wu and Johnson 2021, "Rethinking 'Batch' in BatchNorm", arXiv:2105.07576, section
    3).

    Args:
        encoder: left in the mode that it came in.
        batches: images (N, C, *spatial), every one of equal weight.
    """
    norms = {m: m.momentum for m in encoder.modules() if isinstance(m, _BatchNorm)}
    if not norms:
        return
    training = encoder.training
    encoder.train()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
    for images in batches:
        encoder.embed(images)
    for norm, momentum in norms.items():
        norm.momentum = momentum
    encoder.train(training)
