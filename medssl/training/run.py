"""One pretraining run in one folder: what identifies it, how it resumes, and what it leaves behind.

OUT/checkpoint.safetensors   encoder and heads, when finished
OUT/run.json                 identity and settings, written before the first step
OUT/patients.json            keys of the patients that it learns from, for `medssl audit`
OUT/history.jsonl            one line a log step
OUT/state/                   for resuming; gone when finished
"""

from __future__ import annotations

import os
import shutil
import statistics
import time
from collections.abc import Set
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from lightning_fabric import Fabric

from medssl import config
from medssl.config import View
from medssl.encoders import create_encoder, save_checkpoint
from medssl.errors import UserError
from medssl.pretext import task_class
from medssl.progress import say
from medssl.training import rules
from medssl.training.feed import Feed
from medssl.training.history import read_history
from medssl.training.identity import outside, read_run, refuse_other_run, weights_key
from medssl.training.loop import Loop
from medssl.workspace import digest, lock, write_json

if TYPE_CHECKING:
    import pandas as pd

    from medssl.cohort import Cohort

WARM_STEPS, TIMED_STEPS = 3, 10
SHARE_FOR_STEPS = 0.95  # of the minutes: the rest is for loading, checkpoints and the last file


class SamplesLike(Protocol):
    """What `fit` trains on; `medssl.cohort.Samples` is one."""

    images: np.ndarray  # (N, C, *spatial) uint8
    table: pd.DataFrame  # scan, patient, exam, position_mm
    view: View
    key: str


@dataclass(frozen=True)
class Pretrained:
    """A finished run."""

    checkpoint: Path
    steps: int
    images_per_second: float
    resumed_from: int
    task: str
    encoder: str
    seconds: float
    floor: dict[str, float]

    @property
    def history(self) -> pd.DataFrame:
        return read_history(self.checkpoint.parent / "history.jsonl")

    def as_json(self) -> dict[str, Any]:
        last = self.history.iloc[-1].to_dict() if len(self.history) else {}
        return {
            "checkpoint": str(self.checkpoint),
            "steps": self.steps,
            "images_per_second": round(self.images_per_second, 1),
            "resumed_from": self.resumed_from,
            "task": self.task,
            "encoder": self.encoder,
            "seconds": round(self.seconds, 1),
            "floor": self.floor,
            "last": {key: value for key, value in last.items() if value == value},
        }


def pretrain(
    cohort: Cohort,
    task: str,
    *,
    out: Path,
    encoder: str = "small",
    weights: str = "random",
    view: View | None = None,
    steps: int | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    batch: int | str = "auto",
    precision: str = "auto",
    learning_rate: float | None = None,
    seed: int = 0,
    checkpoint_every: int | None = None,
    settings: dict[str, Any] | None = None,
    exclude: Set[str] = frozenset(),
) -> Pretrained:
    """Pretrain an encoder on a cohort. The same call again resumes what was interrupted, or returns what is finished.

    Args:
        cohort: its samples for `view` are made if they are missing.
        task: a name from `medssl.pretext.tasks()`.
        out: folder of this run.
        encoder, weights: as for `create_encoder`; training goes on from `weights`.
        view: default 64 pixels, in colour where all scans are.
        steps, epochs, minutes: how long, at most one of them; default 1,000 steps. Minutes become steps by a short
            warm measurement before the first step, and a rerun takes the same steps.
        batch: images a step, or `auto`.
        precision: `auto`, `32` or `bf16`.
        learning_rate: default the task's own.
        seed: of weights, order and views.
        checkpoint_every: steps between saved states; default every two minutes.
        settings: the task's own.
        exclude: patient keys that are kept out.

    Raises:
        UserError: what was asked for cannot be done; another run lies in `out`.
        MedsslError: the loss is no longer a number.
    """
    scans = cohort.scans()
    if view is None:
        colour = len(scans) > 0 and bool(scans["kind"].isin(["colour", "colour_volume"]).all())
        view = View(channels=3 if colour else 1)
    task_class(task).check(view)  # before samples are made, which may take long
    modality = scans["modality"].dropna().mode()
    return fit(
        cohort.samples(view),
        task,
        out=out,
        encoder=encoder,
        weights=weights,
        steps=steps,
        epochs=epochs,
        minutes=minutes,
        batch=batch,
        precision=precision,
        learning_rate=learning_rate,
        seed=seed,
        checkpoint_every=checkpoint_every,
        settings=settings,
        exclude=exclude,
        modality=str(modality.iloc[0]) if len(modality) else "",
        about={"cohort": cohort.name, "cohort_hash": cohort.hash},
    )


def fit(
    samples: SamplesLike,
    task: str,
    *,
    out: Path,
    encoder: str = "small",
    weights: str = "random",
    steps: int | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    batch: int | str = "auto",
    precision: str = "auto",
    learning_rate: float | None = None,
    seed: int = 0,
    checkpoint_every: int | None = None,
    settings: dict[str, Any] | None = None,
    exclude: Set[str] = frozenset(),
    modality: str = "",
    about: dict[str, Any] | None = None,
) -> Pretrained:
    """`pretrain` on samples of any origin; `modality` chooses the preset of views, `about` goes into the checkpoint."""
    begun = time.monotonic()
    kind = task_class(task)
    chosen = config.settings_for("task", task, settings or {}, f"task {task}")
    kind.check(samples.view)
    asked = _one_of(steps=steps, epochs=epochs, minutes=minutes)
    keep = np.flatnonzero(~samples.table["patient"].isin(exclude).to_numpy())
    fabric = make_fabric(precision)
    size = rules.resolve_batch(batch, fabric.device, len(keep), kind.least_batch, fabric.world_size)
    rate = rules.resolve_learning_rate(learning_rate, kind.learning_rate, size)
    identity: dict[str, Any] = {
        "task": task,
        "settings": chosen.model_dump(mode="json"),
        "modality": modality,
        "encoder": encoder,
        "weights": weights_key(weights),
        "view": samples.view.model_dump(mode="json"),
        "samples": samples.key,
        "excluded": digest(sorted(set(samples.table["patient"]) & set(exclude))),
        "batch": size,
        "precision": rules.resolve_precision(precision, fabric.device),
        "learning_rate": rate,
        "seed": seed,
        "device": fabric.device.type,
        "processes": fabric.world_size,
        **outside(),
    }

    def loop_of(total: int) -> Loop:
        with torch.random.fork_rng(devices=[]):
            network = create_encoder(encoder, samples.view.spatial_dims, samples.view.channels, weights, seed)
            torch.manual_seed(seed)
            module = kind(network, chosen, samples.view, modality)
        rank, world = fabric.global_rank, fabric.world_size
        feed = Feed(samples.images, samples.table, keep, size, seed, fabric.device, rank, world)
        return Loop(fabric, module, feed, total, rate, seed)

    out = Path(out)
    fix = "Wait for it, stop it, or name another folder with --out."
    with lock(out, "training into", fix) if fabric.is_global_zero else nullcontext():
        fabric.barrier()
        before = read_run(out)
        refuse_other_run(out, before, identity)
        if "minutes" in asked and before.get("asked") == asked:
            total = before["identity"]["steps"]
        elif minutes is not None:
            total = fabric.broadcast(steps_for(minutes, loop_of(rules.DEFAULT_STEPS)))
        else:
            total = steps or (epochs or 0) * (len(keep) // size) or rules.DEFAULT_STEPS
        identity["steps"] = total
        refuse_other_run(out, before, identity)
        checkpoint = out / "checkpoint.safetensors"
        if before.get("status") == "finished" and checkpoint.is_file():
            speed, floor = before["images_per_second"], before["floor"]
            return Pretrained(checkpoint, total, speed, total, task, encoder, 0.0, floor)
        loop = loop_of(total)
        floor = loop.floor()
        run = {"identity": identity, "key": digest(identity), "asked": asked, "floor": floor, **(about or {})}
        if fabric.is_global_zero:
            write_json(out / "patients.json", sorted(samples.table["patient"].iloc[keep].unique()))
            write_json(out / "run.json", {**run, "status": "running"})
        resumed, speed = loop.run(out, checkpoint_every)
        if fabric.is_global_zero:
            save_checkpoint(checkpoint, loop.task.encoder, loop.task.heads(), run)
            write_json(out / "run.json", {**run, "status": "finished", "images_per_second": speed})
            shutil.rmtree(out / "state", ignore_errors=True)
        fabric.barrier()
    return Pretrained(checkpoint, total, speed, resumed, task, encoder, time.monotonic() - begun, floor)


def make_fabric(precision: str) -> Fabric:
    """One device, or, under torchrun, one process of several."""
    local, world = (int(os.environ.get(name, 1)) for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind = {"32": "32-true", "bf16": "bf16-mixed"}[rules.resolve_precision(precision, device)]
    fabric = Fabric(
        accelerator=device.type,
        devices=local,
        num_nodes=max(1, world // local),
        strategy="ddp_find_unused_parameters_true" if world > 1 else "auto",
        precision=kind,  # type: ignore[arg-type]
    )
    fabric.launch()
    return fabric


def steps_for(minutes: float, loop: Loop) -> int:
    """How many steps fit into so many minutes, by a short warm measurement with a loop that is then thrown away."""
    seconds = []
    for step in range(WARM_STEPS + TIMED_STEPS):
        start = time.monotonic()
        float(loop.step(step)["loss"])  # reading the loss waits for the device
        seconds.append(time.monotonic() - start)
    steps = max(1, int(60 * minutes * SHARE_FOR_STEPS / statistics.median(seconds[WARM_STEPS:])))
    say(f"{minutes:g} minutes are {steps} steps here")
    return steps


def _one_of(**lengths: float | None) -> dict[str, float]:
    given = {name: value for name, value in lengths.items() if value is not None}
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)} each say how long to train", "pretrain", "Give one of them.")
    if any(value <= 0 for value in given.values()):
        raise UserError("steps, epochs and minutes must be above 0", "pretrain")
    return given
