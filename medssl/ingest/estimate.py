"""What a run will cost, before it costs it: files, bytes, time, room on the disk."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable
from pathlib import Path

from medssl.errors import UserError
from medssl.ingest.pool import usable_cpus
from medssl.ingest.records import File, Job
from medssl.progress import say

SECONDS_A_SCAN, SECONDS_A_FILE, BYTES_A_SECOND = 0.003, 0.0005, 80e6  # of one process, on scans of many kinds
UNPACKED = {"image": 6, "medmnist": 3}  # an array's bytes to those of its file, where headers do not say
SPARE = 64 << 20  # bytes that are left free for the catalog


def say_files(files: Iterable[File]) -> None:
    sizes = [file.size for file in files]
    say(f"{len(sizes):,} files, {amount(sum(sizes))}")


def useful_jobs(files: list[File]) -> int:
    """Processes whose start pays: one for a handful of files, up to the CPUs that this process may use."""
    return min(usable_cpus(), 1 + len(files) // 32 + sum(file.size for file in files) // (8 << 20))


def say_scans(todo: list[Job], folder: Path, jobs: int) -> None:
    """Time and room that reading these scans will take.

    Raises:
        UserError: the disk cannot hold them.
    """
    if not todo:
        return
    need = sum(map(array_bytes, todo))
    free = shutil.disk_usage(folder).free
    seconds = SECONDS_A_SCAN * len(todo) + SECONDS_A_FILE * sum(len(job.files) for job in todo) + need / BYTES_A_SECOND
    wait = duration(seconds / max(1, min(len(todo), jobs)))
    say(f"{len(todo):,} scans to read: {wait}, about {amount(need)} on a disk with {amount(free)} free")
    sure = sum(array_bytes(job) for job in todo if job.reader not in UNPACKED)
    if sure + SPARE > free:
        what = f"the disk has {amount(free)} free, and the cohort needs about {amount(sure)} more"
        raise UserError(what, folder.name, "Make room, or put the cohort on another disk; then run the command again.")


def array_bytes(job: Job) -> int:
    """Of the array that a job will leave: of its headers where they say, else a guess by its file."""
    if job.reader == "dicom":
        return sum(header.frame_bytes for header in job.payload.headers)
    if job.reader == "nifti":
        return 2 * math.prod(job.payload.shape[:3])
    share = sum(file.size for file in job.files) * UNPACKED.get(job.reader, 1)
    return share // 1000 if job.reader == "medmnist" else share  # one of about a thousand images a file


def amount(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def duration(seconds: float) -> str:
    if seconds < 60:
        return "less than a minute"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"
