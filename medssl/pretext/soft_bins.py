"""Classes that are values: a truth between bins is spread over the nearest ones, and rare values weigh more."""

from __future__ import annotations

import torch
import torch.distributed as distributed
from torch import Tensor, nn

from medssl.pretext.lab import tally
from medssl.pretext.processes import process_count


class Frequencies(nn.Module):
    """How often each bin was met, and the weight that follows (Zhang 2016, section 2.2, equations 3 and 4).

    The paper counts the whole data set beforehand; here the batches up to the last step are counted, which are the same
    after any resume, and all bins weigh alike in the first step.
    """

    counts: Tensor
    fresh: Tensor

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.register_buffer("counts", torch.zeros(bins))
        self.register_buffer("fresh", torch.zeros(bins), persistent=False)  # of this step

    @torch.no_grad()
    def meet(self, index: Tensor, weight: Tensor) -> None:
        """Count the soft-encoded truth of a batch: mean shares, so that no sum outgrows float32."""
        self.fresh += tally(index.flatten(), weight.flatten(), len(self.fresh)) * (index.shape[-1] / index.numel())

    @torch.no_grad()
    def settle(self) -> None:
        """After a step: what was counted in it, by all processes, counts from now on."""
        if process_count() > 1:
            distributed.all_reduce(self.fresh)
        self.counts += self.fresh
        self.fresh.zero_()

    def importance(self, even: float) -> Tensor:
        """(Q,) weights 1 / ((1 - even) p + even / Q), scaled so that the mean over what was met is 1."""
        total = self.counts.sum()
        if float(total) == 0:
            return torch.ones_like(self.counts)
        p = self.counts / total
        weights = 1 / ((1 - even) * p + even / len(p))
        return weights / (weights * p).sum()


def cross_entropy(logits: Tensor, index: Tensor, weight: Tensor, importance: Tensor) -> Tensor:
    """Mean over places of importance * cross-entropy against a truth that few bins share.

    Args:
        logits: (N, Q, *grid).
        index, weight: (N, *grid, K): bins and their shares.
        importance: (N, *grid).
    """
    logs = logits.log_softmax(1).gather(1, index.movedim(-1, 1))
    return -(importance * (weight.movedim(-1, 1) * logs).sum(1)).mean()


def best_constant(index: Tensor, weight: Tensor, importance: Tensor, bins: int) -> dict[str, float]:
    """Loss and accuracy of the one distribution that is best for all places: no look at the image."""
    spread = (weight * importance[..., None]).flatten()
    share = torch.zeros(bins, device=index.device).index_add_(0, index.flatten(), spread)
    logs = (share / share.sum()).clamp_min(1e-9).log()
    loss = -(importance * (weight * logs[index]).sum(-1)).mean()
    first = index[..., 0]
    return {"loss": float(loss), "accuracy": float((first == share.argmax()).float().mean())}
