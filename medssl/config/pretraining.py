"""What a pretraining run may say of the engine, on the command line and under an experiment's `pretraining:` alike."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from medssl.config.base import Strict
from medssl.errors import UserError

DEFAULT_STEPS = 1000
SUPERVISED = "supervised"  # stands for a pretext task's name where labels are learnt
SUNK = 0.05  # share of the untrained network's spread, below which a collapse is said (training/watch.py)
BESIDE = frozenset({"checkpoint_every", "checkpoint_minutes", "log"})  # change no weight


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, int) else value  # YAML reads precision=32 as a number


def _list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class Engine(Strict):
    """
    Attributes:
        encoder, weights: as for `create_encoder` (and an arm's `init`); training goes on from `weights`.
        steps, epochs, minutes: how long, at most one of them; default 1,000 steps. Minutes become steps by a short
            warm measurement before the first step, and a rerun takes the same steps.
        batch: images a step over all processes, or `auto`: 128 on a CPU, 256 on a GPU, halved until it fits.
        accumulate: parts in which a batch is taken, where that is the same mathematics.
        precision: `auto`, `32` or `bf16`.
        optimizer: `auto`, `adamw` or `lars`; `auto` takes LARS from a batch of 2,048.
        learning_rate: at its peak; default the task's own.
        seed: of weights, order and views.
        checkpoint_every: steps between saved states; default every `checkpoint_minutes`.
        log: further places for the history: `tensorboard`, `mlflow`.
    """

    encoder: str = "small"
    weights: str = "random"
    steps: int | None = Field(None, gt=0)
    epochs: int | None = Field(None, gt=0)
    minutes: float | None = Field(None, gt=0)
    batch: int | Literal["auto"] = "auto"
    accumulate: int = Field(1, ge=1)
    precision: Annotated[Literal["auto", "32", "bf16"], BeforeValidator(_text)] = "auto"
    optimizer: Literal["auto", "adamw", "lars"] = "auto"
    learning_rate: float | None = Field(None, gt=0)
    seed: int = Field(0, ge=0)
    checkpoint_every: int | None = Field(None, ge=1)
    checkpoint_minutes: float = Field(2.0, gt=0)
    log: Annotated[list[Literal["tensorboard", "mlflow"]], BeforeValidator(_list)] = Field(default=[])

    @model_validator(mode="after")
    def _one_length(self) -> Engine:
        if len(self.asked) > 1:
            raise UserError(f"{' and '.join(self.asked)} each say how long to train", "pretrain", "Give one of them.")
        return self

    @property
    def asked(self) -> dict[str, float]:
        """The length as it was asked for; empty where the default is taken."""
        lengths = {"steps": self.steps, "epochs": self.epochs, "minutes": self.minutes}
        return {name: value for name, value in lengths.items() if value is not None}

    @property
    def length(self) -> str:
        """`600 steps`, `5 epochs`, `30 minutes`."""
        return next((f"{value:,} {name}" for name, value in self.asked.items()), f"{DEFAULT_STEPS:,} steps")


class Pretraining(Engine):
    """One run under an experiment's `pretraining:`.

    Attributes:
        task: a pretext task, or `supervised`; `settings` are its own (see `medssl tasks`).
        other: an entry under `others:`, whose scans are learnt from, and with `supervised` its labels.
        size: pixels a side, where it is not the experiment's.
    """

    task: str
    other: str | None = None
    size: int | None = None
    settings: dict[str, Any] = Field(default={})

    def engine(self) -> dict[str, Any]:
        """The engine's part, as `medssl.training.pretrain` takes it."""
        return self.model_dump(include=set(Engine.model_fields))

    def choices(self) -> dict[str, Any]:
        """All that decides the weights."""
        return self.model_dump(exclude=set(BESIDE))
