"""What a run may say of the engine, whatever its task."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from medssl.config import Strict


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, int) else value  # YAML reads precision=32 as a number


def _list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class Engine(Strict):
    """
    Attributes:
        encoder, weights: as for `create_encoder`; training goes on from `weights`.
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
    steps: int | None = None
    epochs: int | None = None
    minutes: float | None = None
    batch: int | Literal["auto"] = "auto"
    accumulate: int = Field(1, ge=1)
    precision: Annotated[str, BeforeValidator(_text)] = "auto"
    optimizer: Literal["auto", "adamw", "lars"] = "auto"
    learning_rate: float | None = Field(None, gt=0)
    seed: int = Field(0, ge=0)
    checkpoint_every: int | None = Field(None, ge=1)
    checkpoint_minutes: float = Field(2.0, gt=0)
    log: Annotated[list[str], BeforeValidator(_list)] = Field(default=[])
