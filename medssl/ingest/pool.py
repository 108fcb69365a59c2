"""Work in processes that may hang or die: a bounded number of chunks in flight, results as they come, a verdict on all.

The processes are started once and kept for the next call. What kills one costs its item alone: the chunk is done again
item by item, and an item that kills its process once more is given up.
"""

from __future__ import annotations

import atexit
import logging
import os
import subprocess
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any, TypeVar

from medssl.errors import MedsslError

Item = TypeVar("Item")
Result = TypeVar("Result")

START_S = 60.0  # until a process stands
LIMIT_S = 60.0  # of one chunk, and
LIMIT_S_PER_MIB = 0.5  # of its source
_CODE = "import sys; sys.path[:] = {path!r}; from medssl.ingest.worker import main; main({handle}, {memory})"
_NO_PROCESS = "See that memory is free, and that this Python can run medssl."

_idle: list[_Worker] = []
_guard = threading.Lock()


def map_chunks(
    work: Callable[[Sequence[Item]], Result],
    items: Sequence[Item],
    size: int,
    jobs: int,
    lost: Callable[[Item, str], Result],
    weight: Callable[[Sequence[Item]], int] = lambda chunk: 0,
) -> Iterator[Result]:
    """Results of `work` on chunks of `items`, in no particular order.

    Args:
        work: a module's function; chunk in, result out; both must pickle.
        size: items a chunk.
        jobs: processes; 0 works in this process, where nothing protects from an item that hangs or crashes.
        lost: what stands for the result of a chunk of one item that `crashed` its process or `timed_out`.
        weight: bytes of a chunk's sources, for the limit of time.

    Raises:
        MedsslError: no process can be started. And whatever `work` raises.
    """
    chunks = deque(items[i : i + size] for i in range(0, len(items), size))
    if jobs == 0:
        for chunk in chunks:
            yield _quietly(work, chunk)
        return
    crashed: set[int] = set()  # items that are tried for the last time
    busy: dict[Connection, _Worker] = {}

    def lose(worker: _Worker, code: str) -> Iterator[Result]:
        del busy[worker.link]
        worker.kill()
        chunk = worker.chunk
        if len(chunk) == 1 and (code == "timed_out" or id(chunk[0]) in crashed):
            yield lost(chunk[0], code)
            return
        if code == "crashed":
            crashed.update(map(id, chunk))
        chunks.extendleft([item] for item in reversed(chunk))

    try:
        while chunks or busy:
            while chunks and len(busy) < jobs:
                worker = _take()
                busy[worker.link] = worker
                worker.start(work, chunks.popleft(), weight)
            first = min(worker.deadline for worker in busy.values())
            for link in wait([*busy], timeout=max(0.0, first - time.monotonic())):
                worker = busy[link]  # type: ignore[index]
                try:
                    answer = worker.link.recv()
                except (EOFError, OSError):
                    if not worker.stands:
                        raise MedsslError("a process for reading scans cannot be started", "", _NO_PROCESS) from None
                    yield from lose(worker, "crashed")
                    continue
                if answer is None:
                    worker.stand()
                    continue
                done, result = answer
                del busy[worker.link]
                _give_back(worker)
                if not done:
                    raise result
                yield result
            now = time.monotonic()
            for worker in [w for w in busy.values() if w.deadline <= now]:
                yield from lose(worker, "timed_out")
    finally:
        for worker in busy.values():  # the caller gave up, or something was raised
            worker.kill()


def warm_up(jobs: int) -> None:
    """Start the processes of a coming call now: they are ready when it comes."""
    with _guard:
        _idle.extend(_Worker() for _ in range(jobs - len(_idle)))


def usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bound() -> int:
    """Bytes of address space that one process may use: half of the memory, so that a giant beside a dwarf fits."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, ValueError):  # a container's share
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return max(2 << 30, total // 2)


@atexit.register
def close() -> None:
    """End the processes that wait for work."""
    with _guard:
        while _idle:
            _idle.pop().kill()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # they are the parent's


class _Worker:
    """One process, and the chunk that it has been given and not answered."""

    def __init__(self) -> None:
        self.link, theirs = Pipe()
        code = _CODE.format(path=sys.path, handle=theirs.fileno(), memory=memory_bound())
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **threads},
        )
        theirs.close()
        self.chunk: Sequence[Any] = ()
        self.limit = self.deadline = 0.0  # seconds, and when they are over
        self.stands = False  # it has said that it started

    def start(self, work: Callable[[Any], Any], chunk: Sequence[Any], weight: Callable[[Any], int]) -> None:
        self.chunk = chunk
        self.limit = LIMIT_S + LIMIT_S_PER_MIB * weight(chunk) / 2**20
        self.deadline = time.monotonic() + self.limit + (0 if self.stands else START_S)
        with suppress(OSError):  # it ended while it waited; that shows when it is listened to
            self.link.send((work, chunk))

    def stand(self) -> None:
        self.stands = True
        self.deadline = time.monotonic() + self.limit

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.link.close()


def _take() -> _Worker:
    with _guard:
        while _idle:
            worker = _idle.pop()
            if worker.process.poll() is None:
                return worker
            worker.kill()
    return _Worker()


def _give_back(worker: _Worker) -> None:
    worker.chunk = ()
    with _guard:
        _idle.append(worker)


def _quietly(work: Callable[[Sequence[Item]], Result], chunk: Sequence[Item]) -> Result:
    """Libraries warn with the values that they stumble over, and those may name a patient: not on our error stream."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return work(chunk)
    finally:
        logging.disable(disabled)
