"""Convolutions of maps with a handful of places, as one matrix product.

The last stages of a ResNet see a 64-pixel image as 2 x 2 places. There oneDNN's convolution in bf16 takes five times as
long as the product of the gathered neighbours with the weights (512 channels, batch 256, forward and backward: 108 ms
against 22 ms on two cores with AMX), and on a 1 x 1 map with stride 2 its gradient is whatever lay in the memory.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEW = 4  # places of the output; from 16 on the convolution is the faster one


class SmallMapConv2d(nn.Conv2d):
    """`nn.Conv2d`, by another way on a CPU where its output has few places; the same weights under the same names."""

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or self.places(x) > FEW:
            return super().forward(x)
        (high, wide), (down, right) = self.kernel_size, self.stride
        rows, columns = self.out_size(x, 0), self.out_size(x, 1)
        above, left = (int(p) for p in self.padding)  # never a word: see speed_up_small_maps
        padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, left, left, above, above))
        around = [
            padded[:, i : i + down * (rows - 1) + 1 : down, j : j + right * (columns - 1) + 1 : right]
            for i in range(high)
            for j in range(wide)
        ]
        weight = self.weight.permute(0, 2, 3, 1).flatten(1)  # in channels_last no copy
        return F.linear(torch.cat(around, -1), weight, self.bias).permute(0, 3, 1, 2)

    def places(self, x: Tensor) -> int:
        return self.out_size(x, 0) * self.out_size(x, 1)

    def out_size(self, x: Tensor, axis: int) -> int:
        return (x.shape[2 + axis] + 2 * int(self.padding[axis]) - self.kernel_size[axis]) // self.stride[axis] + 1


def speed_up_small_maps(network: nn.Module) -> nn.Module:
    """Let every plain convolution of a network take the quicker way; kernels of one place and groups stay."""
    for name, child in network.named_children():
        if type(child) is nn.Conv2d and child.groups == 1 and child.dilation == (1, 1) and child.kernel_size != (1, 1):
            if child.padding_mode == "zeros" and not isinstance(child.padding, str):
                setattr(network, name, _quicker(child))
        else:
            speed_up_small_maps(child)
    return network


def _quicker(conv: nn.Conv2d) -> SmallMapConv2d:
    shape = (conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding)
    other = SmallMapConv2d(*shape, bias=conv.bias is not None, device="meta")  # type: ignore[arg-type]
    other.weight, other.bias = conv.weight, conv.bias
    return other.train(conv.training)
