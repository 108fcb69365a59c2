"""What a task must know of the other processes that train with it."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as distributed
from torch import Tensor


def process_count() -> int:
    """Processes that train together."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def gather(x: Tensor) -> tuple[Tensor, int]:
    """The rows of all processes in the order of the global batch, with gradients, and the place of this one's first."""
    if process_count() == 1:
        return x, 0
    return _Gather.apply(x), distributed.get_rank() * len(x)


class _Gather(torch.autograd.Function):
    """All processes' rows; each row's gradient is the sum of what all processes found for it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(process_count())]
        distributed.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total.chunk(process_count())[distributed.get_rank()]
