"""Pretraining as a job of SLURM, through submitit: one process a GPU, requeued when its time is over.

Before the time limit, and on preemption, SLURM sends SIGUSR2: the loop saves its state, submitit requeues the job, and
the job goes on where it was. The output folder must be one that all nodes see.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from medssl import config
from medssl.config import Engine, Strict
from medssl.errors import UserError
from medssl.pretext import task_class


class Slurm(Strict):
    """
    Attributes:
        nodes, gpus: how many, and GPUs a node; with `gpus` 0 one process a node.
        cpus: cores a process.
        hours: time limit of one start; the job is requeued up to `requeues` times.
        partition, account: as sbatch takes them.
        cluster: `slurm`, or `local` to try it on this machine.
    """

    nodes: int = Field(1, ge=1)
    gpus: int = Field(1, ge=0)
    cpus: int = Field(8, ge=1)
    hours: float = Field(24, gt=0)
    requeues: int = Field(20, ge=0)
    partition: str | None = None
    account: str | None = None
    cluster: Literal["slurm", "local"] = "slurm"


@dataclass
class Job:
    """`pretrain` as submitit runs it on each process; the same arguments resume."""

    cohort: str
    task: str
    options: dict[str, Any]

    def __call__(self) -> dict[str, Any]:
        import submitit

        from medssl.cohort import Cohort
        from medssl.training import pretrain

        if submitit.JobEnvironment().num_tasks > 1:
            submitit.helpers.TorchDistributedEnvironment().export()
        return pretrain(Cohort.open(self.cohort), self.task, **self.options).as_json()

    def checkpoint(self) -> Any:
        """What is requeued: the same call."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def submit(cohort: Path, task: str, out: Path, raw: dict[str, Any], options: dict[str, Any]) -> Any:
    """Submit a pretraining run; returns submitit's job. Its logs lie in OUT/slurm.

    Args:
        raw: values of `Slurm`.
        options: of `pretrain`.

    Raises:
        UserError: no submitit, no SLURM, an unknown option.
    """
    asked = config.validate(Slurm, raw, "slurm")
    own = {"view", "settings", "exclude"}  # a mistake is said now, and not after a night in the queue
    config.validate(Engine, {key: value for key, value in options.items() if key not in own}, "pretrain")
    task_class(task)
    config.settings_for("task", task, options.get("settings", {}), f"task {task}")
    try:
        import submitit
    except ImportError:
        raise UserError("submitit is not installed", "--slurm", "pip install medssl[slurm]") from None
    try:
        executor = submitit.AutoExecutor(str(out / "slurm"), asked.cluster, slurm_max_num_timeout=asked.requeues)
    except RuntimeError as error:
        raise UserError(str(error), "--slurm", "Run it where sbatch is, or set slurm.cluster=local.") from None
    more = {"slurm_partition": asked.partition, "slurm_account": asked.account}
    executor.update_parameters(
        name=f"medssl-{task}",
        nodes=asked.nodes,
        tasks_per_node=max(1, asked.gpus),
        gpus_per_node=asked.gpus,
        cpus_per_task=asked.cpus,
        timeout_min=max(1, round(60 * asked.hours)),
        slurm_signal_delay_s=120,
        **{key: value for key, value in more.items() if value},
    )
    return executor.submit(Job(str(cohort), task, {**options, "out": out}))
