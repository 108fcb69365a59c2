"""The training loop: short, readable, and a function of (seed, step) alone."""

from __future__ import annotations

import copy
import math
import signal
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from medssl.augment import RowGenerator
from medssl.encoders.embed import layout
from medssl.encoders.norms import settle_norms
from medssl.errors import MedsslError
from medssl.pretext import Batch, PretextTask
from medssl.pretext.base import MakeOptimizer
from medssl.progress import bar, say
from medssl.training.estimate import Estimate, device_memory, is_out_of_memory, out_of_memory
from medssl.training.feed import Feed
from medssl.training.gradients import gradients
from medssl.training.history import History
from medssl.training.norms import share_norms
from medssl.training.rules import learning_rate_at
from medssl.training.signals import stop_signals
from medssl.training.state import is_disk_full, load_state, save_state
from medssl.training.watch import Neighbours, Projections, Watch, spread

FLOOR = 1 << 61  # keeps the draws of the floor apart from those of training steps
CLIP = 1.0  # largest norm of a player's gradient
LOG_LINES = 200  # at most, over a whole run
RANK_EVERY = 10  # steps at least between effective ranks, which cost an eigenvalue problem
SETTLING = 100  # batches at most that give batch norms their last statistics
NEIGHBOURS_EVERY = 50  # steps at least between on-line kNN; at most ten times a run


@dataclass(frozen=True)
class Recipe:
    """What decides a run beside its task and its samples; `learning_rate` is the peak."""

    steps: int
    learning_rate: float
    seed: int
    optimizer: MakeOptimizer
    accumulate: int


class Loop:
    """One task, its optimizers and its feed on one device (and one of several processes).

    Args:
        fabric: launched.
        task: not yet on a device.
        feed: batches of this process.
        recipe: of the whole run.
        guess: what a batch needs, for an out-of-memory error that helps.
    """

    def __init__(self, fabric: Fabric, task: PretextTask, feed: Feed, recipe: Recipe, guess: Estimate) -> None:
        self.fabric, self.feed, self.recipe, self.guess = fabric, feed, recipe, guess
        if fabric.world_size > 1:
            share_norms(task, fabric.device)
        self.task = task.to(fabric.device)
        task.to(memory_format=layout(task.encoder.spatial_dims))
        self.optimizers = task.optimizers(recipe.learning_rate, recipe.optimizer)
        self.peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers]
        wrapped = fabric.setup(task, *self.optimizers)
        self.module, self.players = wrapped[0], wrapped[1:]
        self.owned = [[p for group in one.param_groups for p in group["params"]] for one in self.optimizers]
        self.seconds: Counter[str] = Counter()
        self.timed = True  # on a GPU, steps are timed where a line is logged: waiting for the device costs time
        task.clock = lambda: self.clock()  # not the bound method, with which copies of the task would copy this loop
        self.projections = Projections(task)
        task.train()

    def clock(self) -> float:
        if self.timed and self.fabric.device.type == "cuda":
            torch.cuda.synchronize(self.fabric.device)
        return time.perf_counter()

    def floor(self) -> dict[str, float]:
        """What loss and metrics would be if nothing were learned, and how far the untrained network spreads images."""
        batch = self.feed(0)
        floor = self.task.floor(batch, self._draws(FLOOR, batch))
        trial = copy.deepcopy(self.task).train()
        projections = Projections(trial)
        with torch.no_grad(), torch.random.fork_rng(devices=[]), self.fabric.autocast():
            trial.loss(batch, self._draws(FLOOR, batch))
        return floor | spread(trial, projections, ranks=True)

    def step(self, step: int) -> dict[str, Tensor]:
        """Train on one batch; returns loss, metrics and gradient norm as tensors on the device."""
        recipe, task = self.recipe, self.task
        begun, task.view_seconds = self.clock(), 0.0
        batch = self.feed(step)
        fed = self.clock()
        # Rows are keyed by the generator; this seeds what a layer may draw by itself (dropout), by step as well. After
        # the feed: worker processes that are started in a step take numbers too.
        torch.manual_seed(hash((recipe.seed, step, self.fabric.global_rank)) & 0x7FFFFFFF)
        for optimizer, peaks in zip(self.optimizers, self.peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = learning_rate_at(step, recipe.steps, peak)
        for player in self.players:
            player.zero_grad()
        draws = self._draws(step, batch)
        loss, metrics = gradients(self.fabric, self.module, task, batch, draws, recipe.accumulate)
        # each player's own: the gradient of one must not shrink that of its adversary
        norm = torch.stack([torch.nn.utils.clip_grad_norm_(own, CLIP) for own in self.owned]).norm()
        for player in self.players:
            player.step()
        task.after_step(step, recipe.steps)
        if self.timed:
            took = self.clock() - fed - task.view_seconds
            self.seconds.update(feed=fed - begun, views=task.view_seconds, compute=took)  # type: ignore[call-overload]
        return {"loss": loss, **metrics, "grad_norm": norm}

    def run(
        self,
        folder: Path,
        floor: dict[str, float],
        checkpoint_every: int | None,
        checkpoint_minutes: float,
        loggers: list[str],
        near: Neighbours | None,
    ) -> tuple[int, float]:
        """Train from the saved state, if any, to the last step.

        Args:
            folder: for `history.jsonl` and `state/`.
            floor: of this run, for what is watched.
            checkpoint_every: steps between saved states; None saves every `checkpoint_minutes`.
            loggers: further places for the history.
            near: labeled images for on-line kNN.

        Returns:
            The step that it resumed from, and images a second over the steps of this process.

        Raises:
            MedsslError: the loss or a gradient is no longer a number, or the memory does not suffice.
            KeyboardInterrupt, SystemExit: stopped by a signal, after the state was saved.
        """
        steps, lead = self.recipe.steps, self.fabric.is_global_zero
        fresh: dict[str, Any] = {"step": 0, "sums": {}, "count": 0, "watch": None}
        counters = load_state(folder / "state", self.task, self.optimizers) or fresh
        first, count = counters["step"], counters["count"]
        sums = {k: torch.tensor(v, dtype=torch.float64) for k, v in counters["sums"].items()}
        watch = Watch(floor, counters["watch"], self.task.head_groups(), self.task.collapsible, steps)
        every = max(1, steps // LOG_LINES)
        history = History(folder / "history.jsonl", first, loggers) if lead else None
        begun = logged = saved = time.monotonic()
        since = first

        def save(step: int, last: bool) -> None:
            self.check_finite(sums, step)
            if lead:
                plain = {k: float(v) for k, v in sums.items()}
                held = {"step": step, "sums": plain, "count": count, "watch": watch.memory}
                self.save(folder / "state", held, last)
            self.fabric.barrier()

        with bar(f"pretrain {self.task.name}", steps, first) as progress, stop_signals() as stopped:
            for step in range(first, steps):
                done = step + 1
                line_due = done % every == 0 or done == steps
                self.timed = line_due or self.fabric.device.type != "cuda"
                for name, value in self.guarded_step(step).items():
                    sums[name] = sums.get(name, 0.0) + value.double()
                count += 1
                if line_due:
                    self.check_finite(sums, done)
                    speed = (done - since) * self.feed.batch / (time.monotonic() - logged)
                    if history:
                        line = self.line(done, sums, count, speed, every, near)
                        line |= watch.kept(line)
                        for words in (found := watch.look(line)).values():
                            say(f"step {done}: {words}")
                        history.add(line | ({"warning": " ".join(found.values())} if found else {}))
                    progress.note(f"{speed:.0f} images/s")
                    sums, count, logged, since = {}, 0, time.monotonic(), done
                if lead:
                    progress.advance()
                now = time.monotonic()
                due = done % checkpoint_every == 0 if checkpoint_every else now - saved > 60 * checkpoint_minutes
                agreed = self.agree(2 * stopped() + due)  # the largest of all processes, so that all do the same
                stop = agreed // 2
                if agreed and done < steps:
                    save(done, bool(stop))
                    saved = now
                if stop and done < steps and not stopped.hand_on(stop):
                    raise KeyboardInterrupt if stop == signal.SIGINT else SystemExit(128 + stop)
        elapsed = time.monotonic() - begun
        if not self.task.sees_wholes:
            self.settle()
        if history:
            history.close()
        self.feed.close()
        return first, (steps - first) * self.feed.batch / elapsed if steps > first else 0.0

    def settle(self) -> None:
        """One pass over the samples, as the training had them in its first steps: batch norms that learned from tiles
        get the statistics of whole images, which the encoder is used on."""
        count = min(SETTLING, math.ceil(len(self.feed) / self.feed.batch))
        stacks = self.task.sampling != "image"
        with self.fabric.autocast():
            whole = (self.feed(step).images for step in range(count))
            settle_norms(self.task.encoder, (x.flatten(0, 1) if stacks else x for x in whole))

    def guarded_step(self, step: int) -> dict[str, Tensor]:
        """`step`, with an out-of-memory error that says what to lower and by how much."""
        try:
            return self.step(step)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise self.too_large() from None

    def too_large(self) -> MedsslError:
        own, there = self.feed.batch // self.fabric.world_size, device_memory(self.fabric.device)
        return out_of_memory(self.guess, self.task, own, self.recipe.accumulate, there)

    def line(
        self, step: int, sums: dict[str, Tensor], count: int, speed: float, every: int, near: Neighbours | None
    ) -> dict[str, Any]:
        """One line of the history: means since the line before, and what the embeddings look like now."""
        last = step == self.recipe.steps
        line: dict[str, Any] = {"step": step}
        line |= {name: float(f"{float(total) / count:.6g}") for name, total in sums.items()}
        line["learning_rate"] = learning_rate_at(step - 1, self.recipe.steps, self.recipe.learning_rate)
        line["images_per_second"] = round(speed, 1)
        total = sum(self.seconds.values()) or 1.0
        line |= {f"share_{name}": round(value / total, 4) for name, value in self.seconds.items()}
        self.seconds.clear()
        line |= spread(self.task, self.projections, ranks=last or step % multiple(every, RANK_EVERY) == 0)
        due = multiple(every, max(NEIGHBOURS_EVERY, self.recipe.steps // 10))
        if near and (last or step % due == 0):
            line["knn_auc"] = round(near(self.task.encoder, self.fabric.autocast()), 4)
        return line

    def save(self, folder: Path, counters: dict[str, Any], last: bool) -> None:
        """Save the state. A full disk is said, and ends the run only if it had to end (`last`)."""
        try:
            save_state(folder, self.task, self.optimizers, counters)
        except Exception as error:
            if not is_disk_full(error):
                raise
            where = "The state before this one is kept; make room and repeat the command."
            if last:
                raise MedsslError("the disk is full: the state could not be saved", str(folder), where) from None
            say("The disk is full: the state could not be saved. Training goes on, and the next one is tried again.")

    def check_finite(self, sums: dict[str, Tensor], step: int) -> None:
        for name in ("loss", "grad_norm"):
            if name in sums and not math.isfinite(float(sums[name])):
                raise MedsslError(
                    f"the {name.replace('_', ' ')} of '{self.task.name}' is no longer a number at step {step}",
                    "pretrain",
                    f"Lower the learning rate (it was {self.recipe.learning_rate:g}), or use precision 32. "
                    "The last saved state is from before.",
                )

    def agree(self, value: int) -> int:
        """The largest value of all processes."""
        if self.fabric.world_size == 1:
            return value
        total = self.fabric.all_gather(torch.tensor(int(value), device=self.fabric.device))
        assert isinstance(total, Tensor)
        return int(total.max())

    def _draws(self, step: int, batch: Batch) -> RowGenerator:
        return RowGenerator(self.recipe.seed, step, batch.rows)


def multiple(of: int, least: int) -> int:
    """The smallest multiple of a number that is no less than another."""
    return of * math.ceil(least / of)
