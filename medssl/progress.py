"""Progress on standard error: a bar on a terminal, a line now and then in a log, and silence in tests.

Standard output stays free for results (`--json` prints one object there and nothing else).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

console = Console(stderr=True, highlight=False)


def say(message: str) -> None:
    """One line for the person who waits."""
    console.print(message, soft_wrap=True)


class Bar:
    """Handle that `bar` yields: call `advance(n)` and, where wanted, `note("312 images/s")`."""

    LOG_EVERY_S = 30.0

    def __init__(self, label: str, total: int | None, rich_bar=None, task=None) -> None:
        self.label, self.total, self.done = label, total, 0
        self._bar, self._task, self._note = rich_bar, task, ""
        self._last = time.monotonic()

    def note(self, text: str) -> None:
        self._note = text

    def advance(self, n: int = 1) -> None:
        self.done += n
        if self._bar is not None:
            self._bar.update(self._task, advance=n, note=self._note)
        elif time.monotonic() - self._last > self.LOG_EVERY_S:
            self._last = time.monotonic()
            of = f"/{self.total}" if self.total else ""
            say(f"{self.label}: {self.done}{of} {self._note}".rstrip())


@contextmanager
def bar(label: str, total: int | None = None, done: int = 0) -> Iterator[Bar]:
    """A progress bar with time left; `done` counts what an earlier, interrupted run had finished."""
    if not sys.stderr.isatty():
        handle = Bar(label, total)
        handle.done = done
        yield handle
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(label, total=total, completed=done, note="")
        handle = Bar(label, total, progress, task)
        handle.done = done
        yield handle
