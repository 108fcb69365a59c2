"""What a run will need, before it begins: memory and time, from a forward and backward pass of a few images."""

from __future__ import annotations

import copy
import math
import time
import weakref
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from medssl.augment import RowGenerator
from medssl.encoders.embed import layout
from medssl.errors import MedsslError, UserError
from medssl.pretext import Batch, PretextTask
from medssl.pretext.processes import process_count
from medssl.training.gradients import parts_work

Work = Callable[[Fabric, PretextTask, Batch], None]
ROWS = 8  # images that are tried
PER_WEIGHT = 12  # bytes: float32 weight and two moments of AdamW; gradients come and go with every step
# Times what tensors need: freed memory lies in pieces that the next tensors do not fit into, in more of them in bf16 on
# a CPU (`benchmarks/pretext_memory.py`). Pages of its own for each tensor waste nothing and cost half the speed.
SPARE, SPARE_BF16 = 1.2, 1.5
IDLE = 0.01  # share of an encoder's weights that a task may leave untrained, such as a last norm
SHARE = 0.6  # of the device's whole memory, for `batch: auto`


@dataclass(frozen=True)
class Estimate:
    """
    Attributes:
        fixed: bytes that no batch changes: weights, moments, resident samples.
        held: bytes that are held beside them at one moment of a step or another, (whatever the batch, for each image).
            Which moment takes most depends on the batch: of a few images it may be the one where gradients are whole.
        seconds_per_image: forward and backward, with views, of a small batch after a first one.
        spare: times as many bytes as that are taken.
    """

    fixed: int
    held: tuple[tuple[int, int], ...]
    seconds_per_image: float
    spare: float = SPARE

    def memory(self, images: int) -> int:
        """Bytes at this many images at once."""
        return int(self.spare * (self.fixed + max(always + images * each for always, each in self.held)))

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
    rows = min(2 * few, len(batch.rows))
    work = [_pass] if task.sees_wholes else [_pass, _settling]
    held = frozenset[tuple[int, int]]().union(*(_held(fabric, trial, batch, few, rows, one) for one in work))
    seconds = _seconds(fabric, trial, batch, rows)
    _refuse_idle_weights(trial)
    fixed = sum(PER_WEIGHT * p.numel() if p.requires_grad else p.nbytes for p in trial.parameters())
    fixed += sum(buffer.nbytes for buffer in trial.buffers()) + resident
    with fabric.autocast():
        narrow = fabric.device.type == "cpu" and torch.is_autocast_enabled("cpu")
    return Estimate(fixed, tuple(sorted(held)), seconds / rows, SPARE_BF16 if narrow else SPARE)


def _refuse_idle_weights(task: PretextTask) -> None:
    """Raise UserError where the task's loss does not reach a part of the encoder, which the encoder's vectors pass
    through: it would be left as it was made, and the features with it.

    Networks of timm may have layers between the last feature map and the vector; a task that paints reads maps alone.
    """
    trained = [weight for weight in task.encoder.parameters() if weight.requires_grad]
    idle = sum(weight.numel() for weight in trained if weight.grad is None) / sum(weight.numel() for weight in trained)
    if idle > IDLE:
        raise UserError(
            f"'{task.name}' would leave {idle:.0%} of the weights of '{task.encoder.name}' untrained: layers that its "
            "vectors pass through and its feature maps do not",
            "encoder",
            "Take another encoder, such as small or resnet18, or a task that trains vectors, such as simclr.",
        )


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


class Held(TorchDispatchMode):
    """Bytes that are held after each operation while this is on, in forward and backward passes.

    Args:
        there: tensors that are held from the beginning, and count.
        apart: tensors that are counted elsewhere.

    Attributes:
        operations, after: torch's functions in their order, and the bytes after each.
    """

    def __init__(self, there: Collection[Tensor], apart: Collection[Tensor]) -> None:
        super().__init__()
        self.known = {x.untyped_storage()._cdata for x in (*there, *apart)}
        self.now = sum(x.nbytes for x in there)
        self.operations: list[Any] = []
        self.after: list[int] = []

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        result = function(*arguments, **(named or {}))
        for x in tree_leaves(result):
            if isinstance(x, Tensor):
                self._count(x.untyped_storage())
        self.operations.append(function)
        self.after.append(self.now)
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata not in self.known:  # views share the storage of what they view
            self.known.add(storage._cdata)
            self.now += storage.nbytes()
            weakref.finalize(storage, self._gone, storage._cdata, storage.nbytes()).atexit = False

    def _gone(self, place: int, size: int) -> None:
        self.known.discard(place)
        self.now -= size


def _held(
    fabric: Fabric, task: PretextTask, batch: Batch, few: int, rows: int, work: Work
) -> frozenset[tuple[int, int]]:
    """Bytes that this work holds after each of its operations: (whatever the batch, for each image)."""
    if rows == few:
        return frozenset({(0, max(_watched(fabric, task, batch, rows, work).after) // rows)})
    less, more = (_watched(fabric, task, batch, count, work) for count in (few, rows))
    after = list(zip(less.after, more.after, strict=False))
    if less.operations != more.operations:  # some are decided by the draws of a batch
        after = [(max(less.after), max(more.after))]
    each = [(at, (later - at) // (rows - few)) for at, later in after]
    return frozenset((at - few * by, by) for at, by in each)


def _watched(fabric: Fabric, task: PretextTask, batch: Batch, rows: int, work: Work) -> Held:
    """This work on so many images, watched."""
    part = batch.part(slice(0, rows))
    if work is _pass:
        task.zero_grad()  # as a step begins; those of the last one are there while batch norms settle
    gradients = [p.grad for p in task.parameters() if p.grad is not None]
    with Held([*vars(part).values(), *gradients], [*task.parameters(), *task.buffers()]) as held:
        work(fabric, task, part)
    return held


def _seconds(fabric: Fabric, task: PretextTask, batch: Batch, rows: int) -> float:
    begun = time.perf_counter()
    _pass(fabric, task, batch.part(slice(0, rows)))
    return time.perf_counter() - begun


def _pass(fabric: Fabric, task: PretextTask, batch: Batch) -> None:
    with torch.random.fork_rng(devices=[]):
        with fabric.autocast():
            loss, _ = nn.Module.__call__(task, batch, RowGenerator(0, 0, batch.rows))
        loss.backward()
        float(loss.detach())  # waits for the device


def _settling(fabric: Fabric, task: PretextTask, batch: Batch) -> None:
    """What `settle_norms` does at the end for a task that trains on tiles, which may be more than a step takes."""
    with fabric.autocast(), torch.no_grad():
        task.encoder.embed(batch.images)
