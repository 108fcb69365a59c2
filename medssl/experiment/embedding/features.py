"""Features of all scans of a cohort under one encoder: computed once, kept in the workspace, resumed when cut off."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medssl.cohort import Cohort, Samples
from medssl.experiment.embedding.sources import Source
from medssl.transfer import PIXELS, pixel_features, unit_means
from medssl.workspace import Workspace, atomic, code_revision, digest

PIXELS_AT_ONCE = 2**22  # samples of so many pixels lie between two steps of the progress bar

Progress = Callable[[int, int, float], None]  # samples done, of all, seconds left


@dataclass(frozen=True)
class Embedded:
    """
    Attributes:
        values: (S, D) float32, the mean of each scan's samples.
        scans: (S,) keys, in the cohort's order.
        samples: that were embedded; `first` (S,) is the number of each scan's middle one.
    """

    values: np.ndarray
    scans: np.ndarray
    samples: Samples
    first: np.ndarray
    key: str


@dataclass(frozen=True)
class Task:
    """What is to be computed.

    Attributes:
        scans: (S,) keys; `number` (N,) says which of them each sample is of.
        path: where the features lie, or will.
    """

    source: Source
    samples: Samples
    scans: np.ndarray
    number: np.ndarray
    path: Path
    key: str

    @property
    def finished(self) -> bool:
        return self.path.exists()

    @property
    def done(self) -> int:
        """Samples that need not be computed any more."""
        return len(self.samples) if self.finished else _done(_partial(self.path))


def prepare(source: Source, cohort: Cohort, workspace: Workspace) -> Task:
    """Samples for the source's View (drawn now where they are missing), and how far their features are.

    Raises:
        UserError: the View cannot draw these scans.
    """
    samples = cohort.samples(source.view)
    scans, number = np.unique(samples.table["scan"].to_numpy(str), return_inverse=True)
    order = np.argsort(np.unique(number, return_index=True)[1], kind="stable")  # scans in the order of their samples
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    key = digest([source.identity, source.init, samples.key, code_revision("encoders", "transfer/features.py")])
    path = workspace.features(f"scans-{key}")
    return Task(source, samples, scans[order], rank[number], path, key)


def estimate(task: Task) -> float:
    """Seconds that `embed_scans` has left, from a few samples; the encoder is made for it."""
    if task.finished:
        return 0.0
    embed, _ = _embedder(task)
    few = min(len(task.samples), max(8, _step(task) // 16))
    embed(task.samples.images[:few])  # warms up
    began = time.monotonic()
    embed(task.samples.images[:few])
    return (time.monotonic() - began) / few * (len(task.samples) - task.done)


def embed_scans(task: Task, progress: Progress = lambda done, of, left: None) -> Embedded:
    """The features: read where they are there, else computed from where an earlier call was cut off."""
    if not task.path.exists():
        _compute(task, progress)
    values = np.load(task.path, mmap_mode="r")
    starts = np.searchsorted(task.number, np.arange(len(task.scans)))
    middle = starts + (np.bincount(task.number) // 2)
    return Embedded(values, task.scans, task.samples, middle, task.key)


def _embedder(task: Task) -> tuple[Callable[[np.ndarray], np.ndarray], int]:
    """From images to features, and the width of these."""
    if task.source.encoder == PIXELS:
        return pixel_features, task.samples.images.shape[1] * 256
    from medssl.encoders import embed_all
    from medssl.training.rules import this_device

    encoder = task.source.make().to(this_device())
    return lambda images: embed_all(encoder, images), encoder.embed_dim


def _step(task: Task) -> int:
    return max(8, PIXELS_AT_ONCE // int(np.prod(task.samples.images.shape[1:])))


def _compute(task: Task, progress: Progress) -> None:
    images, partial = task.samples.images, _partial(task.path)
    embed, width = _embedder(task)
    shape = (len(images), width)
    if not (partial.exists() and np.load(partial, mmap_mode="r").shape == shape):
        partial.parent.mkdir(parents=True, exist_ok=True)
        np.lib.format.open_memmap(partial, "w+", np.float32, shape).flush()
    rows = np.load(partial, mmap_mode="r+")
    start, began = _done(partial), time.monotonic()
    step = _step(task)
    for at in range(start, len(images), step):
        rows[at : at + step] = embed(images[at : at + step])
        done = min(at + step, len(images))
        progress(done, len(images), (time.monotonic() - began) / (done - start) * (len(images) - done))
    rows.flush()
    with atomic(task.path) as fresh, fresh.open("wb") as file:
        np.save(file, unit_means(rows, task.number, len(task.scans)))
    partial.unlink(missing_ok=True)


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.stem}.partial.npy")


def _done(partial: Path) -> int:
    """Rows that an earlier call left. A row of zeros has not been computed, or is quickly computed again."""
    if not partial.exists():
        return 0
    empty = ~np.load(partial, mmap_mode="r").any(1)
    return int(empty.argmax()) if empty.any() else len(empty)
