"""Signals that end a run after its state is saved: Ctrl+C, a scheduler's SIGTERM, SIGUSR1 or 2 before a time limit."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
PLAIN = (None, signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler)


class Stop:
    """Calling it gives the first signal that came, or 0; the loop asks after each step."""

    def __init__(self) -> None:
        self.received: list[int] = []
        self.before: dict[int, Any] = {}

    def __call__(self) -> int:
        return self.received[0] if self.received else 0

    def note(self, number: int, frame: FrameType | None) -> None:
        self.received.append(number)
        signal.signal(number, self.before[number] or signal.SIG_DFL)  # a second one ends at once

    def hand_on(self, number: int) -> bool:
        """Call the handler that was there before, once the state is saved: submitit's requeues the job and exits.

        Returns:
            False where there was none. Where it returns (submitit's for SIGTERM only waits), the run goes on.
        """
        handler = self.before.get(number)
        if handler in PLAIN:
            return False
        handler(number, None)
        self.received.clear()
        signal.signal(number, self.note)
        return True


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Signals become a question that the loop asks after each step."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # Python delivers signals to the main thread alone
        return
    stop.before = {s: signal.getsignal(s) for s in STOPPING}
    for number in STOPPING:
        signal.signal(number, stop.note)
    try:
        yield stop
    finally:
        for number in STOPPING:
            signal.signal(number, stop.before[number] or signal.SIG_DFL)
