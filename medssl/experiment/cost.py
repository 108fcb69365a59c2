"""What an experiment will take of time and memory, from a few images through each of its encoders."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medssl.cohort import Cohort
from medssl.config import DEFAULT_STEPS, SUPERVISED, Pretraining, View
from medssl.experiment.plan import Plan
from medssl.experiment.pretraining import pretraining_view
from medssl.experiment.tuning import recipes, tuned_budgets
from medssl.transfer import HANDCRAFTED, strategy

if TYPE_CHECKING:  # torch takes seconds to import
    from torch import Tensor

IMAGES = 16  # that are tried, once for warmth and once for the clock
A_JOB_S = 0.1  # of what is no training: reading, fitting a probe, evidence
BATCH = 128  # where the run says `auto`
START_S = 20.0  # of the program, of the processes of its jobs, and of the statistics


@dataclass(frozen=True)
class Cost:
    """
    Attributes:
        pretraining: seconds by run, over its seeds.
        jobs: seconds that embedding and all jobs take together, on so many processes.
        memory: bytes that pretraining needs, of `memory_there`.
    """

    pretraining: dict[str, float]
    jobs: float
    memory: int
    memory_there: int

    @property
    def seconds(self) -> float:
        return START_S + sum(self.pretraining.values()) + self.jobs

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "seconds": self.seconds}

    def __str__(self) -> str:
        from medssl.training.estimate import gib
        from medssl.training.plan import minutes

        parts = [f"pretraining {minutes(sum(self.pretraining.values()))}"] if self.pretraining else []
        parts += [f"jobs {minutes(self.jobs)}", f"start and statistics {minutes(START_S)}"]
        text = f"On this machine about {minutes(self.seconds)} ({', '.join(parts)}); others may need a multiple"
        memory = f"; pretraining takes about {gib(self.memory)} of {gib(self.memory_there)} of memory"
        return f"{text}{memory if self.pretraining else ''}."


def cost(plan: Plan, seeds: Mapping[str, int], processes: int) -> Cost:
    """Estimate an experiment. Samples are made where they are missing; nothing is trained.

    Args:
        seeds: pretraining runs that arms use, and how many encoders each gives.
        processes: jobs at a time, of those that train on no GPU.

    Raises:
        UserError: a pretraining run that cannot be done as it is asked for.
    """
    from medssl.training import dry_run

    config, excluded = plan.config, frozenset(plan.split.test)
    pretraining: dict[str, float] = {}
    memory = there = 0
    for name, count in seeds.items():
        spec = config.pretraining[name]
        view = pretraining_view(spec, plan)
        other = plan.others[spec.other] if spec.other else None
        cohort, left_out = (other.cohort, other.kept_out) if other else (plan.cohort, excluded)
        if spec.task == SUPERVISED:
            pretraining[name] = round(count * _supervised_seconds(spec, cohort, view), 1)
            continue
        dry = dry_run(cohort, spec.task, view=view, settings=spec.settings, exclude=left_out, **spec.engine())
        pretraining[name] = round(count * dry.seconds, 1)
        memory, there = max(memory, dry.memory), dry.memory_there
    seconds: dict[tuple[str, int, int], tuple[float, float]] = {}
    jobs = sum(_arm_seconds(name, plan, seconds, processes) for name in config.arms)
    return Cost(pretraining, round(jobs, 1), memory, there)


def _supervised_seconds(spec: Pretraining, cohort: Cohort, view: View) -> float:
    """Of one encoder that learns labels: a forward and a backward pass an image, on one thread as it is tried."""
    if spec.minutes:
        return 60 * spec.minutes
    samples = cohort.samples(view)
    each = _seconds_an_image(spec.encoder, view.spatial_dims, samples.images)[1]
    batch = spec.batch if isinstance(spec.batch, int) else BATCH
    return each * (spec.epochs * len(samples) if spec.epochs else (spec.steps or DEFAULT_STEPS) * batch)


def _arm_seconds(
    name: str, plan: Plan, known: dict[tuple[str, int, int], tuple[float, float]], processes: int
) -> float:
    """Of one arm: its embeddings, or the training of all its jobs; trials of its recipes included."""
    from medssl.training.rules import devices

    arm, draws = plan.config.arms[name], plan.config.draws
    count = draws * len(plan.config.budgets) * arm.pretrain_seeds
    tuned = draws * len(tuned_budgets(plan.held)) * arm.pretrain_seeds
    tried = [
        strategy(arm.strategy_name, arm.strategy_settings | changes)
        for changes in recipes(name, arm, plan.config.tuning)
    ]
    plain = A_JOB_S * (count + tuned * len(tried)) / processes
    if arm.encoder in HANDCRAFTED and not arm.pretrain:
        return plain
    view = plan.view(arm)
    samples = plan.cohort.samples(view)
    encoder = plan.config.pretraining[arm.pretrain].encoder if arm.pretrain else arm.encoder
    key = (encoder, view.size, view.spatial_dims)
    if key not in known:
        known[key] = _seconds_an_image(encoder, view.spatial_dims, samples.images)
    forward, both = known[key]
    if tried[0].frozen:
        return plain + arm.pretrain_seeds * len(samples) * forward
    each = len(samples) / max(plan.units["unit"].nunique(), 1)  # images of a unit
    pool = _whole(int((plan.units["part"] == "pool").sum()) * each)
    trained = 0.0
    for draw, of_draw in plan.budgets.items():
        for budget, chosen in of_draw.items():
            trained += tried[0].images(_whole(len(chosen) * each), pool) * both  # whichever recipe it will be
            held = len(plan.held.get(draw, {}).get(budget, ()))
            if held:
                learned = sum(one.images(_whole((len(chosen) - held) * each), pool) for one in tried)
                trained += learned * both + len(tried) * held * each * forward
    scored = count * len(samples) * forward  # every job's own encoder reads the units that it is scored on
    gpus = [device for device in devices() if device != "cpu"]
    side_by_side = len(gpus) or processes  # jobs that share a GPU are together as fast as one alone
    return plain + (arm.pretrain_seeds * trained + scored) / side_by_side


def _whole(images: float) -> int:
    return max(1, round(images))


def _seconds_an_image(encoder: str, dims: int, images: np.ndarray) -> tuple[float, float]:
    """Seconds an image of a forward pass alone, and of one with its backward pass; on one thread or a GPU, as in a
    job."""
    import torch

    from medssl.encoders import create_encoder
    from medssl.training.rules import this_device

    network = create_encoder(encoder, dims, images.shape[1]).to(this_device())
    x = torch.from_numpy(np.array(images[:IMAGES])).to(this_device()).float() / 255
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            forward = _second_time(lambda: network.eval().embed(x).sum()) / len(x)
        with torch.random.fork_rng(devices=[]):
            both = _second_time(lambda: _trained(network.train().embed(x).sum())) / len(x)
    finally:
        torch.set_num_threads(threads)
    return forward, both


def _trained(loss: Tensor) -> Tensor:
    loss.backward()
    return loss.detach()


def _second_time(work: Callable[[], Tensor]) -> float:
    float(work())  # which waits for a GPU
    begun = time.perf_counter()
    float(work())
    return time.perf_counter() - begun
