"""Convolutions of maps with a handful of places, and depthwise ones, on a CPU, by a quicker way than oneDNN's.

The last stages of a ResNet see a 64-pixel image as 2 x 2 places. There oneDNN's convolution in bf16 takes five times as
long as the product of the gathered neighbours with the weights (512 channels, batch 256, forward and backward: 108 ms
against 22 ms on two cores with AMX), and on a 1 x 1 map with stride 2 its gradient is whatever lay in the memory. Up to
some 36 places it is the gradient of the weights alone that takes too long (256 channels, 4 x 4 places, batch 32, one
core with AMX: 4.9 ms, by the product 1.7 ms; the other two 0.9 ms each).

Where a depthwise kernel is larger than the map, as in the last stages of an EfficientNet, oneDNN finds the gradient of
the weights by a matrix product for each channel: 40 ms for 1,152 kernels of 5 x 5 on 2 x 2 places (batch 32, one core
with AVX2), where that of the images takes 0.3 ms. Summed tap by tap over the places that overlap, it takes 0.8 ms.

In bf16 a depthwise convolution with a stride has no quick gradient at all (144 kernels of 5 x 5 from 19 x 19 to 8 x 8
places, batch 32, one core with avx512_bf16: 40 ms, in 32 bits 7), so that all of them compute in 32 bits.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame, pad_same
from torch import Tensor, nn

FEW = 4  # places of the output; from 16 on the convolution is the faster one,
SOME = 36  # and from 64 on also for the gradient of the weights


class SmallMapConv2d(nn.Conv2d):
    """`nn.Conv2d`, by another way on a CPU where its output has few places; the same weights under the same names."""

    def forward(self, x: Tensor) -> Tensor:
        places = out_size(self, x, 0) * out_size(self, x, 1)
        learns = self.weight.requires_grad and torch.is_grad_enabled()
        if x.device.type != "cpu" or places > (SOME if learns and _is_bf16(x) else FEW):
            return super().forward(x)
        if places > FEW:
            y = self._conv_forward(x, self.weight.detach(), self.bias)
            return GatheredGradient.apply(y, x.detach(), self.weight, self)
        weight = self.weight.permute(0, 2, 3, 1).flatten(1)  # in channels_last no copy
        return F.linear(neighbours(self, x), weight, self.bias).permute(0, 3, 1, 2)


def neighbours(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """(B, rows, columns, high * wide * C): what the kernel sees at each place of the output."""
    rows, columns = out_size(conv, x, 0), out_size(conv, x, 1)
    (high, wide), (down, right) = conv.kernel_size, conv.stride
    above, left = (int(p) for p in conv.padding)  # never a word: see speed_up_small_maps
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, left, left, above, above))
    around = [
        padded[:, i : i + down * (rows - 1) + 1 : down, j : j + right * (columns - 1) + 1 : right]
        for i in range(high)
        for j in range(wide)
    ]
    return torch.cat(around, -1)


class GatheredGradient(torch.autograd.Function):
    """Hands on y, the output of a convolution of x, and gives its weight (O, C, high, wide) the gradient."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, x: Tensor, weight: Tensor, conv: nn.Conv2d) -> Tensor:
        ctx.save_for_backward(x)
        ctx.conv = conv
        ctx.mark_dirty(y)  # and no view of it, which nothing in place may follow
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, Tensor, None]:
        (x,), conv = ctx.saved_tensors, ctx.conv
        seen = neighbours(conv, x.to(gradient.dtype)).flatten(0, 2)
        found = gradient.permute(0, 2, 3, 1).flatten(0, 2).t() @ seen
        shape = (conv.out_channels, *conv.kernel_size, conv.in_channels)
        return gradient, None, found.view(shape).permute(0, 3, 1, 2).to(conv.weight.dtype), None


class DepthwiseConv2d(nn.Conv2d):
    """`nn.Conv2d` with one kernel for each channel; on a CPU it computes in 32 bits, and the gradient of kernels that
    are larger than the map goes another way. The same weights under the same names.

    Attributes:
        same: pad as TensorFlow does, by what the size of the image asks for (timm's `Conv2dSame`).
    """

    same = False

    def forward(self, x: Tensor) -> Tensor:
        if self.same:
            x = pad_same(x, list(self.kernel_size), list(self.stride))
        if x.device.type != "cpu":
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            return self._on_cpu(x.to(self.weight.dtype)).to(x.dtype)

    def _on_cpu(self, x: Tensor) -> Tensor:
        high, wide = self.kernel_size
        small = out_size(self, x, 0) * out_size(self, x, 1) < high * wide
        if not small or not self.weight.requires_grad:
            return super().forward(x)
        y = self._conv_forward(x, self.weight.detach(), self.bias)
        return KernelGradient.apply(y, x.detach(), self.weight, self)


class KernelGradient(torch.autograd.Function):
    """Hands on y, the output of a depthwise convolution of x, and gives its weight (C, 1, high, wide) the gradient."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, x: Tensor, weight: Tensor, conv: DepthwiseConv2d) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = conv.stride, conv.padding
        ctx.mark_dirty(y)  # and no view of it, which nothing in place may follow
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, Tensor, None]:
        x, weight = ctx.saved_tensors
        seen, wanted = x.permute(0, 2, 3, 1), gradient.permute(0, 2, 3, 1)  # in channels_last no copies
        found = torch.zeros(*weight.shape[2:], len(weight), dtype=weight.dtype)
        for tap in product(*map(range, weight.shape[2:])):
            overlaps = [
                overlap(x.shape[2 + axis], gradient.shape[2 + axis], ctx.stride[axis], tap[axis] - ctx.padding[axis])
                for axis in (0, 1)
            ]
            (rows, above), (columns, left) = overlaps
            if above.stop > above.start and left.stop > left.start:
                both = seen[:, rows, columns] * wanted[:, above, left]
                found[tap] = both.flatten(0, 2).sum(0, dtype=weight.dtype)
        return gradient, None, found.permute(2, 0, 1)[:, None], None


def overlap(inputs: int, outputs: int, stride: int, offset: int) -> tuple[slice, slice]:
    """Along one axis, the input places that a tap of the kernel reads and the output places that it writes: output r
    reads input r * stride + offset, where there is one."""
    first, last = max(0, -(offset // stride)), min(outputs - 1, (inputs - 1 - offset) // stride)
    return slice(first * stride + offset, last * stride + offset + 1, stride), slice(first, last + 1)


def _is_bf16(x: Tensor) -> bool:
    """Whether a convolution of x computes in bf16."""
    return x.dtype == torch.bfloat16 or torch.is_autocast_enabled("cpu")


def out_size(conv: nn.Conv2d, x: Tensor, axis: int) -> int:
    """Places of the output along an axis; the padding is never a word: see `speed_up_small_maps`."""
    return (x.shape[2 + axis] + 2 * int(conv.padding[axis]) - conv.kernel_size[axis]) // conv.stride[axis] + 1


def speed_up_small_maps(network: nn.Module) -> nn.Module:
    """Let every plain and every depthwise convolution of a network take the quicker way; kernels of one place, dilated
    ones, other groups and other padding stay."""
    for name, child in network.named_children():
        if not isinstance(child, nn.Conv2d) or type(child) not in (nn.Conv2d, Conv2dSame):
            speed_up_small_maps(child)
        elif way := _way(child):
            setattr(network, name, _quicker(child, way))
    return network


def _way(conv: nn.Conv2d) -> type[nn.Conv2d] | None:
    if conv.kernel_size == (1, 1) or conv.dilation != (1, 1) or conv.padding_mode != "zeros":
        return None
    if isinstance(conv.padding, str):
        return None
    if conv.groups == 1:
        return SmallMapConv2d if type(conv) is nn.Conv2d else None
    return DepthwiseConv2d if conv.groups == conv.in_channels == conv.out_channels else None


def _quicker(conv: nn.Conv2d, way: type[nn.Conv2d]) -> nn.Conv2d:
    shape = (conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, conv.dilation)
    other = way(*shape, conv.groups, conv.bias is not None, device="meta")  # type: ignore[arg-type]
    other.weight, other.bias = conv.weight, conv.bias
    if isinstance(other, DepthwiseConv2d):
        other.same = type(conv) is Conv2dSame
    return other.train(conv.training)
