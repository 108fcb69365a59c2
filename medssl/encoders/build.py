"""From an architecture, as checkpoints state it, to an untrained encoder."""

from __future__ import annotations

from typing import Any

from medssl.encoders.base import Encoder
from medssl.encoders.resnet import SmallResNet


def build(architecture: dict[str, Any]) -> Encoder:
    """The untrained encoder that a checkpoint's `architecture` describes."""
    name, dims, channels = architecture["name"], architecture["spatial_dims"], architecture["in_channels"]
    if name == "small":
        return SmallResNet(name, dims, channels)
    from medssl.encoders.timm_encoder import random_network

    return random_network(name, channels, architecture.get("network_channels"))
