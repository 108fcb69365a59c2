"""From an architecture, as checkpoints state it, to an untrained encoder."""

from __future__ import annotations

from typing import Any

from medssl.encoders.base import Encoder
from medssl.encoders.monai_encoder import NAMES as VOLUMES
from medssl.encoders.monai_encoder import MonaiResNet
from medssl.encoders.resnet import SMALL, SmallResNet
from medssl.encoders.rotated import FourRotations
from medssl.encoders.split import SPLIT, SplitResNet
from medssl.encoders.vit import NAMES as TRANSFORMERS
from medssl.encoders.vit import SmallViT
from medssl.errors import unknown

HOUSE = {*SMALL, SPLIT, *TRANSFORMERS}  # in 2-D and 3-D, without public weights


def build(architecture: dict[str, Any]) -> Encoder:
    """The untrained encoder that a checkpoint's `architecture` describes."""
    if "rotations" in architecture:
        return FourRotations(build({key: value for key, value in architecture.items() if key != "rotations"}))
    name, dims, channels = architecture["name"], architecture["spatial_dims"], architecture["in_channels"]
    if name in SMALL:
        return SmallResNet(name, dims, channels)
    if name in TRANSFORMERS:
        return SmallViT(name, dims, channels)
    if name == SPLIT:
        return SplitResNet(dims, channels)
    if dims == 3:
        if name not in VOLUMES:
            raise unknown("encoder for volumes", name, [*sorted(HOUSE), *VOLUMES], "encoder")
        return MonaiResNet(name, channels)
    from medssl.encoders.timm_encoder import random_network

    return random_network(name, channels, architecture.get("network_channels"))
