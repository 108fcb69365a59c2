"""Initialisations that take a part of what ImageNet taught (Raghu 2019, "Transfusion", arXiv:1902.07208).

`imagenet_to_K`: its weights up to and including stage K, the rest random (their weight transfusion; the question which
layers are general is Yosinski's, 2014). Batch norm goes with its stage: ImageNet's running statistics where the weights
are ImageNet's, mean 0 and variance 1 after it.

`imagenet_mean_var`: no feature at all, only the scale. Each tensor of weights, those of the norms included, is drawn
from a normal distribution with mean and variance of ImageNet's tensor. Running statistics start at mean 0 and variance
1, as in any random network: ImageNet's are those of activations that the drawn weights do not give.
"""

from __future__ import annotations

import re

import torch
from torch import nn

from medssl.encoders.base import Encoder
from medssl.encoders.build import build

MEAN_VAR = "imagenet_mean_var"
TO_STAGE = re.compile(r"imagenet_to_(\d+)")


def is_derived(weights: str) -> bool:
    """Whether this names one of the two initialisations."""
    return weights == MEAN_VAR or TO_STAGE.fullmatch(weights) is not None


def derive(encoder: Encoder, weights: str, seed: int) -> Encoder:
    """The initialisation `weights` of an encoder with ImageNet's weights, which is changed in place.

    Args:
        seed: of what is random; what `imagenet_to_K` does not keep is the `random` encoder's of this seed.

    Raises:
        UserError: the encoder has no stage K.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        asked = TO_STAGE.fullmatch(weights)
        if asked is None:
            draw_like(encoder)
            return encoder
        kept = {name for stage in encoder.stages_to(int(asked[1]), "weights") for name in stage.tensors}
        fresh = build(encoder.architecture()).state_dict()
        encoder.load_state_dict({k: v for k, v in fresh.items() if k not in kept}, strict=False)
        return encoder


@torch.no_grad()
def draw_like(network: nn.Module) -> None:
    """Replace every parameter by draws with its own mean and variance, and reset running statistics."""
    for parameter in network.parameters():
        spread, mean = torch.std_mean(parameter, correction=0)
        nn.init.normal_(parameter, float(mean), float(spread))
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
