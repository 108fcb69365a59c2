"""One job, run in a worker process with one thread: it loads what it needs, fits, and writes its evidence."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from medssl.config import Arm, Target, weights_file
from medssl.errors import MedsslError
from medssl.experiment.labels import make_target
from medssl.experiment.plan import is_scored
from medssl.experiment.tuning import Changes, Trial, try_recipes, with_trials
from medssl.transfer import Heads, OtherLabels, Problem, TargetKind, strategy
from medssl.workspace import atomic, digest

if TYPE_CHECKING:  # torch takes seconds to import
    from medssl.transfer.fitted import Fitted


@dataclass(frozen=True)
class EncoderSource:
    """How an arm's encoder is made: from a checkpoint, or by name and initialisation."""

    name: str
    init: str
    in_channels: int
    spatial_dims: int
    checkpoint: Path | None = None

    def heads(self) -> Heads:
        """State dicts of the heads beside the encoder, where it comes from a checkpoint of medssl."""
        from medssl.encoders import load_checkpoint, read_metadata

        path = self.checkpoint or weights_file(self.init)
        return load_checkpoint(path).heads if path and "architecture" in read_metadata(path) else {}

    def make(self, seed: int):
        from medssl.encoders import create_encoder, load_checkpoint

        if self.checkpoint:
            return load_checkpoint(self.checkpoint).encoder
        return create_encoder(self.name, self.spatial_dims, self.in_channels, self.init, seed)


@dataclass(frozen=True)
class OtherInputs:
    """Further labels of an arm: `labels` of units, and of which unit each of the `images` is (-1: of none).

    Attributes:
        target: what they say; None where they are labels of the experiment's own.
    """

    images: Path
    unit_of: np.ndarray
    labels: list[str]
    target: Target | None
    modality: str


@dataclass(frozen=True)
class ArmInputs:
    """What all jobs of one arm share; large arrays are named by file and memory-mapped in the worker."""

    arm: Arm
    source: EncoderSource | None
    images: Path
    unit_of: np.ndarray
    features: Path | None
    modality: str
    others: OtherInputs | None = None


@dataclass(frozen=True)
class JobInputs:
    """Everything one job needs, small enough to be sent to another process. `recipes` are chosen from by the labeled
    units `validation` and the `metric`; without such units the first one is taken. `device`: where it trains."""

    key: str
    experiment: str
    cohort: str
    arm_name: str
    budget: str
    draw: int
    run: int
    seed: int
    recipe: str
    split: str
    precision: str
    target: Target
    units: pd.DataFrame
    train: tuple[str, ...]
    test: tuple[str, ...]
    shared: ArmInputs
    out: Path
    recipes: tuple[Changes, ...] = ({},)
    validation: tuple[str, ...] = ()
    metric: str = ""
    calibrate: bool = False
    device: str = "cpu"


@dataclass(frozen=True)
class Fit:
    """An arm, fitted on the labels of one budget in one draw: what a job scores, and what is taken away. `trials` are
    those that chose its recipe."""

    problem: Problem
    fitted: Fitted
    trials: tuple[Trial, ...] = ()

    def features(self, units: np.ndarray) -> np.ndarray:
        """Mean embeddings (n, D) of the units with these numbers."""
        if self.fitted.encoder is None:
            return self.problem.features()[units]
        return self.fitted.embed(self.problem.images, self.problem.unit_of, units)

    def logits(self, units: np.ndarray, arm: str) -> np.ndarray:
        """(n, outputs) of the units with these numbers.

        Raises:
            MedsslError: not all of them are numbers.
        """
        logits = self.fitted.logits(self.features(units))
        if not np.isfinite(logits).all():
            raise MedsslError("the predictor gave no numbers: its training diverged", arm)
        return logits


def fit_arm(job: JobInputs) -> Fit:
    """Fit the arm on the labeled units: the one way, of jobs and of predictors that are taken away."""
    units, shared = job.units, job.shared
    target = make_target(job.target, units["label"].dropna().tolist())
    number = pd.Series(range(len(units)), index=units["unit"])
    train = number[list(job.train)].to_numpy()
    truth = target.encode(units["label"].iloc[train].tolist())
    pool, _ = pool_and_test(units, job.split, job.test)
    pool = pool[np.isin(pool, shared.unit_of)]  # what nobody labeled may have no sample in this View
    problem = Problem(
        target=target.taught(truth),
        train=train,
        truth=truth,
        pool=pool,
        unit_of=shared.unit_of,
        images=open_array(shared.images),
        features=lambda: open_array(_named(shared.features)),
        encoder=lambda seed: _made(shared.source, seed),
        modality=shared.modality,
        seed=job.seed,
        precision=job.precision,
        heads=lambda: shared.source.heads() if shared.source else {},
        others=other_labels(shared.others, target) if shared.others else None,
        device=job.device,
    )
    methods = [strategy(shared.arm.strategy_name, shared.arm.strategy_settings | one) for one in job.recipes]
    if not job.validation:
        return Fit(problem, methods[0].fit(problem))
    held = number[list(job.validation)].to_numpy()
    trials = try_recipes(problem, methods, job.recipes, held, job.metric)
    chosen = next(method for method, trial in zip(methods, trials, strict=True) if trial.chosen)
    return Fit(problem, chosen.fit(problem), tuple(trials))


def other_labels(others: OtherInputs, own: TargetKind) -> OtherLabels:
    """As a strategy takes them."""
    target = None if others.target is None else make_target(others.target, others.labels)
    samples = np.flatnonzero(others.unit_of >= 0)
    truth = (target or own).encode(others.labels)[others.unit_of[samples]]
    taught = None if target is None else target.taught(truth)
    return OtherLabels(taught, open_array(others.images), samples, truth, others.modality)


def temperature(fit: Fit, units: pd.DataFrame, arm: str) -> float:
    """The predictor's temperature, from the labels of the validation part."""
    from medssl.transfer.temperature import fit_temperature

    held, target = np.flatnonzero(units["part"] == "validation"), fit.problem.target
    return fit_temperature(target, fit.logits(held, arm), target.encode(units["label"].iloc[held].tolist()))


def run_job(job: JobInputs) -> tuple[str, float]:
    """Fit, predict the test units, write the evidence rows atomically. Returns (job key, seconds)."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    started = time.perf_counter()
    one_thread()
    units, fit = job.units, fit_arm(job)
    _, test = pool_and_test(units, job.split, job.test)
    rows = fit.problem.target.evidence(units.iloc[test], fit.logits(test, job.arm_name))
    about: dict[str, str | int | float] = {
        "job": job.key,
        "cohort": job.cohort,
        "arm": job.arm_name,
        "budget": job.budget,
        "draw": job.draw,
        "run": job.run,
        "seed": job.seed,
        "labels": digest(sorted(job.train)),
        "recipe": job.recipe,
        "target": job.target.name,
    }
    if job.calibrate:
        about["temperature"] = temperature(fit, units, job.arm_name)
    part = dict(zip(units["unit"], units["part"], strict=True))
    rows = rows.assign(**about, split=rows["unit"].map(part))
    tried = {name: about[name] for name in ("arm", "budget", "draw", "run")}
    tried |= {"metric": job.metric, "validation": len(job.validation)}
    table = with_trials(pa.Table.from_pandas(rows, preserve_index=False), tried, fit.trials)
    with atomic(job.out) as fresh:
        parquet.write_table(table, fresh, compression="zstd")
    return job.key, time.perf_counter() - started


def pool_and_test(units: pd.DataFrame, part: str, fold: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the units whose pictures may be used without labels, and of those to be predicted.

    Args:
        units: columns `unit`, `part`.
        part: which part is scored.
        fold: where it is cross-fitted, the units to be predicted; all others are the pool.
    """
    if not fold:
        return np.flatnonzero(units["part"] == "pool"), np.flatnonzero(is_scored(units["part"], part))
    tested = units["unit"].isin(fold)
    return np.flatnonzero(~tested), np.flatnonzero(tested)


@lru_cache(maxsize=4)
def open_array(path: Path) -> np.ndarray:
    return np.load(path, mmap_mode="r")


@lru_cache(maxsize=1)
def one_thread() -> None:
    """Jobs run side by side, one a core; more threads each would only get in each other's way.

    joblib replaces a worker that has grown by 300 MB since its first job, which it takes for a leak. A first job that
    reads features and a later one that trains differ by more than that, the more so as memory is kept, up to 2 GiB; and
    a new worker costs ten seconds of imports.
    """
    import torch
    from joblib.externals.loky import process_executor

    from medssl.encoders.memory import keep_memory

    torch.set_num_threads(1)
    keep_memory()
    process_executor._MAX_MEMORY_LEAK_SIZE = 4_000_000_000


def _named(path: Path | None) -> Path:
    assert path is not None, "a frozen strategy was planned without features"
    return path


def _made(source: EncoderSource | None, seed: int):
    assert source is not None, "this strategy needs an encoder, the arm has none"
    return source.make(seed)
