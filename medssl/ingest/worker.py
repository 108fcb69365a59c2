"""A process that works for `pool`: takes chunks over a socket and answers them, and never outlives its master.

It has a bound on its memory, and nothing that a library prints (often the value that it stumbles over, which may name a
patient) leaves it.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import pickle
import resource
import signal
import sys
import warnings
from multiprocessing.connection import Connection

PATIENCE_S = 60.0  # without work, before it ends and gives back what its caches hold


def main(handle: int, memory: int) -> None:
    """Serve until the other end is closed or nothing comes. Answers are (True, result) or (False, exception)."""
    _die_with_parent()
    _be_silent()
    for limit, value in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CORE, 0)):  # a core would hold patients' data
        with contextlib.suppress(ValueError, OSError):  # not every system has them
            resource.setrlimit(limit, (value, value))
    link = Connection(handle)
    link.send(None)  # it stands
    while link.poll(PATIENCE_S):
        try:
            work, chunk = link.recv()
        except (EOFError, ConnectionError):
            return
        try:
            answer = (True, work(chunk))
        except MemoryError:  # where `work` has not answered for it: as good as dead, and the chunk is taken apart
            os._exit(1)
        except BaseException as error:
            answer = (False, _portable(error))
        link.send(answer)


def _portable(error: BaseException) -> BaseException:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(type(error).__name__)
    return error


def _die_with_parent() -> None:
    """So that no writer of a killed run is left when the next one starts."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is the master's to answer
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)


def _be_silent() -> None:
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):  # codecs in C write there
        os.dup2(nowhere, stream)
