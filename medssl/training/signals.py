"""Signals that end a run after its state is saved: Ctrl+C, SIGTERM of a scheduler, SIGUSR1 before a time limit."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


@contextmanager
def stop_signals() -> Iterator[Callable[[], int]]:
    """Turn these signals into a question that the loop asks after each step; a second one ends at once."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: 0  # Python delivers signals to the main thread alone
        return
    received: list[int] = []
    before = {s: signal.getsignal(s) for s in STOPPING}

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
