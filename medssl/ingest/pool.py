"""Work in processes, with a bounded number of chunks in flight and results as they come."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

SMALL = 24  # items that are done before processes would have started


def map_chunks(
    work: Callable[[Sequence[Item]], Result], items: Sequence[Item], size: int, jobs: int | None
) -> Iterator[Result]:
    """Results of `work` on chunks of `items`, in no particular order.

    Args:
        work: a module's function; chunk in, result out; both must pickle.
        size: items a chunk.
        jobs: processes; None takes the CPUs that this process may use. Few items are done here.
    """
    chunks = [items[i : i + size] for i in range(0, len(items), size)]
    jobs = min(jobs or usable_cpus(), len(chunks))
    quiet = partial(_quietly, work)
    if jobs <= 1 or len(items) <= SMALL:
        yield from map(quiet, chunks)
        return
    from joblib import Parallel, delayed

    parallel = Parallel(n_jobs=jobs, return_as="generator_unordered", pre_dispatch="3*n_jobs", batch_size=1)
    yield from parallel(delayed(quiet)(chunk) for chunk in chunks)


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


def usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
