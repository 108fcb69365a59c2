"""Heads: a unit's mean embedding -> logits. Those of frozen encoders standardise it first, as the pool is spread."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from medssl.errors import UserError, unknown

NEVER = -1e4  # logit of a class without any label: hardly possible
FEWEST = 1e-6  # share of the votes of a class that no neighbour votes for

Numbers = Tensor | np.ndarray | float


class Head(nn.Module):
    """What all heads share: they compute on the CPU, and their tensors are buffers of the names of their arguments, so
    that `type(head)(**head.state_dict())` is the same head.

    Attributes:
        kind: its name in a file.
    """

    kind: str
    mean: Tensor
    std: Tensor

    def __init__(self, **parts: Numbers) -> None:
        super().__init__()
        for name, value in parts.items():
            self.register_buffer(name, torch.as_tensor(value).detach().float().cpu().clone())

    def standardised(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class LinearHead(Head):
    """Standardised embeddings times weights: (N, D) -> (N, outputs).

    Args:
        weight: (outputs, D); `bias`: (outputs,).
        mean, std: (D,) that embeddings are standardised with first; default 0 and 1.
    """

    kind = "linear"
    weight: Tensor
    bias: Tensor

    def __init__(
        self,
        weight: Tensor | np.ndarray,
        bias: Tensor | np.ndarray,
        mean: Tensor | np.ndarray | None = None,
        std: Tensor | np.ndarray | None = None,
    ) -> None:
        width = weight.shape[1]
        mean, std = torch.zeros(width) if mean is None else mean, torch.ones(width) if std is None else std
        super().__init__(weight=weight, bias=bias, mean=mean, std=std)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(self.standardised(x), self.weight, self.bias)


class LayeredHead(Head):
    """Linear layers with ReLU between them: (N, D) -> (N, outputs).

    Args:
        tensors: `weight0` (width, D), `bias0` (width,), `weight1`, ... in the order of the layers.
    """

    kind = "layered"

    def __init__(self, **tensors: Tensor) -> None:
        super().__init__(**tensors)
        self.layers = len(tensors) // 2

    def forward(self, x: Tensor) -> Tensor:
        for i in range(self.layers):
            x = functional.linear(x.relu() if i else x, getattr(self, f"weight{i}"), getattr(self, f"bias{i}"))
        return x


class CosineHead(LinearHead):
    """The same on embeddings of unit length: weights of unit length over a temperature make it a scaled cosine."""

    kind = "cosine"

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(functional.normalize(self.standardised(x)), self.weight, self.bias)


class NeighboursHead(Head):
    """Votes of the nearest labeled units, weighted by exp(cosine / temperature) (Wu 2018): (N, D) -> (N, outputs).

    The logits are the logarithm of each class's share of the votes, so that their softmax is that share.

    Args:
        examples: (n, D) labeled units, standardised and of unit length.
        votes: (n, outputs) what each votes for, one-hot.
        mean, std: (D,) that embeddings are standardised with first.
        neighbours: how many vote, at most n.
        temperature: of the cosine.
    """

    kind = "neighbours"
    examples: Tensor
    votes: Tensor
    neighbours: Tensor
    temperature: Tensor

    def __init__(
        self, examples: Numbers, votes: Numbers, mean: Numbers, std: Numbers, neighbours: Numbers, temperature: Numbers
    ) -> None:
        super().__init__(
            examples=examples, votes=votes, mean=mean, std=std, neighbours=neighbours, temperature=temperature
        )

    def forward(self, x: Tensor) -> Tensor:
        cosine = functional.normalize(self.standardised(x)) @ self.examples.T
        nearest, index = cosine.topk(int(self.neighbours))
        weight = (nearest / self.temperature).softmax(1)
        return (weight[:, :, None] * self.votes[index]).sum(1).clamp_min(FEWEST).log()


class TreesHead(Head):
    """A sum of decision trees: (N, D) -> (N, outputs).

    Args:
        feature, threshold: (T, M) of each node of each tree: a unit goes left where that feature is at most this.
        left, right: (T, M) numbers of the nodes that follow; a leaf is followed by itself.
        value: (T, M) what a leaf says.
        share: (T, outputs) how much of a tree's value goes to each logit.
        bias: (outputs,).
        depth: steps from the root to the deepest leaf.
    """

    kind = "trees"
    feature: Tensor
    threshold: Tensor
    left: Tensor
    right: Tensor
    value: Tensor
    share: Tensor
    bias: Tensor
    depth: Tensor

    def __init__(
        self,
        feature: Numbers,
        threshold: Numbers,
        left: Numbers,
        right: Numbers,
        value: Numbers,
        share: Numbers,
        bias: Numbers,
        depth: Numbers,
    ) -> None:
        nodes = {"feature": feature, "threshold": threshold, "left": left, "right": right, "value": value}
        super().__init__(**nodes, share=share, bias=bias, depth=depth)

    def forward(self, x: Tensor) -> Tensor:
        trees = torch.arange(len(self.feature))
        node = torch.zeros(len(x), len(trees), dtype=torch.long)
        for _ in range(int(self.depth)):
            seen = x.gather(1, self.feature[trees, node].long())
            below = seen <= self.threshold[trees, node]
            node = torch.where(below, self.left[trees, node], self.right[trees, node]).long()
        return self.value[trees, node] @ self.share + self.bias


KINDS: tuple[type[Head], ...] = (LinearHead, LayeredHead, CosineHead, NeighboursHead, TreesHead)
HEADS = {head.kind: head for head in KINDS}


def make_head(kind: str, tensors: dict[str, Tensor]) -> Head:
    """The head of that kind from its state dict.

    Raises:
        UserError: no head of that kind, or one that has other tensors.
    """
    if kind not in HEADS:
        raise unknown("kind of head", kind, sorted(HEADS), "head")
    try:
        head = HEADS[kind](**tensors)
        head.load_state_dict(tensors)
    except (TypeError, RuntimeError):
        fix = "Make the predictor again with this version of medssl."
        raise UserError(f"these are not the tensors of a head of kind '{kind}'", "head", fix) from None
    return head.eval()
