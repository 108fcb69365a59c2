"""The house's encoder for CPUs: a ResNet (He 2016), four stages of one block, 1.2 million weights in 2-D."""

from __future__ import annotations

from torch import Tensor, nn

from medssl.encoders.base import Encoder

CONV = {2: nn.Conv2d, 3: nn.Conv3d}
NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
# In 3-D a quarter of ResNet-10's widths: a 48-voxel cube costs as much as a hundred 64-pixel images at these.
WIDTHS = {2: (32, 64, 128, 256), 3: (16, 32, 64, 128)}


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; the shortcut is projected where the shape changes."""

    def __init__(self, spatial_dims: int, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        conv, norm = CONV[spatial_dims], NORM[spatial_dims]
        self.conv1 = conv(inputs, width, 3, stride, padding=1, bias=False)
        self.norm1 = norm(width)
        self.conv2 = conv(width, width, 3, padding=1, bias=False)
        self.norm2 = norm(width)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != width:
            self.shortcut = nn.Sequential(conv(inputs, width, 1, stride, bias=False), norm(width))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.norm1(self.conv1(x)))
        return self.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class SmallResNet(Encoder):
    """Stem 3x3 with stride 2, then stages with strides 1, 2, 2, 2: 64 pixels end as 4 x 4 features."""

    def __init__(self, name: str, spatial_dims: int, in_channels: int) -> None:
        widths = WIDTHS[spatial_dims]
        super().__init__(
            name,
            spatial_dims,
            in_channels,
            channels=list(widths),
            strides=[2, 4, 8, 16],
            embed_dim=widths[-1],
            mean=[0.5] * in_channels,
            std=[0.25] * in_channels,
        )
        self.stem = nn.Sequential(
            CONV[spatial_dims](in_channels, widths[0], 3, 2, padding=1, bias=False),
            NORM[spatial_dims](widths[0]),
            nn.ReLU(inplace=True),
        )
        inputs = (widths[0], *widths[:-1])
        self.stages = nn.ModuleList(
            BasicBlock(spatial_dims, i, w, s) for i, w, s in zip(inputs, widths, (1, 2, 2, 2), strict=True)
        )
        for module in self.modules():
            if isinstance(module, CONV[spatial_dims]):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(self.normalise(x))
        pyramid = []
        for stage in self.stages:
            x = stage(x)
            pyramid.append(x)
        return pyramid

    def embed(self, x: Tensor) -> Tensor:
        return self.forward(x)[-1].flatten(2).mean(2)
