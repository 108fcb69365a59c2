"""Batch normalisation over the batch of all processes, so that several of them train as one would."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as distributed
import torch.distributed.nn.functional as distributed_nn
from timm.layers import BatchNormAct2d, convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from medssl.pretext.processes import process_count


def share_norms(module: nn.Module, device: torch.device) -> nn.Module:
    """Batch norms become torch's SyncBatchNorm on CUDA; it refuses tensors on a CPU, which get SharedBatchNorm. Those
    of timm that hold the activation as well keep it."""
    if device.type == "cuda":
        return convert_sync_batchnorm(module)
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            shared = SharedBatchNorm(child.num_features, child.eps, child.momentum, child.affine)
            shared.load_state_dict(child.state_dict())
            if isinstance(child, BatchNormAct2d):
                shared.after = nn.Sequential(child.drop, child.act)
            shared.requires_grad_(child.weight is None or child.weight.requires_grad)  # not in a momentum copy
            setattr(module, name, shared.train(child.training))
        else:
            share_norms(child, device)
    return module


class SharedBatchNorm(_BatchNorm):
    """Batch normalisation (Ioffe 2015) whose mean and variance are those of all processes' rows.

    Attributes:
        after: what follows in the same layer.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.after: nn.Module | None = None

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"expected (N, C, ...), got {tuple(input.shape)}")

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x) if not self.training or process_count() == 1 else self._over_all(x)
        return y if self.after is None else self.after(y)

    def _over_all(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            y, axes, shape = x.float(), [0, *range(2, x.ndim)], [1, -1, *[1] * (x.ndim - 2)]
            count = process_count() * y.numel() / y.shape[1]  # processes have equal shares of a batch
            mean = _total(y.sum(axes)) / count
            centred = y - mean.view(shape)
            variance = _total(centred.square().sum(axes)) / count
            self._remember(mean.detach(), variance.detach() * count / max(1, count - 1))
            y = centred * torch.rsqrt(variance + self.eps).view(shape)
            if self.affine:
                y = y * self.weight.view(shape) + self.bias.view(shape)
        return y.to(x.dtype)

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)


def _total(x: Tensor) -> Tensor:
    """The sum over all processes, differentiable."""
    return distributed_nn.all_reduce(x, distributed.ReduceOp.SUM)
