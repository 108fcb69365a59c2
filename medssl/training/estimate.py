"""What a run will need, before it begins: memory from what a few images leave for the backward pass, and time."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass

import psutil
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from medssl.augment import RowGenerator
from medssl.errors import MedsslError
from medssl.pretext import Batch, PretextTask
from medssl.pretext.base import process_count
from medssl.training.gradients import parts_work

ROWS = 8  # images that are tried
PER_WEIGHT = 16  # bytes: float32 weight and gradient, and two moments of AdamW
SPARE = 1.25  # for buffers of the libraries
SHARE = 0.6  # of the device's whole memory, for `batch: auto`


@dataclass(frozen=True)
class Estimate:
    """
    Attributes:
        fixed: bytes that no batch changes: weights, gradients, moments, resident samples.
        per_image: bytes an image adds: what the backward pass needs, views included.
        seconds_per_image: forward and backward, with views, of a small batch after a first one.
    """

    fixed: int
    per_image: int
    seconds_per_image: float

    def memory(self, images: int) -> int:
        """Bytes at this many images at once."""
        return int(SPARE * (self.fixed + images * self.per_image))

    def fitting(self, memory: float, most: int, least: int) -> int:
        """The largest power of two up to `most`, at least `least`, whose batch fits into so many bytes."""
        batch = 1 << (most.bit_length() - 1)
        while batch > least and self.memory(batch) > memory:
            batch //= 2
        return max(batch, least)


def estimate(fabric: Fabric, task: PretextTask, batch: Batch, resident: int) -> Estimate:
    """Try a copy of the task on the first images of a batch; the task itself stays as it is.

    Args:
        batch: at least 2 x ROWS images, or all that there are.
        resident: bytes of samples that stay on the device.
    """
    trial = copy.deepcopy(task).to(fabric.device)
    trial.to(memory_format=layout(trial.encoder.spatial_dims))
    trial.train()
    few = max(trial.least_batch, min(ROWS, len(batch.rows) // 2))
    less, _ = _try(fabric, trial, batch, few)
    more, seconds = _try(fabric, trial, batch, min(2 * few, len(batch.rows)))
    rows = min(2 * few, len(batch.rows))
    weights = sum(p.numel() for p in trial.parameters())
    kept = max(0, more - less) // max(1, rows - few) if rows > few else more // rows
    return Estimate(PER_WEIGHT * weights + resident, kept, seconds / rows)


def layout(dims: int) -> torch.memory_format:
    """Channels last: what convolutions are fastest with, on CPUs with AMX by far."""
    return torch.channels_last if dims == 2 else torch.channels_last_3d


def device_memory(device: torch.device) -> int:
    """Bytes that the device has in all."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return psutil.virtual_memory().total


def is_out_of_memory(error: BaseException) -> bool:
    """CUDA has an error of its own; a CPU's allocator raises a RuntimeError that says so."""
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def out_of_memory(guess: Estimate, task: PretextTask, batch: int, parts: int, free: int) -> MedsslError:
    """The error that says what to lower, and by how much.

    Args:
        batch: images of this process, in so many `parts`.
        free: bytes that the device has.
    """
    at_once, least, processes = batch // parts, task.least_batch, process_count()
    fits = guess.fitting(0.8 * free, max(at_once // 2, least), least)
    ways = []
    if fits < at_once:
        ways.append(f"set batch={fits * parts * processes} (about {gib(guess.memory(fits))})")
        more = parts * math.ceil(at_once / fits)
        if parts_work(task, batch, more):
            ways.append(f"keep the batch and set accumulate={more}")
    ways.append("take fewer pixels or a smaller encoder")
    need = f"{at_once} images at once need about {gib(guess.memory(at_once))}, and {gib(free)} are there"
    fix = f"To go on, {', or '.join(ways)}. That is another run: name another --out."
    return MedsslError(f"out of memory: {need}", "batch", fix)


def gib(size: float) -> str:
    return f"{size / 2**30:.2g} GiB" if size < 10 * 2**30 else f"{size / 2**30:.0f} GiB"


def _try(fabric: Fabric, task: PretextTask, batch: Batch, rows: int) -> tuple[int, float]:
    """Bytes that are kept for the backward pass, and seconds, of so many images."""
    kept: dict[int, int] = {}

    def note(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return x

    few = batch.part(slice(0, rows))
    begun = time.perf_counter()
    with torch.random.fork_rng(devices=[]), torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        with fabric.autocast():
            loss, _ = nn.Module.__call__(task, few, RowGenerator(0, 0, few.rows))
        loss.backward()
        float(loss.detach())  # waits for the device
    return sum(kept.values()), time.perf_counter() - begun
