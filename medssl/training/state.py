"""What a run keeps on disk so that it can go on: weights, optimizer state and counters in one safetensors file.

No pickle: tensors are named `task.*` and `optimizer.NUMBER.PARAMETER.NAME`, everything else is JSON in the metadata.
Random numbers need no state, as they are keyed by step (see medssl.augment.random). The last two states are kept.
"""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from medssl.progress import say
from medssl.workspace import atomic

KEPT = 2


def save_state(
    folder: Path, task: nn.Module, optimizers: list[torch.optim.Optimizer], counters: dict[str, Any]
) -> None:
    """Write the whole state of a run, atomically; only then are all but the last two states deleted.

    Args:
        counters: JSON-able, with `step`.

    Raises:
        OSError, SafetensorError: it could not be written; earlier states are as they were.
    """
    tensors = {f"task.{k}": v for k, v in task.state_dict().items()}
    for number, optimizer in enumerate(optimizers):
        for parameter, entries in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{parameter}.{k}": torch.as_tensor(v) for k, v in entries.items()}
    with atomic(folder / f"{counters['step']:09d}.safetensors") as fresh:
        save_file(
            {k: v.detach().cpu().contiguous() for k, v in tensors.items()},
            fresh,
            metadata={"counters": json.dumps(counters)},
        )
    for old in states(folder)[KEPT:]:
        old.unlink()


def load_state(folder: Path, task: nn.Module, optimizers: list[torch.optim.Optimizer]) -> dict[str, Any] | None:
    """Put the newest saved state back, bit for bit; returns its counters, or None where nothing was saved."""
    for path in states(folder):
        try:
            with safe_open(str(path), framework="pt") as file:
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
                counters = json.loads(file.metadata()["counters"])
        except (SafetensorError, OSError):
            say(f"The saved state {path.name} is damaged: taking the one before.")
            continue
        task.load_state_dict({k.removeprefix("task."): v for k, v in tensors.items() if k.startswith("task.")})
        for number, optimizer in enumerate(optimizers):
            _load_optimizer(optimizer, tensors, f"optimizer.{number}.")
        return counters
    return None


def states(folder: Path) -> list[Path]:
    """Saved states, newest first."""
    return sorted(folder.glob("[0-9]*.safetensors"), reverse=True)


def is_disk_full(error: BaseException) -> bool:
    """An OSError that says so, or safetensors' own error about one."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return isinstance(error, SafetensorError) and "os error 28" in str(error)


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], prefix: str) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith(prefix):
            number, name = key.removeprefix(prefix).split(".", 1)
            like = parameters[int(number)]
            if value.shape == like.shape:  # in the parameter's own memory layout, as the optimizer had made it
                value = torch.empty_like(like, dtype=value.dtype, device="cpu").copy_(value)
            state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
