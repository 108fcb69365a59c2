"""A slow copy of a network, which several tasks learn from."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import nn


class MomentumCopy(nn.Module):
    """A copy that follows a module as its exponential moving average (He 2020, Grill 2020); never differentiated.

    Make it in the task's constructor, and call `follow` in `after_step`. It is saved with the task.
    """

    module: Any

    def __init__(self, source: nn.Module) -> None:
        super().__init__()
        self.module = copy.deepcopy(source).requires_grad_(False)

    def forward(self, *inputs: Any) -> Any:
        return self.module(*inputs)

    @torch.no_grad()
    def follow(self, source: nn.Module, momentum: float) -> None:
        """Move by 1 - momentum of the way towards the source; buffers, such as running means, are taken over."""
        theirs = [p.detach() for p in source.parameters()]
        torch._foreach_lerp_(list(self.module.parameters()), theirs, 1 - momentum)
        for mine, other in zip(self.module.buffers(), source.buffers(), strict=True):
            mine.copy_(other)


def momentum_at(step: int, steps: int, start: float) -> float:
    """Half a cosine from `start` up to 1 (Grill 2020, BYOL); `step` counts from 0."""
    return 1 - (1 - start) * (1 + math.cos(math.pi * step / max(1, steps))) / 2
