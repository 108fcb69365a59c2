"""Gradients of one batch: at once, or in parts where that is the same mathematics.

A loss that is a mean over images may be taken part by part. One that compares the images of a batch may not; there the
embeddings are computed part by part, the loss of all of them once, and then each part's gradient from that of its
embeddings (gradient caching: Gao 2021, arXiv:2101.06983). Batch normalisation sees parts where it should see the batch,
so encoders that have it are refused.
"""

from __future__ import annotations

from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from medssl.augment import RowGenerator
from medssl.errors import UserError
from medssl.pretext import Batch, PretextTask
from medssl.pretext.processes import process_count


def refuse_parts(task: PretextTask, batch: int, parts: int) -> None:
    """Raise UserError where a batch in parts would not train as the whole batch does."""
    if parts == 1:
        return
    where, name = "accumulate", task.name
    if batch % parts or batch // parts < task.least_batch:
        raise UserError(f"{batch} images do not make {parts} equal parts of at least {task.least_batch}", where)
    if task.compares is None:
        raise UserError(
            f"'{name}' does not say whether its loss compares the images of a batch", where, "Leave it out."
        )
    if task.compares and type(task).inputs is PretextTask.inputs:
        fix = "Lower the batch, or give the task `inputs` and `loss_of` so that gradients can be cached."
        raise UserError(f"the loss of '{name}' compares the images of a batch, and a part has too few", where, fix)
    what = "batch normalisation would see a part where it should see the batch"
    if _has_batch_norm(task.encoder):
        fix = "Take an encoder without it (small_gn, or one with LayerNorm), or a smaller batch."
        raise UserError(what, where, fix)
    if not task.compares and _has_batch_norm(task):  # heads that compare are given the whole batch
        raise UserError(
            f"{what}: '{name}' cannot be taken in parts, as its heads have batch norm", where, "Lower the batch."
        )


def parts_work(task: PretextTask, batch: int, parts: int) -> bool:
    """Whether `refuse_parts` lets it pass."""
    try:
        refuse_parts(task, batch, parts)
    except UserError:
        return False
    return True


def gradients(
    fabric: Fabric, module: Any, task: PretextTask, batch: Batch, generator: RowGenerator, parts: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """Add the batch's gradients to the parameters, averaged over processes.

    Args:
        fabric, module: `module` is `task` as Fabric has set it up.
        parts: in how many to take the batch; see `refuse_parts`.

    Returns:
        Loss and metrics of this process.
    """
    if parts == 1:
        loss, metrics = module(batch, generator)
        fabric.backward(loss)
        return loss.detach(), metrics
    rows = len(batch.rows) // parts
    slices = [slice(start, start + rows) for start in range(0, len(batch.rows), rows)]
    if task.compares:
        return _cached(fabric, module, task, batch, generator, slices)
    return _summed(fabric, module, batch, generator, slices)


def _summed(
    fabric: Fabric, module: Any, batch: Batch, generator: RowGenerator, slices: list[slice]
) -> tuple[Tensor, dict[str, Tensor]]:
    sums: dict[str, Tensor] = {}
    for part in slices:
        with fabric.no_backward_sync(module, enabled=part is not slices[-1]):
            loss, metrics = module(batch.part(part), generator.part(part))
            fabric.backward(loss / len(slices))
        for key, value in {"loss": loss.detach(), **metrics}.items():
            sums[key] = sums.get(key, 0) + value / len(slices)
    return sums.pop("loss"), sums


def _cached(
    fabric: Fabric, module: Any, task: PretextTask, batch: Batch, generator: RowGenerator, slices: list[slice]
) -> tuple[Tensor, dict[str, Tensor]]:
    with fabric.no_backward_sync(module):
        with fabric.autocast():
            inputs = task.inputs(batch, generator)
            views = inputs.view(-1, len(batch.rows), *inputs.shape[1:])  # (V, N, C, *spatial)
            with torch.no_grad():
                states, found = [], []
                for part in slices:
                    states.append(_random_state(inputs.device))
                    found.append(task.embed(views[:, part].flatten(0, 1)))
        joined = torch.cat([e.view(len(views), -1, e.shape[1]) for e in found], 1)
        embeddings = joined.flatten(0, 1).requires_grad_()
        with fabric.autocast():
            loss, metrics = task.loss_of(embeddings, batch, generator)
        fabric.backward(loss)
        assert embeddings.grad is not None
        gradient = embeddings.grad.view(len(views), len(batch.rows), -1)
        after = _random_state(inputs.device)
        for part, state in zip(slices, states, strict=True):
            _set_random_state(inputs.device, state)  # layers that draw (stochastic depth) draw the same again
            with fabric.autocast():
                again = task.embed(views[:, part].flatten(0, 1))
            again.backward(gradient[:, part].flatten(0, 1))
        _set_random_state(inputs.device, after)
    task.last_embedding = embeddings.detach()
    average(fabric, task)
    return loss.detach(), metrics


def _random_state(device: torch.device) -> tuple[Tensor, ...]:
    """Of torch's generators that layers on this device draw from."""
    own = (torch.cuda.get_rng_state(device),) if device.type == "cuda" else ()
    return (torch.get_rng_state(), *own)


def _set_random_state(device: torch.device, state: tuple[Tensor, ...]) -> None:
    torch.set_rng_state(state[0])
    if len(state) > 1:
        torch.cuda.set_rng_state(state[1], device)


def _has_batch_norm(module: nn.Module) -> bool:
    return any(isinstance(child, _BatchNorm) for child in module.modules())


def average(fabric: Fabric, module: nn.Module) -> None:
    """Average the gradients over processes, as DDP does where it sees the backward pass."""
    if process_count() == 1:
        return
    for parameter in module.parameters():
        if parameter.grad is not None:
            parameter.grad = fabric.all_reduce(parameter.grad, reduce_op="mean")  # type: ignore[assignment]
