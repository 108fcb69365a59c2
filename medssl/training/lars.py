"""LARS: layer-wise adaptive rates for large batches (You 2017, arXiv:1708.03888), as SimCLR uses it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim import Optimizer

WEIGHT_DECAY = 1e-6  # SimCLR's; the decay of AdamW would be far too strong


class LARS(Optimizer):
    """SGD with momentum; each matrix or kernel moves in proportion to its own norm, biases and norms plainly.

    Args:
        params: parameters or groups; a group whose `weight_decay` is 0 (biases, norms) is not adapted.
        lr: peak rate; Chen 2020 takes 0.3 x batch / 256.
        momentum: of the velocity.
        trust: coefficient of the norm.
    """

    def __init__(self, params: Iterable[Any], lr: float, momentum: float = 0.9, trust: float = 1e-3) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "trust": trust, "weight_decay": 0.0})
        for group in self.param_groups:
            group["weight_decay"] = WEIGHT_DECAY if group["weight_decay"] else 0.0

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            decay, adapt = group["weight_decay"], group["weight_decay"] > 0
            for p in group["params"]:
                if p.grad is None:
                    continue
                update = p.grad + decay * p
                if adapt:
                    size, pull = p.norm(), p.grad.norm() + decay * p.norm()
                    ratio = torch.where((size > 0) & (pull > 0), group["trust"] * size / pull, 1.0)
                    update = update * ratio
                velocity = self.state[p].setdefault("momentum_buffer", torch.zeros_like(p))
                velocity.mul_(group["momentum"]).add_(update)
                p.sub_(group["lr"] * velocity)
