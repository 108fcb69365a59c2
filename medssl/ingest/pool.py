"""Work in processes, with a bounded number of chunks in flight and results as they come."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
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
    if jobs <= 1 or len(items) <= SMALL:
        yield from map(work, chunks)
        return
    from joblib import Parallel, delayed

    parallel = Parallel(n_jobs=jobs, return_as="generator_unordered", pre_dispatch="3*n_jobs", batch_size=1)
    yield from parallel(delayed(work)(chunk) for chunk in chunks)


def usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
