"""Several tasks on one encoder: the weighted sum of their losses.

`swin_trio` is the combination of Swin UNETR's pretraining (Tang 2022, "Self-supervised pre-training of Swin
transformers for 3D medical image analysis"): rotation, inpainting and contrast, weighted equally.

Each part closes its own shortcuts, and its adversaries keep optimizers of their own. Where a part forbids a view
(rotation: no up-down flips), the others keep theirs, since every part makes its own views.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from medssl import config
from medssl.augment import RowGenerator
from medssl.config import Strict, View
from medssl.encoders import Encoder
from medssl.errors import UserError
from medssl.pretext.base import Batch, MakeOptimizer, PretextTask, TaskSettings, weight_decay_groups
from medssl.pretext.pictures import Picture

if TYPE_CHECKING:
    import pandas as pd

TRIOS = {"swin_trio": ("rotation", "inpainting", "simclr")}


class Part(Strict):
    """
    Attributes:
        weight: of this part's loss.
        settings: the task's own.
    """

    weight: Annotated[float, Field(gt=0)] = 1.0
    settings: dict[str, Any] = Field(default={})


class Settings(TaskSettings):
    """
    Attributes:
        parts: weights and settings by the names of tasks; or the name of a known combination, `swin_trio`.
    """

    parts: dict[str, Part] | str = "swin_trio"


class Combine(PretextTask):
    name = "combine"
    paper = "Tang, Yang, Li et al. 2022, arXiv:2111.14791"
    line = "several tasks at once on one encoder"
    Settings = Settings
    compares = True
    dims = (2, 3)

    def __init__(self, encoder: Encoder, settings: Any, view: View, modality: str = "") -> None:
        from medssl.pretext import task_class

        super().__init__(encoder, settings, view, modality)
        self.parts = nn.ModuleDict()
        self.weights: dict[str, float] = {}
        for name, part in parts_of(settings).items():
            kind = task_class(name)
            shared = {"preset": settings.preset, "views": settings.views}
            own = config.settings_for("task", name, shared | part.settings, f"combine.parts.{name}")
            task = kind(encoder, own, view, modality)
            if task.sampling != self.sampling:
                raise UserError(
                    f"'{name}' looks at several images at once, and cannot be combined", f"combine.parts.{name}"
                )
            del task._modules["encoder"]  # the encoder belongs to this task alone, or it would be saved once a part
            task.__dict__["encoder"] = encoder
            self.parts[name], self.weights[name] = task, part.weight

    @property
    def sees_wholes(self) -> bool:  # type: ignore[override]  # of other tasks it is no matter of settings
        """Batch norms that no part shows whole images to end with the statistics of these."""
        return any(task.sees_wholes for _, task in self._tasks())

    @classmethod
    def check_scans(cls, scans: pd.DataFrame, view: View, settings: Any) -> None:
        """Each part's own; see `PretextTask.check_scans`."""
        from medssl.pretext import task_class

        for name, part in parts_of(settings).items():
            own = config.settings_for("task", name, part.settings, f"combine.parts.{name}")
            task_class(name).check_scans(scans, view, own)

    def meet(self, index: Tensor, patient: Tensor) -> None:
        for _, task in self._tasks():
            task.meet(index, patient)
        self.note = "\n".join(task.note for _, task in self._tasks() if task.note)

    def heads(self) -> dict[str, nn.Module]:
        return {f"{name}_{head}": module for name, task in self._tasks() for head, module in task.heads().items()}

    def head_groups(self) -> list[list[str]]:
        """Each part whose loss may be low after a collapse by itself: another one may hold the encoder apart."""
        parts = [(name, group) for name, task in self._tasks() if task.collapsible for group in task.head_groups()]
        return [[f"{name}_{head}" for head in group] for name, group in parts]

    def optimizers(self, learning_rate: float, make: MakeOptimizer = torch.optim.AdamW) -> list[torch.optim.Optimizer]:
        """One for the encoder and all heads that learn with it, and those of the parts' adversaries."""
        adversaries = [one for _, task in self._tasks() for one in task.optimizers(learning_rate, make)[1:]]
        theirs = {p for one in adversaries for group in one.param_groups for p in group["params"]}
        own = [p for p in self.parameters() if p not in theirs]
        return [make(weight_decay_groups(own, self.weight_decay), lr=learning_rate), *adversaries]

    def loss(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, dict[str, Tensor]]:
        total = torch.zeros((), device=batch.images.device)
        metrics: dict[str, Tensor] = {}
        for name, task in self._tasks():
            loss, own = task.loss(batch, generator.beside())
            total = total + self.weights[name] * loss
            metrics |= {f"{name}_loss": loss.detach()} | {f"{name}_{key}": value for key, value in own.items()}
            self.last_embedding = task.last_embedding if task.last_embedding is not None else self.last_embedding
            self.view_seconds += task.view_seconds
            task.view_seconds = 0.0
        return total, metrics

    def floor(self, batch: Batch, generator: RowGenerator) -> dict[str, float]:
        total = 0.0
        out: dict[str, float] = {}
        for name, task in self._tasks():
            own = task.floor(batch, generator.beside())
            total += self.weights[name] * own["loss"]
            out |= {f"{name}_{key}": value for key, value in own.items()}
        return {"loss": total} | out

    def show(self, batch: Batch, generator: RowGenerator) -> list[Picture]:
        """The pictures of all parts, side by side."""
        parts = [(name, task.show(batch, generator.beside())) for name, task in self._tasks()]
        return [
            Picture(
                [panel for _, shown in parts for panel in shown[row].panels],
                [f"{name}: {caption}" for name, shown in parts for caption in shown[row].captions],
            )
            for row in range(len(batch.rows))
        ]

    def after_step(self, step: int, steps: int) -> None:
        for _, task in self._tasks():
            task.after_step(step, steps)

    def _tasks(self) -> list[tuple[str, PretextTask]]:
        return [(name, task) for name, task in self.parts.items() if isinstance(task, PretextTask)]


def parts_of(settings: Settings) -> dict[str, Part]:
    """Raises UserError: no parts, an unknown combination, or a combination inside a combination."""
    parts = settings.parts
    if isinstance(parts, str):
        if parts not in TRIOS:
            raise UserError(f"unknown combination '{parts}'", "combine.parts", f"Known: {', '.join(TRIOS)}.")
        return {name: Part() for name in TRIOS[parts]}
    if not parts or "combine" in parts:
        raise UserError("a combination needs tasks as its parts", "combine.parts", "Name tasks: {rotation: {}, ...}.")
    return parts
