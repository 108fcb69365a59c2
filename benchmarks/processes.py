"""The memory of a process and all that it started, for benchmarks."""

from __future__ import annotations

import subprocess
import time

import psutil


def peak_mib(run: subprocess.Popen, limit_s: float = float("inf")) -> float:
    """The highest sum of the memory (PSS: shared pages count once) of a process and those below it, until it ends.

    A process that runs longer than the limit is killed, with those below it.
    """
    peak, process, start = 0, psutil.Process(run.pid), time.monotonic()
    while run.poll() is None:
        total = 0
        try:
            members = [process, *process.children(recursive=True)]
        except psutil.Error:
            break
        for member in members:
            try:
                total += member.memory_full_info().pss
            except psutil.Error:
                continue
        peak = max(peak, total)
        if time.monotonic() - start > limit_s:
            for member in members:
                member.kill()
        time.sleep(0.05)
    return peak / 2**20
