"""MONAI's ResNets for volumes (He 2016 with kernels of three dimensions; Chen 2019, MedicalNet) as Encoders."""

from __future__ import annotations

from torch import Tensor

from medssl.encoders.base import Encoder
from medssl.errors import UserError

NAMES = ("resnet10", "resnet18", "resnet34", "resnet50")


class MonaiResNet(Encoder):
    """A stem of 7x7x7 with stride 2 and a pooling, then stages with strides 1, 2, 2, 2: 64 voxels end as 2 x 2 x 2."""

    def __init__(self, name: str, in_channels: int) -> None:
        try:
            from monai.networks import nets
        except ImportError:
            raise UserError(f"'{name}' for volumes needs MONAI", "encoder", "pip install monai") from None
        network = getattr(nets, name)(
            spatial_dims=3, n_input_channels=in_channels, conv1_t_stride=2, feed_forward=False, bias_downsample=False
        )
        widths = [64, 128, 256, 512]
        channels = [w * network.layer1[0].expansion for w in widths]
        gray = [0.5] * in_channels
        super().__init__(name, 3, in_channels, channels, [4, 8, 16, 32], channels[-1], gray, [g / 2 for g in gray])
        self.network = network

    def stage_ends(self) -> list[str]:
        return [f"network.layer{i}" for i in (1, 2, 3, 4)]

    def forward(self, x: Tensor) -> list[Tensor]:
        net, pyramid = self.network, []
        x = net.maxpool(net.act(net.bn1(net.conv1(self.normalise(x)))))
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            x = stage(x)
            pyramid.append(x)
        return pyramid

    def embed(self, x: Tensor) -> Tensor:
        return self.forward(x)[-1].flatten(2).mean(2)
