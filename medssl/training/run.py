"""One pretraining run in one folder: what identifies it, how it resumes, and what it leaves behind.

OUT/checkpoint.safetensors   encoder and heads, when finished
OUT/run.json                 identity and settings, written before the first step
OUT/patients.json            keys of the patients that it learns from, for `medssl audit`
OUT/history.jsonl            one line a log step
OUT/state/                   for resuming; gone when finished
"""

from __future__ import annotations

import gc
import logging
import os
import shutil
import statistics
import time
from collections.abc import Set
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_fabric import Fabric

from medssl.config import DEFAULT_STEPS, View, settings_for
from medssl.encoders import marks, save_checkpoint
from medssl.errors import MedsslError, UserError
from medssl.pretext import PretextTask, task_class
from medssl.progress import say
from medssl.training import rules
from medssl.training.history import read_history
from medssl.training.identity import read_run, refuse_other_run
from medssl.training.loop import Loop
from medssl.training.plan import Plan, Request, SamplesLike
from medssl.training.state import is_disk_full
from medssl.training.watch import neighbours
from medssl.workspace import digest, lock, write_json

if TYPE_CHECKING:
    import pandas as pd

    from medssl.cohort import Cohort

WARM_STEPS, TIMED_STEPS = 2, 5
SHARE_FOR_STEPS = 0.95  # of the minutes: the rest is for loading, checkpoints and the last file


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
        history = self.history
        last = history.iloc[-1].to_dict() if len(history) else {}
        warnings = history["warning"].dropna().tolist() if "warning" in history else []
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
            "warnings": warnings,
        }


def pretrain(
    cohort: Cohort,
    task: str,
    *,
    out: Path,
    view: View | None = None,
    settings: dict[str, Any] | None = None,
    exclude: Set[str] = frozenset(),
    **engine: Any,
) -> Pretrained:
    """Pretrain an encoder on a cohort. The same call again resumes what was interrupted, or returns what is finished.

    Args:
        cohort: its samples for `view` are made if they are missing.
        task: a name from `medssl.pretext.tasks()`.
        out: folder of this run.
        view: default 64 pixels, in colour where all scans are.
        settings: the task's own.
        exclude: patient keys that are kept out.
        engine: encoder, steps, minutes, batch, seed, ...: see `medssl.training.Engine`.

    Raises:
        UserError: what was asked for cannot be done; another run lies in `out`.
        MedsslError: the loss is no longer a number, or the memory does not suffice.
    """
    samples, about = of_cohort(cohort, task, view, exclude, settings)
    if count := len(about["labels"]):
        say(f"on-line kNN in the history: '{cohort.targets()[0]}' of {count:,} scans of the pool; it chooses nothing")
    return fit(samples, task, out=out, settings=settings, exclude=exclude, **about, **engine)


def dry_run(
    cohort: Cohort,
    task: str,
    *,
    view: View | None = None,
    settings: dict[str, Any] | None = None,
    exclude: Set[str] = frozenset(),
    **engine: Any,
) -> Plan:
    """What `pretrain` would do, and the memory and time that it would take; nothing is trained or written."""
    samples, about = of_cohort(cohort, task, view, exclude, settings)
    request = Request(samples, task, settings or {}, exclude, about["modality"], engine, make_fabric)
    return request.plan(request.length() or steps_for(request.engine.minutes or 0, request.loop(DEFAULT_STEPS)))


def fit(
    samples: SamplesLike,
    task: str | type[PretextTask],
    *,
    out: Path,
    settings: dict[str, Any] | None = None,
    exclude: Set[str] = frozenset(),
    modality: str = "",
    labels: dict[str, str] | None = None,
    about: dict[str, Any] | None = None,
    **engine: Any,
) -> Pretrained:
    """`pretrain` on samples of any origin.

    Args:
        task: a name, or a task that has none among the pretext tasks.
        modality: DICOM's word, which chooses the preset of views.
        labels: of scans, for on-line kNN in the history; they train and choose nothing.
        about: goes into the checkpoint.
    """
    begun = time.monotonic()
    request = Request(samples, task, settings or {}, exclude, modality, engine, make_fabric)
    fabric, engine_, identity = request.fabric, request.engine, request.identity
    out, lead = Path(out), request.fabric.is_global_zero
    fix = "Wait for it, stop it, or name another folder with --out."
    with lock(out, "training into", fix) if lead else nullcontext():
        fabric.barrier()
        before = read_run(out)
        refuse_other_run(out, before, identity)
        if engine_.minutes is None:
            total = request.length()
        elif before.get("asked") == engine_.asked:
            total = before["identity"]["steps"]
        else:
            total = fabric.broadcast(steps_for(engine_.minutes, request.loop(DEFAULT_STEPS)))
        identity["steps"] = total
        refuse_other_run(out, before, identity)
        checkpoint = out / "checkpoint.safetensors"
        if before.get("status") == "finished" and checkpoint.is_file():
            speed, floor = before["images_per_second"], before["floor"]
            return Pretrained(checkpoint, total, speed, total, request.kind.name, engine_.encoder, 0.0, floor)
        plan = request.plan(total)
        if lead:
            say(str(plan))
        loop = request.loop(total)
        if lead and plan.memory > plan.memory_there:  # a CPU's kernel kills without a word
            say(f"This will probably not fit: {loop.too_large()}")
        floor = loop.floor()
        if floor["loss"] == 0 and floor.get("accuracy") == 0:  # a loss of 0 alone is where some begin (simsiam)
            what = f"'{request.kind.name}' finds nothing to learn here: no image of the first batch gives it a question"
            raise UserError(what, "samples", "Look at what it sees (`medssl show`), or take another task.")
        run = {"identity": identity, "key": digest(identity), "asked": engine_.asked, "floor": floor, **(about or {})}
        patients = sorted(samples.table["patient"].iloc[request.keep].unique())
        if lead:
            write_json(out / "patients.json", patients)
            write_json(out / "run.json", {**run, "plan": plan.as_json(), "status": "running"})
        near = neighbours(samples, request.keep, labels) if lead else None
        saving = engine_.checkpoint_every, engine_.checkpoint_minutes
        resumed, speed = loop.run(out, floor, *saving, list(engine_.log), near)
        if lead:
            _finish(checkpoint, loop, {**run, "learned_from": marks(patients)})
            done = {"plan": plan.as_json(), "status": "finished", "images_per_second": speed}
            write_json(out / "run.json", {**run, **done})
            shutil.rmtree(out / "state", ignore_errors=True)
        fabric.barrier()
    took = time.monotonic() - begun
    return Pretrained(checkpoint, total, speed, resumed, request.kind.name, engine_.encoder, took, floor)


def make_fabric(precision: str) -> Fabric:
    """One device, or, under torchrun, one process of several; `precision` is `32` or `bf16`."""
    local, world = (int(os.environ.get(name, 1)) for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"))
    kind = {"32": "32-true", "bf16": "bf16-mixed"}[precision]
    logging.getLogger("lightning_fabric.utilities.rank_zero").setLevel(logging.WARNING)  # the plan says it in our words
    fabric = Fabric(
        accelerator=rules.this_device().type,
        devices=local,
        num_nodes=max(1, world // local),
        strategy="ddp_find_unused_parameters_true" if world > 1 else "auto",
        precision=kind,  # type: ignore[arg-type]
    )
    fabric.launch()
    return fabric


def steps_for(minutes: float, loop: Loop) -> int:
    """How many steps fit into what a short warm measurement leaves of so many minutes; its loop is thrown away."""
    begun, seconds = time.monotonic(), []
    for step in range(WARM_STEPS + TIMED_STEPS):
        start = time.monotonic()
        float(loop.guarded_step(step)["loss"])  # reading the loss waits for the device
        seconds.append(time.monotonic() - start)
    loop.feed.close()
    del loop
    gc.collect()  # what the loop kept on the device is free before the next one asks what is
    left = 60 * minutes * SHARE_FOR_STEPS - (time.monotonic() - begun)
    steps = max(1, int(left / statistics.median(seconds[WARM_STEPS:])))
    say(f"{minutes:g} minutes are {steps} steps here")
    return steps


def of_cohort(
    cohort: Cohort, task: str, view: View | None, exclude: Set[str], settings: dict[str, Any] | None = None
) -> tuple[SamplesLike, dict[str, Any]]:
    """Samples of a cohort, and what `fit` wants to know of it.

    Raises:
        UserError: the task cannot learn from such scans.
    """
    scans = cohort.scans()
    if view is None:
        colour = len(scans) > 0 and bool(scans["kind"].isin(["colour", "colour_volume"]).all())
        view = View(channels=3 if colour else 1)
    kind = task_class(task)  # is asked before samples are made, which may take long
    kind.check(view)
    own = settings_for("task", task, settings or {}, f"task {task}")
    kind.check_scans(scans[~scans["patient"].isin(exclude)], view, own)
    split = cohort.path / "split.json"
    targets = cohort.targets() if split.is_file() else []  # without a split nobody knows whose labels may be looked at
    labels: dict[str, str] = {}
    if targets:
        from medssl.cohort.splits import Split

        pool = set(Split.load(split).pool) - set(exclude)
        known = cohort.labels(targets[0]).merge(scans[["scan", "patient"]], on="scan")
        known = known[known["patient"].isin(pool)]
        labels = dict(zip(known["scan"], known["value"], strict=True))
    return cohort.samples(view), {
        "modality": cohort.modality,
        "labels": labels,
        "about": {"cohort": cohort.name, "cohort_hash": cohort.hash},
    }


def _finish(checkpoint: Path, loop: Loop, run: dict[str, Any]) -> None:
    try:
        save_checkpoint(checkpoint, loop.task.encoder, loop.task.heads(), run)
    except Exception as error:
        if not is_disk_full(error):
            raise
        fix = "Make room and repeat the command: it goes on from the last saved state."
        raise MedsslError("the disk is full: the checkpoint could not be written", str(checkpoint), fix) from None
