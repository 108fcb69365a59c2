"""From samples to batches on the device. No worker processes: samples are uint8 and wait where they are used."""

from __future__ import annotations

from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor

from medssl.augment import RowGenerator
from medssl.pretext import Batch

SHARE_OF_MEMORY = 0.5  # of what is free, for samples that stay on the device
ORDER = 1 << 62  # keeps the draws that shuffle apart from those of training steps


class Feed:
    """Batches in an order that depends on the seed alone.

    Each epoch is a new permutation; its last, incomplete batch is left out. Every process makes the whole order and
    takes its own consecutive part of each batch.

    Args:
        images: (N, C, *spatial) uint8, in memory or memory-mapped.
        table: one row an image with scan, exam, patient and position_mm.
        keep: (M,) the rows to train on.
        batch: images a step over all processes.
        seed: of the order.
        device: where batches are wanted. All samples are kept there as uint8 when they fit into half of its free
            memory; otherwise each batch is gathered from `images`.
        rank, processes: this process's number, and how many there are.
    """

    def __init__(
        self,
        images: np.ndarray,
        table: Any,
        keep: np.ndarray,
        batch: int,
        seed: int,
        device: torch.device,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        self.images, self.keep, self.batch, self.seed, self.device = images, keep, batch, seed, device
        self.steps_per_epoch = len(keep) // batch
        share = batch // processes
        self._own = slice(rank * share, (rank + 1) * share)
        self._rows = torch.arange(batch, device=device)[self._own]
        self._ids = {name: _codes(table[name].to_numpy()[keep]) for name in ("scan", "exam", "patient")}
        self._position = torch.from_numpy(table["position_mm"].to_numpy(np.float32)[keep])
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.int64)
        size = len(keep) * int(np.prod(images.shape[1:]))
        self.resident: Tensor | None = None
        if size <= SHARE_OF_MEMORY * free_memory(device):
            self.resident = torch.from_numpy(np.ascontiguousarray(images[keep])).to(device)

    def indices(self, step: int) -> Tensor:
        """(batch,) places in `keep` of the whole batch of this step."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            draws = RowGenerator(self.seed, ORDER + epoch, torch.arange(len(self.keep))).integers(1 << 31)[:, 0]
            self._epoch, self._order = epoch, draws.argsort(stable=True)
        return self._order[place * self.batch : (place + 1) * self.batch]

    def __call__(self, step: int) -> Batch:
        """This process's part of the batch of this step, counted from 0."""
        chosen = self.indices(step)[self._own]
        if self.resident is not None:
            images = self.resident[chosen.to(self.device)]
        else:
            ascending = chosen.argsort()  # a memory map is read fastest in its own order
            gathered = torch.from_numpy(self.images[self.keep[chosen[ascending].numpy()]])
            images = torch.empty_like(gathered)
            images[ascending] = gathered
        device = self.device
        return Batch(
            images=images.to(device).float().div_(255),
            index=torch.from_numpy(self.keep[chosen.numpy()]).to(device),
            **{name: codes[chosen].to(device) for name, codes in self._ids.items()},
            position=self._position[chosen].to(device),
            rows=self._rows,
        )


def free_memory(device: torch.device) -> int:
    """Bytes that are free on the device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available


def _codes(names: np.ndarray) -> Tensor:
    return torch.from_numpy(np.unique(names.astype(str), return_inverse=True)[1].astype(np.int64))
