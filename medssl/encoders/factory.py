"""The one way to make an encoder."""

from __future__ import annotations

import torch

from medssl.config import weights_file
from medssl.encoders.base import Encoder
from medssl.encoders.build import HOUSE, build
from medssl.encoders.checkpoint import load_weights
from medssl.encoders.initialise import derive, is_derived
from medssl.errors import UserError


def create_encoder(
    name: str, spatial_dims: int = 2, in_channels: int = 1, weights: str = "random", seed: int = 0
) -> Encoder:
    """An encoder by name.

    Args:
        name: `small`, `small_gn` or `small_split` (house ResNet, 2-D and 3-D), the same half or twice as wide or twice
            as deep (`small_narrow`, `small_wide`, `small_narrow_deep`, `small_deep`, `small_wide_deep`), `small_vit`
            (a transformer, 2-D and 3-D), any name of timm (2-D), or one of MONAI's ResNets, `resnet10` to `resnet50`
            (3-D).
        spatial_dims: 2 or 3.
        in_channels: 1 for gray, 3 for colour, one each for several contrasts or windows.
        weights: `random`, `imagenet`, a .safetensors file (a medssl checkpoint, or a plain state dict of
            the same network), or a tag of timm such as `a1_in1k`. Parts of ImageNet's (see `initialise`):
            `imagenet_to_K` for its stages 0 to K below random ones, `imagenet_mean_var` for the mean and variance of
            its tensors.
        seed: of the random initialisation; the caller's random state is left alone.

    Raises:
        UserError: unknown name, weights that do not exist or do not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _create(name, spatial_dims, in_channels, weights, seed).eval()


def _create(name: str, spatial_dims: int, in_channels: int, weights: str, seed: int) -> Encoder:
    from medssl.encoders.timm_encoder import imagenet_network, tagged_network

    if weights == "random":
        return build({"name": name, "spatial_dims": spatial_dims, "in_channels": in_channels})
    path = weights_file(weights)
    if path is not None:
        return load_weights(path, name, spatial_dims, in_channels)
    if name in HOUSE or spatial_dims == 3:
        raise UserError(
            f"'{name}' in {spatial_dims}-D has no weights '{weights}'",
            "weights",
            "Take 'random', a file of weights, or in 2-D an encoder of timm such as tf_efficientnet_lite0.",
        )
    if weights == "imagenet" or is_derived(weights):
        encoder = imagenet_network(name, in_channels)
        return encoder if weights == "imagenet" else derive(encoder, weights, seed)
    return tagged_network(name, in_channels, weights)
