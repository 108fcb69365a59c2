"""The training loop: short, readable, and a function of (seed, step) alone."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor

from medssl.augment import RowGenerator
from medssl.errors import MedsslError
from medssl.pretext import PretextTask
from medssl.progress import bar
from medssl.training.feed import Feed
from medssl.training.history import History
from medssl.training.rules import learning_rate_at
from medssl.training.state import load_state, save_state

FLOOR = 1 << 61  # keeps the draws of the floor apart from those of training steps
CLIP = 1.0  # largest norm of the gradient
LOG_LINES = 200  # at most, over a whole run
CHECKPOINT_EVERY_S = 120.0


class Loop:
    """One task, its optimizers and its feed on one device (and one of several processes).

    Args:
        fabric: launched.
        task: not yet on a device.
        feed: batches of this process.
        steps, learning_rate, seed: of the whole run.
    """

    def __init__(
        self, fabric: Fabric, task: PretextTask, feed: Feed, steps: int, learning_rate: float, seed: int
    ) -> None:
        self.fabric, self.task, self.feed = fabric, task, feed
        self.steps, self.learning_rate, self.seed = steps, learning_rate, seed
        task.to(fabric.device)
        if task.encoder.spatial_dims == 2:
            task.to(memory_format=torch.channels_last)
        self.optimizers = task.optimizers(learning_rate)
        wrapped = fabric.setup(task, *self.optimizers)
        self.module, self.players = wrapped[0], wrapped[1:]
        self.parameters = [p for p in task.parameters() if p.requires_grad]
        task.train()

    def floor(self) -> dict[str, float]:
        """What the loss and its metrics would be if nothing were learned, on the first batch."""
        batch = self.feed(0)
        return self.task.floor(batch, RowGenerator(self.seed, FLOOR, batch.rows))

    def step(self, step: int) -> dict[str, Tensor]:
        """Train on one batch; returns loss, metrics and gradient norm as tensors on the device."""
        # Rows are keyed by the generator; this seeds what a layer may draw by itself (dropout), by step as well.
        torch.manual_seed(hash((self.seed, step, self.fabric.global_rank)) & 0x7FFFFFFF)
        batch = self.feed(step)
        rate = learning_rate_at(step, self.steps, self.learning_rate)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        loss, metrics = self.module(batch, RowGenerator(self.seed, step, batch.rows))
        for player in self.players:
            player.zero_grad()
        self.fabric.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, CLIP)
        for player in self.players:
            player.step()
        self.task.after_step(step, self.steps)
        return {"loss": loss.detach(), **metrics, "grad_norm": norm}

    def run(self, folder: Path, checkpoint_every: int | None) -> tuple[int, float]:
        """Train from the saved state, if any, to the last step.

        Args:
            folder: for `history.jsonl` and `state/`.
            checkpoint_every: steps between saved states; None saves every two minutes.

        Returns:
            The step that it resumed from, and images a second over the steps of this process.

        Raises:
            MedsslError: the loss or a gradient is no longer a number.
            KeyboardInterrupt, SystemExit: stopped by a signal, after the state was saved.
        """
        counters = load_state(folder / "state", self.task, self.optimizers) or {"step": 0, "sums": {}, "count": 0}
        first = counters["step"]
        sums = {k: torch.tensor(v, dtype=torch.float64) for k, v in counters["sums"].items()}
        count = counters["count"]
        every = max(1, self.steps // LOG_LINES)
        lead = self.fabric.is_global_zero
        history = History(folder / "history.jsonl", first) if lead else None
        begun = logged = saved = time.monotonic()
        since = first

        def save(step: int) -> None:
            self.check_finite(sums, step)
            if lead:
                plain = {"step": step, "sums": {k: float(v) for k, v in sums.items()}, "count": count}
                save_state(folder / "state", self.task, self.optimizers, plain)
            self.fabric.barrier()

        label = f"pretrain {self.task.name}"
        with bar(label, self.steps, first) as progress, stop_signals() as stopped:
            for step in range(first, self.steps):
                for name, value in self.step(step).items():
                    sums[name] = sums.get(name, 0.0) + value.double()
                count += 1
                done, now = step + 1, time.monotonic()
                if done % every == 0 or done == self.steps:
                    self.check_finite(sums, done)
                    speed = (done - since) * self.feed.batch / (now - logged)
                    if history:
                        history.add(self.line(done, sums, count, speed))
                    progress.note(f"{speed:.0f} images/s")
                    sums, count, logged, since = {}, 0, now, done
                if lead:
                    progress.advance()
                stop = self.agree(stopped())
                due = done % checkpoint_every == 0 if checkpoint_every else now - saved > CHECKPOINT_EVERY_S
                if (stop or self.agree(due)) and done < self.steps:
                    save(done)
                    saved = now
                if stop and done < self.steps:
                    raise KeyboardInterrupt if stop == signal.SIGINT else SystemExit(128 + stop)
        if history:
            history.close()
        elapsed = time.monotonic() - begun
        return first, (self.steps - first) * self.feed.batch / elapsed if self.steps > first else 0.0

    def line(self, step: int, sums: dict[str, Tensor], count: int, speed: float) -> dict[str, Any]:
        """One line of the history: means since the line before."""
        means = {name: float(f"{float(total) / count:.6g}") for name, total in sums.items()}
        rate = learning_rate_at(step - 1, self.steps, self.learning_rate)
        line = {"step": step, **means, "learning_rate": rate, "images_per_second": round(speed, 1)}
        if self.task.last_embedding is not None:
            line["embedding_std"] = round(embedding_std(self.task.last_embedding), 4)
        return line

    def check_finite(self, sums: dict[str, Tensor], step: int) -> None:
        for name in ("loss", "grad_norm"):
            if name in sums and not math.isfinite(float(sums[name])):
                raise MedsslError(
                    f"the {name.replace('_', ' ')} of '{self.task.name}' is no longer a number at step {step}",
                    "pretrain",
                    f"Lower the learning rate (it was {self.learning_rate:g}), or use precision 32. "
                    "The last saved state is from before.",
                )

    def agree(self, value: int | bool) -> int:
        """The largest value of all processes, so that all of them save and stop at the same step."""
        if self.fabric.world_size == 1:
            return int(value)
        total = self.fabric.all_gather(torch.tensor(int(value), device=self.fabric.device))
        assert isinstance(total, Tensor)
        return int(total.max())


def embedding_std(embedding: Tensor) -> float:
    """Mean over dimensions of the standard deviation of unit-length embeddings, times sqrt(d).

    Near 1 where they fill the sphere, 0 where all images got the same vector (Chen and He 2021, figure 2).
    """
    unit = F.normalize(embedding.float(), dim=1)
    return float(unit.std(0).mean()) * math.sqrt(unit.shape[1])


@contextmanager
def stop_signals() -> Iterator[Callable[[], int]]:
    """Turn SIGTERM and SIGINT into a question that the loop asks after each step; a second signal ends at once."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: 0  # Python delivers signals to the main thread alone
        return
    received: list[int] = []
    before = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, before[signal.Signals(number)] or signal.SIG_DFL)

    for number in before:
        signal.signal(number, note)
    try:
        yield lambda: received[0] if received else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
