"""Heads and measures that several tasks share."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl.augment import RowGenerator, Views
from medssl.pretext.base import Batch, PretextTask
from medssl.pretext.processes import gather, process_count


def mlp(inputs: int, hidden: int, outputs: int, layers: int, last_norm: bool) -> nn.Sequential:
    """`layers` linear layers; the inner ones with batch normalisation and ReLU, the last one with a norm or with none.

    The last norm has no scale and shift, so that it cannot undo itself.
    """
    widths = [inputs, *[hidden] * (layers - 1)]
    body: list[nn.Module] = []
    for a, b in pairwise(widths):
        body += [nn.Linear(a, b, bias=False), nn.BatchNorm1d(b), nn.ReLU(inplace=True)]
    body.append(nn.Linear(widths[-1], outputs, bias=not last_norm))
    return nn.Sequential(*body, *([nn.BatchNorm1d(outputs, affine=False)] if last_norm else []))


@torch.no_grad()
def retrieval(first: Tensor, second: Tensor) -> Tensor:
    """The share of rows of `first`, (N, D), whose most similar row of `second` (of all processes) is their own."""
    keys, start = gather(F.normalize(second.detach().float(), dim=1))
    found = (F.normalize(first.detach().float(), dim=1) @ keys.T).argmax(1)
    return (found == start + torch.arange(len(first), device=first.device)).float().mean()


def chance(batch: Batch) -> float:
    """`retrieval` where nothing is learned: one of the images of all processes."""
    return 1 / (len(batch.rows) * process_count())


def cosine(first: Tensor, second: Tensor) -> Tensor:
    """Mean cosine between the rows of two (N, D)."""
    return F.cosine_similarity(first.float(), second.float(), dim=1).mean()


@torch.no_grad()
def found_untrained(task: PretextTask, batch: Batch, generator: RowGenerator, plan: Views) -> float:
    """How often the encoder, as it is, finds the other view among those of the batch."""
    training = task.training
    task.eval()
    first, second = task.embed(task.new_views(batch.images, plan, generator)).chunk(2)
    task.train(training)
    return float(retrieval(first, second))
