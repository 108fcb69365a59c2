"""What `auto` means: rules that look at hardware and sizes, never at a stopwatch, so that a rerun decides the same."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from medssl.errors import UserError
from medssl.pretext.base import MakeOptimizer
from medssl.training.lars import LARS

CPU_BATCH, GPU_BATCH = 128, 256
LARS_FROM = 2048
WARMUP_SHARE, WARMUP_AT_MOST = 0.1, 500
REFERENCE_BATCH = 128  # tasks state their learning rate at this batch


def this_device() -> torch.device:
    """Where networks are pretrained and embed: the GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def devices() -> list[str]:
    """Where jobs train their networks, each on one: every GPU, or else the CPU."""
    return [f"cuda:{number}" for number in range(torch.cuda.device_count())] or ["cpu"]


def resolve_precision(asked: str, device: torch.device, spatial_dims: int) -> str:
    """`32` or `bf16`. `auto` takes bf16 where it is faster: GPUs and CPUs that have it.

    In 3-D a CPU without AMX stays in 32 bits, since there torch's bf16 gradients on small maps are not the same twice
    (docs/decisions.md).
    """
    if asked in ("32", "bf16"):
        return asked
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "32"
    reliable = {"amx_bf16"} if spatial_dims == 3 else {"amx_bf16", "avx512_bf16"}
    return "bf16" if device.type == "cpu" and reliable & _cpu_flags() else "32"


def resolve_batch(
    asked: int | str,
    device: torch.device,
    pool: int,
    least: int,
    processes: int = 1,
    fitting: Callable[[int], int] = lambda most: most,
) -> int:
    """Images a step, over all processes. `auto`: 128 on a CPU, 256 on a GPU, less where pool or memory is smaller.

    Args:
        pool: samples to train on.
        least: of the task.
        fitting: the largest batch up to a number that a process has memory for.

    Raises:
        UserError: the batch is larger than the pool, too small for the task, or cannot be shared evenly.
    """
    if asked == "auto":
        batch = min(GPU_BATCH if device.type == "cuda" else CPU_BATCH, 1 << max(pool.bit_length() - 1, 0))
        if least <= batch:
            batch = processes * fitting(max(batch // processes, 1))
    else:
        batch = int(asked)
    if batch > pool or pool < least:
        raise UserError(
            f"a batch of {max(batch, least)} needs as many samples, and there are {pool} to train on",
            "batch",
            "Lower the batch, or bring more scans.",
        )
    if batch < least:
        raise UserError(f"this task needs a batch of at least {least}, not {batch}", "batch")
    if batch % processes:
        raise UserError(f"a batch of {batch} cannot be shared by {processes} processes evenly", "batch")
    return batch


def resolve_optimizer(asked: str, batch: int) -> tuple[str, MakeOptimizer]:
    """`adamw` or `lars`. `auto` takes LARS for batches so large that AdamW needs its rate tuned (Chen 2020)."""
    name = ("lars" if batch >= LARS_FROM else "adamw") if asked == "auto" else asked
    return name, LARS if name == "lars" else partial(torch.optim.AdamW, fused=True)


def resolve_learning_rate(asked: float | None, default: float, batch: int, optimizer: str = "adamw") -> float:
    """What was asked for, else the task's rate scaled by the square root of the batch, as suits AdamW.

    LARS takes 0.3 x batch / 256 for every task (Chen 2020).
    """
    if asked is not None:
        return asked
    return 0.3 * batch / 256 if optimizer == "lars" else default * math.sqrt(batch / REFERENCE_BATCH)


def learning_rate_at(step: int, steps: int, peak: float) -> float:
    """Linear warm-up, then half a cosine down to nothing (Loshchilov 2017); `step` counts from 0."""
    warmup = max(1, min(round(WARMUP_SHARE * steps), WARMUP_AT_MOST))
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _cpu_flags() -> set[str]:
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return set()
    line = next((x for x in info.read_text().splitlines() if x.startswith("flags")), "")
    return set(line.split())
