"""From samples to batches on the device: samples wait there when they fit, and are gathered from disk when not."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from medssl.errors import UserError
from medssl.pretext import Batch
from medssl.training.sampling import Sampling, codes, people
from medssl.training.signals import STOPPING

SHARE_OF_MEMORY = 0.5  # of what is free, for samples that stay on the device
WORKERS, PREFETCHED = 2, 2  # processes that gather, and batches that each has ready
FULL = {"uint8": 255.0, "int16": 32767.0}  # what is white; float16 and float32 are in [0, 1] already


class Feed:
    """This process's part of the batch of any step.

    Args:
        images: (N, C, *spatial) uint8, int16, float16 or float32, in memory or memory-mapped.
        table: one row an image with scan, exam, patient and position_mm.
        keep: (M,) the rows to train on.
        sampling: which of them make a batch.
        device: where batches are wanted. All samples are kept there, in their own dtype, when they fit into half of its
            free memory. Otherwise worker processes gather each batch from `images` ahead of time.
        rank, processes: this process's number, and how many there are.
        workers: processes that gather; 0 gathers in this one.
        hold: False keeps nothing on the device, whatever fits; for a look at a few images.

    Raises:
        UserError: values that are no numbers.
    """

    def __init__(
        self,
        images: np.ndarray,
        table: Any,
        keep: np.ndarray,
        sampling: Sampling,
        device: torch.device,
        rank: int = 0,
        processes: int = 1,
        workers: int = WORKERS,
        hold: bool = True,
    ) -> None:
        share = sampling.batch // processes
        self.batch, self.device, self.sampling, self.workers = sampling.batch, device, sampling, workers
        self._own = slice(rank * share, (rank + 1) * share)
        self._rows = torch.arange(self.batch, device=device)[self._own]
        names = {"scan": table["scan"].to_numpy(), "exam": table["exam"].to_numpy(), "patient": people(table)}
        self._ids = {name: codes(of[keep]) for name, of in names.items()}
        self._position = torch.from_numpy(table["position_mm"].to_numpy(np.float32)[keep])
        self._keep = torch.from_numpy(keep.astype(np.int64))
        self._gather = Gather(images, keep, sampling, self._own)
        self.size = len(keep) * int(np.prod(images.shape[1:])) * images.dtype.itemsize
        self.free = free_memory(device) // max(1, processes if device.type == "cpu" else 1)
        self.resident: Tensor | None = None
        self.fits = self.size <= SHARE_OF_MEMORY * self.free
        if hold and self.fits:
            self.resident = torch.from_numpy(np.ascontiguousarray(images[keep])).to(device)
            refuse_what_is_no_number(self.resident)
        self._ahead: Iterator[Tensor] | None = None
        self._next = -1

    def __str__(self) -> str:
        need = f"{len(self._keep):,} samples are {self.size / 2**20:,.0f} MiB, {self.free / 2**20:,.0f} MiB are free"
        if self.fits:
            return f"{need}: kept on the device, no worker processes"
        return f"{need}: gathered from disk by {self.workers} worker processes"

    def __len__(self) -> int:
        """How many samples there are to train on."""
        return len(self._keep)

    def __call__(self, step: int) -> Batch:
        """The batch of this step, counted from 0."""
        chosen = self.sampling(step)[self._own]
        if self.resident is not None:
            images = self.resident[chosen.to(self.device)]
        else:
            images = self._gathered(step).to(self.device, non_blocking=True)
            refuse_what_is_no_number(images)
        first = chosen if chosen.ndim == 1 else chosen[:, 0]
        device = self.device
        return Batch(
            images=to_unit(images),
            index=self._keep[chosen].to(device),
            scan=self._ids["scan"][chosen].to(device),
            exam=self._ids["exam"][first].to(device),
            patient=self._ids["patient"][first].to(device),
            position=self._position[chosen].to(device),
            rows=self._rows,
        )

    def _gathered(self, step: int) -> Tensor:
        if not self.workers:
            return self._gather[step]
        if self._ahead is None or step != self._next:
            loader: DataLoader = DataLoader(
                self._gather,
                batch_size=None,
                sampler=From(step),
                num_workers=self.workers,
                prefetch_factor=PREFETCHED,
                pin_memory=self.device.type == "cuda",
                worker_init_fn=leave_signals,
                multiprocessing_context="fork" if os.name == "posix" else None,
            )
            self._ahead = iter(loader)
        self._next = step + 1
        return next(self._ahead)

    def close(self) -> None:
        """Let the worker processes go."""
        self._ahead = None


class Gather(Dataset):
    """Item s: one process's raw samples of step s, read in the order in which they lie."""

    def __init__(self, images: np.ndarray, keep: np.ndarray, sampling: Sampling, own: slice) -> None:
        self.images, self.keep, self.sampling, self.own = images, keep, sampling, own

    def __getitem__(self, step: int) -> Tensor:
        chosen = self.keep[self.sampling(step)[self.own].numpy()]
        flat = chosen.reshape(-1)
        ascending = np.argsort(flat, kind="stable")
        out = np.empty((len(flat), *self.images.shape[1:]), self.images.dtype)
        out[ascending] = self.images[flat[ascending]]
        return torch.from_numpy(out).view(*chosen.shape, *self.images.shape[1:])


class From(Sampler):
    """The steps from one on, without end."""

    def __init__(self, first: int) -> None:
        self.first = first

    def __iter__(self) -> Iterator[int]:
        return itertools.count(self.first)


def to_unit(images: Tensor) -> Tensor:
    """Raw samples as float32 in [0, 1]."""
    full = FULL.get(str(images.dtype).removeprefix("torch."))
    return images.float() if full is None else images.float().div_(full)


def refuse_what_is_no_number(images: Tensor) -> None:
    if images.is_floating_point() and not bool(torch.isfinite(images).all()):
        raise UserError(
            "some samples hold values that are no numbers (NaN or infinite)",
            "samples",
            "Mask them as padding, or leave these scans out.",
        )


def leave_signals(worker: int) -> None:
    """The main process saves and ends its workers; a signal to the whole group must not take them away before."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)


def free_memory(device: torch.device) -> int:
    """Bytes that are free on the device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available
