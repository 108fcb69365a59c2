"""What is asked for becomes a plan: batch, precision, rate and length by rule, memory and time by estimate."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence, Set
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from lightning_fabric import Fabric

from medssl import config
from medssl.config import DEFAULT_STEPS, Engine, View
from medssl.encoders import create_encoder
from medssl.errors import UserError
from medssl.pretext import PretextTask, task_class
from medssl.training import rules
from medssl.training.estimate import ROWS, SHARE, Estimate, device_memory, estimate, gib
from medssl.training.feed import SHARE_OF_MEMORY, Feed
from medssl.training.gradients import refuse_parts
from medssl.training.identity import outside, weights_key
from medssl.training.loop import Loop, Recipe
from medssl.training.sampling import Sampling, codes, people
from medssl.workspace import digest

if TYPE_CHECKING:
    import pandas as pd


class SamplesLike(Protocol):
    """What `fit` trains on; `medssl.cohort.Samples` is one."""

    images: np.ndarray  # (N, C, *spatial) uint8, int16, float16 or float32
    table: pd.DataFrame  # scan, patient, exam, position_mm
    view: View
    key: str


@dataclass(frozen=True)
class Plan:
    """What a run will do and need; memory in bytes, per process."""

    task: str
    encoder: str
    samples: int
    steps: int
    batch: int
    accumulate: int
    precision: str
    optimizer: str
    learning_rate: float
    device: str
    processes: int
    feed: str
    memory: int
    memory_there: int
    seconds: float
    note: str = ""

    def __str__(self) -> str:
        parts = f" in {self.accumulate} parts" if self.accumulate > 1 else ""
        shared = f" over {self.processes} processes" if self.processes > 1 else ""
        lines = [
            f"{self.task}, encoder {self.encoder}: {self.steps:,} steps of {self.batch} images{parts}{shared}, "
            f"{self.precision} on {self.device}, {self.optimizer} at {self.learning_rate:.2g}",
            self.feed,
            self.note,
            f"about {gib(self.memory)} of {gib(self.memory_there)} of memory, about {minutes(self.seconds)}",
        ]
        return "\n".join(line for line in lines if line)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Request:
    """A run before it begins: checked, resolved, and able to make its loop.

    Args:
        samples, task, settings, exclude, modality: as for `fit`.
        engine: raw values of `Engine`.
        launch: makes Fabric from a precision, `32` or `bf16`.

    Raises:
        UserError: something that cannot be done.
    """

    def __init__(
        self,
        samples: SamplesLike,
        task: str | type[PretextTask],
        settings: dict[str, Any],
        exclude: Set[str],
        modality: str,
        engine: dict[str, Any],
        launch: Callable[[str], Fabric],
    ) -> None:
        self.samples, self.modality = samples, modality
        self.engine = config.validate(Engine, engine, "pretrain")
        self.kind = task_class(task) if isinstance(task, str) else task
        self.settings = config.settings_for("task", self.kind.name, settings, f"task {self.kind.name}")
        self.kind.check(samples.view)
        _check_loggers(self.engine.log)
        self.keep = np.flatnonzero(~samples.table["patient"].isin(exclude).to_numpy())
        if not len(self.keep):
            raise UserError("there are 0 to train on: every patient is excluded, or no scan is usable", "samples")
        dims = samples.view.spatial_dims
        self.precision = rules.resolve_precision(self.engine.precision, rules.this_device(), dims)
        self.fabric = launch(self.precision)
        device, processes = self.fabric.device, self.fabric.world_size
        self.items, least = self.sampling(1).count, self.kind.least_batch * processes
        self.batch = rules.resolve_batch(self.engine.batch, device, self.items, least, processes, self._fitting)
        refuse_parts(self.task, self.batch // processes, self.engine.accumulate)
        self.optimizer, self._make = rules.resolve_optimizer(self.engine.optimizer, self.batch)
        asked = self.engine.learning_rate
        self.rate = rules.resolve_learning_rate(asked, self.kind.learning_rate, self.batch, self.optimizer)
        self.identity: dict[str, Any] = {
            "task": self.kind.name,
            "settings": self.settings.model_dump(mode="json"),
            "modality": modality,
            "encoder": self.engine.encoder,
            "weights": weights_key(self.engine.weights),
            "view": samples.view.model_dump(mode="json"),
            "samples": samples.key,
            "excluded": digest(sorted(set(samples.table["patient"]) & set(exclude))),
            "batch": self.batch,
            "accumulate": self.engine.accumulate,
            "precision": self.precision,
            "optimizer": self.optimizer,
            "learning_rate": self.rate,
            "seed": self.engine.seed,
            "device": device.type,
            "processes": processes,
            **outside(),
        }

    def length(self) -> int:
        """Steps, where they are known before anything is timed; 0 where minutes were asked for."""
        if self.engine.minutes is not None:
            return 0
        return self.engine.steps or (self.engine.epochs or 0) * (self.items // self.batch) or DEFAULT_STEPS

    def sampling(self, batch: int) -> Sampling:
        group = self.kind.group_size(self.settings)
        return Sampling(self.samples.table, self.keep, self.kind.sampling, group, batch, self.engine.seed)

    def loop(self, steps: int) -> Loop:
        """A fresh loop; the task in it is fresh as well."""
        fabric = self.fabric
        place = fabric.device, fabric.global_rank, fabric.world_size
        feed = Feed(self.samples.images, self.samples.table, self.keep, self.sampling(self.batch), *place)
        recipe = Recipe(steps, self.rate, self.engine.seed, self._make, self.engine.accumulate)
        return Loop(fabric, self.fresh_task(), feed, recipe, self.guess)

    def plan(self, steps: int) -> Plan:
        own = self.batch // self.fabric.world_size
        place = self.fabric.device, self.fabric.global_rank, self.fabric.world_size
        feed = Feed(self.samples.images, self.samples.table, self.keep, self.sampling(self.batch), *place, hold=False)
        return Plan(
            self.kind.name,
            self.engine.encoder,
            self.items,
            steps,
            self.batch,
            self.engine.accumulate,
            self.precision,
            self.optimizer,
            self.rate,
            self.fabric.device.type,
            self.fabric.world_size,
            str(feed),
            self.guess.memory(own // self.engine.accumulate),
            self.memory,
            60 * self.engine.minutes if self.engine.minutes else round(steps * own * self.guess.seconds_per_image, 1),
            "\n".join(filter(None, (self.sampling(self.batch).note, self.task.note))),
        )

    def fresh_task(self) -> PretextTask:
        view, engine = self.samples.view, self.engine
        with torch.random.fork_rng(devices=[]):
            network = create_encoder(engine.encoder, view.spatial_dims, view.channels, engine.weights, engine.seed)
            torch.manual_seed(engine.seed)
            task = self.kind(network, self.settings, view, self.modality)
            met = self.keep[self.sampling(1).drawn.numpy()]
            task.meet(torch.from_numpy(met), codes(people(self.samples.table)[met]))
            return task

    @cached_property
    def task(self) -> PretextTask:
        return self.fresh_task()

    @cached_property
    def guess(self) -> Estimate:
        rows = min(2 * max(ROWS, self.kind.least_batch), self.items)
        images, table, device = self.samples.images, self.samples.table, self.fabric.device
        feed = Feed(images, table, self.keep, self.sampling(rows), device, workers=0, hold=False)
        # By the device's whole memory, and not by what is free: a rerun must decide the same batch.
        return estimate(self.fabric, self.task, feed(0), feed.size if feed.size <= SHARE_OF_MEMORY * self.memory else 0)

    @property
    def memory(self) -> int:
        """Bytes that each process may take; on a CPU they share the machine's."""
        device = self.fabric.device
        return device_memory(device) // (self.fabric.world_size if device.type == "cpu" else 1)

    def _fitting(self, most: int) -> int:
        return self.guess.fitting(SHARE * self.memory, most, self.kind.least_batch)


def minutes(seconds: float) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return "1 second" if seconds < 1.5 else f"{seconds:.0f} seconds"


def _check_loggers(names: Sequence[str]) -> None:
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise UserError(f"{name} is not installed", "log", f"pip install medssl[{name}]")
