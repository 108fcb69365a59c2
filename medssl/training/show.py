"""What a pretext task sees of real scans, and what its network answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from medssl.augment import RowGenerator
from medssl.cohort import Cohort
from medssl.config import View, validate
from medssl.encoders import load_checkpoint
from medssl.errors import UserError
from medssl.pretext import PretextTask
from medssl.pretext.pictures import Picture
from medssl.training.feed import Feed
from medssl.training.loop import FLOOR
from medssl.training.plan import Request
from medssl.training.run import make_fabric, of_cohort

BATCH = 16  # answers that are chosen among the images of a batch have so many to choose from


class Shown(NamedTuple):
    """
    Attributes:
        task: its name.
        steps: that the network was trained for; 0 for one with random weights, whose answers mean nothing.
        rows: one picture an image.
    """

    task: str
    steps: int
    rows: list[Picture]


def show(
    cohort: Cohort,
    task: str = "simclr",
    *,
    checkpoint: Path | None = None,
    view: View | None = None,
    settings: dict[str, Any] | None = None,
    rows: int = 4,
    seed: int = 0,
    **engine: Any,
) -> Shown:
    """Pictures of what a task sees and answers on a few scans.

    Args:
        cohort: whose scans are shown.
        task: a name from `medssl.pretext.tasks()`; of a checkpoint it is the one that it was trained on.
        checkpoint: of `pretrain`, with encoder and heads; it also says task, settings and View. Default: an untrained
            network.
        view, settings, engine: as for `pretrain`, without a checkpoint.
        rows: how many images.
        seed: of the choice of images and of the views.

    Raises:
        UserError: the task cannot work on these scans, or the file is no checkpoint of a task.
    """
    if checkpoint is not None:
        request, module, steps = restored(cohort, checkpoint, seed)
    else:
        samples, about = of_cohort(cohort, task, view, frozenset(), settings)
        wanted = {"batch": BATCH, "precision": "32", "seed": seed} | engine
        request = Request(samples, task, settings or {}, frozenset(), about["modality"], wanted, make_fabric)
        module, steps = request.fresh_task().to(request.fabric.device).eval(), 0
    sampling, device = request.sampling(request.batch), request.fabric.device
    batch = Feed(request.samples.images, request.samples.table, request.keep, sampling, device, workers=0, hold=False)(
        0
    )
    with torch.no_grad():
        shown = module.show(batch, RowGenerator(seed, FLOOR, batch.rows))
    return Shown(module.name, steps, shown[:rows])


def restored(cohort: Cohort, checkpoint: Path, seed: int) -> tuple[Request, PretextTask, int]:
    """The task of a checkpoint as it was trained, its samples of a cohort, and the steps that it was trained for.

    Raises:
        UserError: the file is no checkpoint of a task, or the task cannot work on these scans.
    """
    weights = load_checkpoint(checkpoint)
    identity = weights.metadata.get("identity")
    if identity is None:
        raise UserError("this checkpoint does not say which task it was trained on", str(checkpoint))
    name, settings = identity["task"], identity["settings"]
    samples, about = of_cohort(cohort, name, validate(View, identity["view"], "view"), frozenset())
    engine = {"batch": BATCH, "precision": "32", "seed": seed, "encoder": identity["encoder"]}
    request = Request(samples, name, settings, frozenset(), about["modality"], engine, make_fabric)
    task = request.fresh_task()
    task.encoder.load_state_dict(weights.encoder.state_dict())
    load_heads(task, weights.heads, checkpoint)
    return request, task.to(request.fabric.device).eval(), identity["steps"]


def load_heads(task: PretextTask, heads: dict[str, dict[str, Tensor]], checkpoint: Path | None) -> None:
    """The heads of a checkpoint into a task. Queues and memory banks, which have the size of the pool that they were
    filled from, may not fit and are then left empty.

    Raises:
        UserError: weights of a head are not there.
    """
    for name, head in task.heads().items():
        held, own = heads.get(name, {}), head.state_dict()
        fitting = {key: value for key, value in held.items() if key in own and own[key].shape == value.shape}
        if missing := {key for key, _ in head.named_parameters()} - set(fitting):
            raise UserError(
                f"{len(missing)} weights of the head '{name}' of '{task.name}' are not in the checkpoint",
                str(checkpoint),
                "Pretrain it again with this version of medssl.",
            )
        head.load_state_dict(fitting, strict=False)
