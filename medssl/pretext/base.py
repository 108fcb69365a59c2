"""What a pretext task is, and what the engine hands it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from medssl import config
from medssl.augment import RowGenerator, Views, make_view, preset, preset_for
from medssl.config import Strict, View
from medssl.encoders import Encoder
from medssl.errors import UserError
from medssl.pretext.pictures import Picture, pictures, taken_for_each_other
from medssl.pretext.questions import Question, same_image

if TYPE_CHECKING:
    import pandas as pd

MakeOptimizer = Callable[..., torch.optim.Optimizer]


class Batch:
    """One batch on the device; ids are whole numbers, equal where scan, exam or patient is the same.

    With `image` sampling every field has N rows. With `stack` (K slices of one scan, in order) and `exam` (K images of
    one exam) images are (N, K, C, H, W), and index, scan and position are (N, K).

    Not a dataclass or a tuple: Fabric looks into those and would round images and millimetres to bf16.

    Attributes:
        images: (N, C, H, W) or (N, C, D, H, W) float32 in [0, 1].
        index: (N,) int64, place among the samples.
        scan, exam, patient: (N,) int64.
        position: (N,) float32, mm along the stack; NaN where unknown.
        rows: (N,) int64, place in the global batch: what random draws are keyed by.
    """

    def __init__(
        self,
        images: Tensor,
        index: Tensor,
        scan: Tensor,
        exam: Tensor,
        patient: Tensor,
        position: Tensor,
        rows: Tensor,
    ) -> None:
        self.images, self.index, self.position, self.rows = images, index, position, rows
        self.scan, self.exam, self.patient = scan, exam, patient

    def part(self, rows: slice) -> Batch:
        """These rows alone."""
        return Batch(**{name: value[rows] for name, value in vars(self).items()})


class TaskSettings(Strict):
    """Settings that every task has.

    Attributes:
        preset: which views suit the modality (`medssl.augment.PRESETS`); `auto` goes by the cohort's modality.
        views: changes to that preset, such as `{crop: [0.5, 1], flip: true}`.
    """

    preset: str = "auto"
    views: dict[str, Any] = Field(default={})


class PretextTask(nn.Module):
    """A self-supervised task around an encoder: its heads, its loss, and what it says of itself.

    A task subclasses this in a file of its own in `medssl/pretext/`, sets the class attributes and gives `loss` and
    `floor`. Heads are plain submodules; they go into the checkpoint under their attribute's name.

    A task whose loss compares the images of a batch with each other sets `compares` and gives `inputs` and `loss_of`
    instead of `loss`: then a batch can be larger than the memory (gradient caching, Gao 2021, arXiv:2101.06983).
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    line: ClassVar[str]  # what the network learns to do, in one line
    Settings: ClassVar[type[TaskSettings]] = TaskSettings
    sampling: ClassVar[Literal["image", "stack", "exam"]] = "image"
    compares: ClassVar[bool | None] = None  # whether the loss of an image depends on the others of its batch
    collapsible: ClassVar[bool] = True  # the loss may lie below its floor where all images get the same vector
    dims: ClassVar[tuple[int, ...]] = (2,)
    channels: ClassVar[tuple[int, ...]] = tuple(range(1, 9))  # as many as a View may have
    smallest: ClassVar[int] = 16  # pixels a side
    needs_tokens: ClassVar[bool] = False  # a transformer, which takes a mask and gives tokens
    sees_wholes: ClassVar[bool] = True  # or tiles alone: then batch norms end with the statistics of whole images
    least_batch: ClassVar[int] = 2  # batch normalisation needs two
    learning_rate: ClassVar[float] = 1e-3  # at batch 128
    weight_decay: ClassVar[float] = 0.05
    question: ClassVar[str] = ""  # that `ask` asks; empty where a person could not answer
    plan: Views  # how its views are made, where it makes some; see `views`

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        config.register("task", cls.name, cls.Settings)

    def __init__(self, encoder: Encoder, settings: Any, view: View, modality: str = "") -> None:
        """
        Args:
            encoder: what is trained.
            settings: an instance of this task's `Settings`.
            view: of the samples, before any augmentation.
            modality: DICOM's word for where the images come from; decides the preset.

        Raises:
            UserError: the task cannot work on such samples.
        """
        super().__init__()
        self.check(view)
        self.encoder, self.settings, self.view, self.modality = encoder, settings, view, modality
        self.last_embedding: Tensor | None = None
        self.note = ""  # what the plan shall say of queues and memory banks
        self.view_seconds = 0.0  # spent on views since the engine last asked
        self.clock: Callable[[], float] = time.perf_counter
        if self.needs_tokens and not hasattr(encoder, "tokens"):
            fix = "Take small_vit, or in 2-D a vision transformer of timm."
            raise UserError(f"'{self.name}' needs a transformer, and '{encoder.name}' is none", "encoder", fix)
        self.check_field("an image", view.size)

    def meet(self, index: Tensor, patient: Tensor) -> None:
        """Called once, before the first step, with what the task learns from: for queues, memory banks and checks.

        Args:
            index: (M,) int64, places among the samples, ascending.
            patient: (M,) int64, equal where the patient is the same.

        Raises:
            UserError: there is too little for what was asked.
        """

    @classmethod
    def group_size(cls, settings: Any) -> int:
        """K of `stack` and `exam` sampling: how many slices or images come together."""
        return 2

    @classmethod
    def check(cls, view: View) -> None:
        """Say before the first step what the task needs and does not get."""
        for what, has, takes in (
            ("spatial dims", view.spatial_dims, cls.dims),
            ("channels", view.channels, cls.channels),
        ):
            if has not in takes:
                raise UserError(f"'{cls.name}' needs {counted(takes)} {what}, and the View has {has}", "view")
        if view.size < cls.smallest:
            raise UserError(
                f"'{cls.name}' needs images of at least {cls.smallest} pixels, and the View has {view.size}",
                "view.size",
                f"Set --size {cls.smallest} or more.",
            )

    def check_field(self, what: str, side: int) -> None:
        """Refuse pictures of `side` pixels that the encoder's last stage sees as one point."""
        self.encoder.check_field(what, side, self.view.size, f"'{self.name}'")

    @classmethod
    def check_scans(cls, scans: pd.DataFrame, view: View, settings: Any) -> None:
        """Say before any sample is made what the scans themselves lack, where the View does not show it.

        Args:
            scans: rows of the catalog.
            settings: an instance of this task's `Settings`.
        """

    def loss(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to be minimised, and metrics to be logged, of one batch; draws come from `generator` alone."""
        embeddings = self.embed(self.inputs(batch, generator))
        return self.loss_of(embeddings, batch, generator)

    def inputs(self, batch: Batch, generator: RowGenerator) -> Tensor:
        """(V * N, C, *spatial): V views of every image, first all first ones, for the encoder to embed."""
        raise NotImplementedError

    def loss_of(self, embeddings: Tensor, batch: Batch, generator: RowGenerator) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and metrics of the embeddings (V * N, D) of `inputs`."""
        raise NotImplementedError

    def floor(self, batch: Batch, generator: RowGenerator) -> dict[str, float]:
        """What `loss` and its metrics would be if nothing were learned, so that "did it learn" is a number."""
        raise NotImplementedError

    def show(self, batch: Batch, generator: RowGenerator) -> list[Picture]:
        """What the network sees of each row, and what it answers; called in eval mode and without gradients.

        Here: two views of an image, and the one that the network takes for the second among those of the batch; of
        `stack` and `exam` the images that come together.
        """
        if self.sampling != "image":
            return pictures(*((x, f"image {k + 1}") for k, x in enumerate(batch.images.unbind(1))))
        if not hasattr(self, "plan"):
            return pictures((batch.images, "image"))
        views = self.new_views(batch.images, self.plan, generator)
        return pictures((batch.images, "image"), *taken_for_each_other(views, self.embed(views)))

    def ask(self, batch: Batch, generator: RowGenerator) -> list[Question]:
        """What the task asks of each row, for a person beside the network; as `show`, and only with a `question`.

        Here: which of four images is another view of the one that is shown. Rows without a question are left out.

        Raises:
            UserError: with these settings a person could not answer.
        """
        views = self.new_views(batch.images, self.plan, generator)
        return same_image(views, self.embed(views), generator)

    def made(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, Tensor]:
        """Real images and what the network makes of them, for people to tell apart: (N, C, *spatial) each; as `show`.

        Tasks that make no images leave this as it is (`makes_images`).
        """
        raise NotImplementedError

    def judge(self, images: Tensor) -> Tensor | None:
        """(N,) higher for what the network holds for a real image; None where it has learned no such thing."""
        return None

    @classmethod
    def makes_images(cls) -> bool:
        """Whether there is something to be told from real images."""
        return cls.made is not PretextTask.made

    def after_step(self, step: int, steps: int) -> None:
        """Called after each optimizer step: momentum copies, queues, schedules."""

    def optimizers(self, learning_rate: float, make: MakeOptimizer = torch.optim.AdamW) -> list[torch.optim.Optimizer]:
        """One optimizer of the kind that the run asks for; norms and biases are not decayed.

        A task with adversaries returns one optimizer a player, the encoder's first, each with rates of its own: the
        engine bends every group's rate by the same schedule. `loss` is differentiated once a step and then all
        optimizers step, so players must not meet in each other's gradients (detach).
        """
        return [make(weight_decay_groups(self.parameters(), self.weight_decay), lr=learning_rate)]

    def heads(self) -> dict[str, nn.Module]:
        """Everything of this task beside the encoder, by name; its own parameters, if any, under `own`."""
        parts = {name: module for name, module in self.named_children() if name != "encoder"}
        own = dict(self.named_parameters(recurse=False))
        return {**parts, "own": nn.ParameterDict(own)} if own else parts

    def head_groups(self) -> list[list[str]]:
        """Names of heads in groups: in each, the vectors of one at least must tell images apart, or it collapsed."""
        return [list(self.heads())]

    def forward(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, dict[str, Tensor]]:
        """`loss`, under the name that wrappers for several processes know."""
        return self.loss(batch, generator)

    def embed(self, x: Tensor) -> Tensor:
        """The encoder's vector (N, D); kept for the engine's look at collapse."""
        embedding = self.encoder.embed(x)
        self.last_embedding = embedding.detach()
        return embedding

    def pyramid(self, x: Tensor) -> list[Tensor]:
        """The encoder's feature maps; the pooled coarsest one is kept for the engine's look at collapse."""
        features = self.encoder(x)
        self.last_embedding = features[-1].detach().flatten(2).mean(2)
        return features

    def new_view(self, images: Tensor, plan: Views, generator: RowGenerator) -> Tensor:
        """`make_view`, with the time that it takes noted for the history."""
        begun = self.clock()
        view = make_view(images, plan, generator)
        self.view_seconds += self.clock() - begun
        return view

    def new_views(self, images: Tensor, plan: Views, generator: RowGenerator, count: int = 2) -> Tensor:
        """(count * N, C, *spatial): `count` views of every image, all first ones first."""
        return torch.cat([self.new_view(images, plan, generator) for _ in range(count)])

    def views(self, **own: Any) -> Views:
        """The preset's views, changed by what the task needs (`own`) and then by what the user set."""
        chosen = self.settings.preset
        if chosen == "auto":
            chosen = preset_for(self.modality, self.view.colour)
        raw = preset(chosen).views.model_dump() | own | self.settings.views
        return config.validate(Views, raw, f"{self.name}.views")


def counted(numbers: Sequence[int]) -> str:
    """ "2 or 3", "1 to 8": of ascending numbers without a gap from three on."""
    return f"{numbers[0]} to {numbers[-1]}" if len(numbers) > 2 else " or ".join(map(str, numbers))


def weight_decay_groups(parameters: Iterable[nn.Parameter], decay: float) -> list[dict[str, Any]]:
    """Matrices and kernels are decayed; biases and norms are not."""
    trained = [p for p in parameters if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
