"""What the checks of `pretrain_speed.py` and `pretext_speed.py` share: real samples, the engine as a user runs
it, and the limit."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor
from torch.utils._pytree import tree_leaves

from medssl.augment import RowGenerator
from medssl.cohort import Cohort
from medssl.config import View, load_experiment
from medssl.experiment.plan import make_plan
from medssl.experiment.prepare import ensure_cohort
from medssl.ingest import ingest
from medssl.pretext import PretextTask
from medssl.training import fit
from medssl.training.plan import Request
from medssl.training.run import make_fabric
from medssl.workspace import Workspace, data_folder

BATCH, SIZE, CUBE = 128, 64, 48
MODALITY = "XR"  # whose preset has the full set of views, blur included


class Bench:
    """Samples, made when first asked for, and how long to measure."""

    def __init__(self, folder: Path, quick: bool) -> None:
        self.folder, self.quick, self._held, self.runs = folder, quick, {}, 0
        self.rounds, self.steps = (3, 4) if quick else (7, 12)

    def samples(self, dims: int):
        if dims not in self._held:
            size = SIZE if dims == 2 else CUBE
            view = View(size=size, spatial_dims=dims)
            self._held[dims] = load_samples(self.folder, "kermany_cxr" if dims == 2 else "hippocampus", view)
        return self._held[dims]

    def turns(self, sides: dict[str, Callable[[], float]]) -> dict[str, float]:
        """Median images a second of each side; they run in turns, so that a busy machine slows all of them."""
        speeds: dict[str, list[float]] = {name: [] for name in sides}
        for number in range(-1, self.rounds):  # the round before is for warming up
            for name, side in sides.items():
                speed = side()
                if number >= 0:
                    speeds[name].append(speed)
        return {name: round(statistics.median(values), 1) for name, values in speeds.items()}

    def loop(self, encoder: str, dims: int = 2, settings: dict | None = None) -> Callable[[], float]:
        """Images a second of the whole engine."""
        return self.whole(self.samples(dims), "simclr", MODALITY, settings, encoder=encoder)

    def request(self, encoder: str, dims: int = 2, settings: dict | None = None, **options) -> Request:
        engine = {"encoder": encoder, "batch": BATCH} | options
        return Request(self.samples(dims), "simclr", settings or {}, frozenset(), MODALITY, engine, make_fabric)

    def limit(self, encoder: str, dims: int = 2, settings: dict | None = None) -> Callable[[], float]:
        """Images a second of forward, loss, backward and optimizer on one fixed batch of views."""
        return self.held(self.request(encoder, dims, settings))

    def whole(self, samples, task: str, modality: str, settings: dict | None, **engine) -> Callable[[], float]:
        """Images a second of the whole engine on any task."""

        def side() -> float:
            self.runs += 1
            return fit(
                samples, task, out=self.folder / f"run{self.runs}", steps=self.steps, modality=modality,
                settings=settings, **({"batch": BATCH} | engine),
            ).images_per_second  # fmt: skip

        return side

    def held(self, request: Request) -> Callable[[], float]:
        """Images a second of forward, loss, backward and optimizers of any task, on one batch and its first views."""
        loop = request.loop(1)
        batch, views = loop.feed(0), HeldViews(loop.task)

        def side() -> float:
            begun = time.perf_counter()
            for _ in range(self.steps):
                views.rewind()
                with loop.fabric.autocast():
                    loss, _ = loop.task.loss(batch, RowGenerator(0, 0, batch.rows))
                for optimizer in loop.optimizers:
                    optimizer.zero_grad()
                loss.backward()
                for optimizer in loop.optimizers:
                    optimizer.step()
            float(loss.detach())  # waits for the device
            return self.steps * request.batch / (time.perf_counter() - begun)

        return side


class HeldViews:
    """From its second step on a task is given what it made in its first: views, tiles, holes. What stays is its limit.

    `inputs`, `puzzle` and `new_view` are where tasks make what the network sees. What a network of the task has made
    there is made anew: it is part of the limit.
    """

    def __init__(self, task: PretextTask) -> None:
        self.kept: dict[tuple[str, int], Any] = {}
        self.place: dict[str, int] = {}
        for name in ("inputs", "puzzle", "new_view"):
            if hasattr(task, name):
                setattr(task, name, self.first(name, getattr(task, name)))

    def rewind(self) -> None:
        """A new step."""
        self.place.clear()

    def first(self, name: str, make: Callable) -> Callable:
        def held(*inputs, **named):
            place = self.place[name] = self.place.get(name, -1) + 1
            if (name, place) in self.kept:
                return self.kept[name, place]
            made = make(*inputs, **named)
            if not any(isinstance(x, Tensor) and x.requires_grad for x in tree_leaves(made)):
                self.kept[name, place] = made
            return made

        return held


def load_samples(folder: Path, name: str, view: View):
    """Real scans where they are, generated ones of the same size and number otherwise."""
    data = data_folder()
    if data is None or not (data / name).is_dir():
        print(f"{name} not found: generated images", file=sys.stderr)
        count = 2050 if view.spatial_dims == 2 else 240
        shape = (count, 1, *[view.size] * view.spatial_dims)
        images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        names = [f"s{i}" for i in range(count)]
        frame = pd.DataFrame({"scan": names, "exam": names, "patient": names, "position_mm": np.nan})
        return SimpleNamespace(images=images, table=frame, view=view, key="generated")
    workspace = Workspace(folder / "workspace")
    if name != "kermany_cxr":
        ingest([data / name], workspace.cohort(name), workspace=workspace)
        return Cohort.open(workspace.cohort(name)).samples(view)
    config = load_experiment(name)
    plan = make_plan(config, ensure_cohort(config.cohort, workspace))
    samples = plan.cohort.samples(view)
    units = plan.units.set_index("unit").loc[samples.table["scan"]]
    samples.part = units["part"].to_numpy()
    samples.labels = np.unique(units["label"].to_numpy(), return_inverse=True)[1]
    return samples
