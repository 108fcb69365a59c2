"""All jobs of an experiment: which are left, run in processes, whatever becomes of these."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

from medssl.errors import MedsslError
from medssl.experiment.index import Index
from medssl.experiment.job import ArmInputs, JobInputs, run_job
from medssl.experiment.ledger import enter
from medssl.experiment.plan import Job, Plan
from medssl.experiment.tuning import recipes, tuning_metric
from medssl.progress import bar, say
from medssl.workspace import digest

ON_A_GPU = 2  # jobs at a time: while one makes its views, the other one trains
TOO_LARGE = "out of memory on {}, alone too: give its arm a smaller size, encoder or batch"


class Outcome(NamedTuple):
    """How a job ended. `crowded`: it found too little memory, of its GPU or of the machine."""

    key: str
    seconds: float | None = None
    error: str | None = None
    crowded: bool = False


def run_jobs(
    jobs: list[Job],
    plan: Plan,
    arms: dict[tuple[str, int], ArmInputs],
    folder: Path,
    processes: int | None = None,
) -> None:
    """Run those that have no evidence yet, so many at a time; the index says how each went.

    Args:
        jobs: all of the plan.
        arms: what the jobs of an arm share, by arm and pretraining seed.
        folder: of the experiment.
        processes: default one a core, or two a GPU for jobs that train.

    Raises:
        MedsslError: some failed, after all others are done.
    """
    results = folder / "results"
    results.mkdir(exist_ok=True)
    done = {job.key for job in jobs if (results / f"{job.key}.parquet").exists()}
    index = Index(folder)
    index.plan(jobs, done)
    todo = [job_inputs(job, plan, arms[job.arm, job.run], results) for job in jobs if job.key not in done]
    if todo:
        if plan.config.evaluate == "test":
            for looked_at in (plan.cohort, *plan.external):
                enter(looked_at.path, plan.config.name, digest(plan.config.model_dump(mode="json")), len(todo))
        failed: list[str] = []
        with bar("Jobs", len(jobs), done=len(done)) as progress:
            for some, at_a_time in _shared_out(todo):
                for outcome in _finished(some, processes or at_a_time):
                    index.finish(outcome.key, outcome.seconds, outcome.error)
                    if outcome.error:
                        failed.append(outcome.error)
                    progress.advance()
        if failed:
            raise MedsslError(
                f"{len(failed)} of {len(todo)} jobs failed; the first: {failed[0]}",
                plan.config.name,
                "The others are kept. Mend the cause and run the same command again: only what is missing runs.",
            )
    index.close()


def _shared_out(todo: list[JobInputs]) -> Iterator[tuple[list[JobInputs], int]]:
    """Jobs, and how many of them at a time. Where there are GPUs, those that train are dealt out to these in turn,
    after all others."""
    from medssl.training.rules import devices

    found, cores = devices(), os.cpu_count() or 1
    if found == ["cpu"]:
        yield todo, cores
        return
    yield [job for job in todo if job.shared.features is not None], cores
    training = (job for job in todo if job.shared.features is None)
    dealt = [replace(job, device=device) for job, device in zip(training, cycle(found), strict=False)]
    yield dealt, ON_A_GPU * len(found)


def _finished(todo: list[JobInputs], processes: int) -> Iterator[Outcome]:
    """Jobs as they end, well or not. One that finds too little memory is run again, alone. Where a worker is killed (by
    the system, for memory) those that were under way are, so that only a job that kills its worker when alone is given
    up."""
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    left = {job.key: job for job in todo}
    suspects: set[str] = set()
    while left:
        crowded: set[str] = set()
        now = next(([job] for key, job in left.items() if key in suspects), list(left.values()))
        # One worker would be this process, which a job must not take down with it; a lone one has a second, idle.
        count = min(processes, max(2, len(now)))
        workers = Parallel(n_jobs=count, return_as="generator_unordered", batch_size=1)
        try:
            for outcome in workers(delayed(_attempt)(job) for job in now):
                if outcome.crowded and outcome.key not in suspects:
                    crowded.add(outcome.key)
                    continue
                del left[outcome.key]
                yield outcome
        except TerminatedWorkerError:
            under_way = {job.key for job in now if _mark(job).exists()} or {job.key for job in now}
            if len(now) == 1 and under_way <= suspects:
                job = left.pop(now[0].key)
                _mark(job).unlink(missing_ok=True)
                yield Outcome(job.key, error=f"{_words(job)}: its worker was killed twice, perhaps for lack of memory")
                continue
            say(f"A worker was killed with {len(under_way)} job(s) under way. The others go on, these one at a time.")
            suspects |= under_way
        if crowded:
            say(f"{len(crowded)} job(s) found too little memory beside others. They are run again, one at a time.")
            suspects |= crowded


def job_inputs(job: Job, plan: Plan, shared: ArmInputs, results: Path) -> JobInputs:
    """What a worker is given for a job; its evidence goes to the folder `results`."""
    return JobInputs(
        key=job.key,
        experiment=plan.config.name,
        cohort=plan.cohort.name,
        arm_name=job.arm,
        budget=str(job.budget),
        draw=job.draw,
        run=job.run,
        seed=job.seed,
        recipe=job.recipe,
        split=plan.config.evaluate,
        precision=job.precision,
        target=plan.config.target,
        units=plan.units,
        train=job.train,
        test=job.test,
        shared=shared,
        out=results / f"{job.key}.parquet",
        recipes=tuple(recipes(job.arm, plan.config.arms[job.arm], plan.config.tuning)),
        validation=job.validation,
        metric=tuning_metric(plan.config),
        calibrate=plan.calibrated,
    )


def _attempt(job: JobInputs) -> Outcome:
    """Run a job twice at most, so that a passing fault (of a disk) does not cost the whole experiment. What medssl
    itself refuses it would refuse again, and memory is no less crowded at once."""
    import torch

    error, crowded = "", False
    _mark(job).touch()
    try:
        for _ in range(2):
            try:
                return Outcome(*run_job(job))
            except Exception as problem:
                from medssl.training.estimate import is_out_of_memory  # takes a second, which few jobs need

                crowded = is_out_of_memory(problem)
                error = TOO_LARGE.format(job.device) if crowded else f"{type(problem).__name__}: {problem}"
                if crowded or isinstance(problem, MedsslError):
                    break
        return Outcome(job.key, error=f"{_words(job)}: {error}", crowded=crowded)
    finally:
        torch.cuda.empty_cache()  # else this worker keeps what its job had of a GPU from the jobs of the others
        _mark(job).unlink(missing_ok=True)


def _mark(job: JobInputs) -> Path:
    """A file that is there while the job runs."""
    return job.out.with_suffix(".running")


def _words(job: JobInputs) -> str:
    return f"{job.arm_name}, budget {job.budget}, draw {job.draw}"
