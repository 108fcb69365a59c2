"""Cross-channel prediction: what one channel shows, told from another (Zhang 2017, "Split-brain autoencoders:
unsupervised learning by cross-channel prediction"). The gray images' colorization.

A View has several channels where it takes several contrasts of an exam (`contrasts`) or several windows of a CT
(`windows`). They are parted in two groups. Each group is told from the other, as a distribution over gray levels
(cross-entropy, the paper's better form) or as a number (`form: regression`), for cells of 4 x 4 pixels.

The paper's network is split in two halves, each with one group as its input, and what goes downstream is both halves'
features side by side: that is `--encoder small_split`. Any other encoder has channels for both groups and sees one of
them at a time, the other hidden behind the encoder's mean (one of the paper's comparisons): that takes any network, but
downstream it meets all channels at once for the first time.

Shortcuts and how they are closed:
- A channel that is a pointwise copy of another needs no look at the surroundings: CT windows that overlap show the
  same voxels twice, and are refused (a test shows that one gray value then tells the other).
- Colour channels are nearly copies of each other; colour images are refused, and `colorization` named.
- Air is air in each contrast: `floor` is the best single distribution, and rare values weigh more (`rebalance`).
- Two contrasts on different grids, or moved between scans, would teach where they differ: the View refuses other grids.
"""

from __future__ import annotations

from itertools import combinations
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medssl.augment import RowGenerator
from medssl.config import View
from medssl.encoders import Encoder
from medssl.encoders.split import SplitResNet, halves
from medssl.errors import UserError
from medssl.pretext.base import Batch, PretextTask, TaskSettings
from medssl.pretext.lab import annealed_mean
from medssl.pretext.pictures import Picture, pictures
from medssl.pretext.reader import Reader, grid_of
from medssl.pretext.soft_bins import Frequencies, best_constant, cross_entropy

POOL = {2: F.avg_pool2d, 3: F.avg_pool3d}
NEEDS = "Give the View several contrasts of an exam (view.contrasts) or disjoint CT windows (view.windows)."


class Settings(TaskSettings):
    """
    Attributes:
        form: `classification` into gray levels, or `regression`.
        cell: pixels a side of a place that is asked for one value.
        levels: bins of a channel's gray values.
        rebalance: share of the even distribution in the one that weights are taken from; 1 weighs all values alike.
        temperature: of the annealed mean, with which channels are painted.
        width: channels of each head.
    """

    form: Literal["classification", "regression"] = "classification"
    cell: Annotated[int, Field(ge=1)] = 4
    levels: Annotated[int, Field(ge=2)] = 32
    rebalance: Annotated[float, Field(gt=0, le=1)] = 0.1
    temperature: Annotated[float, Field(gt=0, le=1)] = 0.38
    width: Annotated[int, Field(ge=8)] = 128


class CrossChannel(PretextTask):
    name = "cross_channel"
    paper = "Zhang, Isola, Efros 2017, arXiv:1611.09842"
    line = "tell what one contrast or CT window shows from another one"
    Settings = Settings
    channels = (2, 3, 4, 5, 6, 7, 8)
    dims = (2, 3)
    compares = False

    def __init__(self, encoder: Encoder, settings: Any, view: View, modality: str = "") -> None:
        super().__init__(encoder, settings, view, modality)
        self.groups = halves(view.channels)
        self.split = isinstance(encoder, SplitResNet)
        self.grid = grid_of(view, settings.cell, self.name)
        self.values = torch.linspace(0, 1, settings.levels)[:, None]
        self.regresses = settings.form == "regression"
        outputs = 1 if self.regresses else settings.levels
        self.readers = nn.ModuleList(
            Reader(encoder, settings.width, outputs * len(told), parts=2 if self.split else 1)
            for told in self.groups[::-1]
        )
        self.seen = Frequencies(settings.levels * view.channels)
        self.plan = self.views(brightness=0.0, contrast=0.0, gamma=0.0, colour=0.0, gray=0.0, blur=0.0, noise=0.0,
                               cutout=0.0, bias_field=0.0, window=0.0)  # fmt: skip

    @classmethod
    def check(cls, view: View) -> None:
        if view.colour:
            what = "'cross_channel' is for gray images of several kinds, and these are colour images"
            raise UserError(what, "view.channels", "Take 'colorization'.")
        if view.channels == 1:
            raise UserError("'cross_channel' needs at least 2 channels, and the View has one", "view.channels", NEEDS)
        super().check(view)
        for one, other in combinations(sorted(view.windows or ()), 2):
            if one[1] > other[0]:
                raise UserError(
                    f"the windows {shown(one)} and {shown(other)} overlap: there one is a copy of the other, "
                    "and telling it needs no look at the scan",
                    "view.windows",
                    "Let each window begin where the one below it ends, or higher.",
                )

    def loss(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, dict[str, Tensor]]:
        images = self.new_view(batch.images, self.plan, generator)
        truth, answers = self.truth(images), self.answers(images)
        if self.regresses:
            return F.mse_loss(answers[:, :, 0], truth), {}
        index, weight = self.encoded(truth)
        if self.training:
            self.seen.meet(self.labelled(index), weight)
        accuracy = (answers.detach().argmax(2) == index[..., 0]).float().mean()
        logits = answers.flatten(0, 1)
        return cross_entropy(logits, *(x.flatten(0, 1) for x in (index, weight, self.importance(self.seen, index)))), {
            "accuracy": accuracy
        }

    def floor(self, batch: Batch, generator: RowGenerator) -> dict[str, float]:
        """The best one distribution (or mean) of each channel for all places."""
        truth = self.truth(self.new_view(batch.images, self.plan, generator))
        if self.regresses:
            return {"loss": float(truth.transpose(0, 1).flatten(1).var(1, correction=0).mean())}
        index, weight = self.encoded(truth)
        seen = Frequencies(len(self.seen.counts)).to(index.device)
        seen.meet(self.labelled(index), weight)
        seen.settle()
        importance = self.importance(seen, index)
        each = [
            best_constant(index[:, c], weight[:, c], importance[:, c], self.settings.levels)
            for c in range(self.view.channels)
        ]
        return {name: sum(one[name] for one in each) / len(each) for name in each[0]}

    def after_step(self, step: int, steps: int) -> None:
        self.seen.settle()

    def show(self, batch: Batch, generator: RowGenerator) -> list[Picture]:
        images = self.new_view(batch.images, self.plan, generator)
        told = F.interpolate(self.told(images), images.shape[2:], mode="nearest")
        columns: list[tuple[Tensor, str]] = []
        for seen, hidden in zip(self.groups, self.groups[::-1], strict=True):
            columns += [(images[:, c : c + 1], f"seen: channel {c + 1}") for c in seen]
            columns += [(told[:, c : c + 1], f"answer: channel {c + 1}") for c in hidden]
        return pictures(*columns)

    def made(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, Tensor]:
        """One channel of each image, drawn at random, and what is told of it, both as fine as the answers are."""
        images = self.new_view(batch.images, self.plan, generator)
        rows, channel = torch.arange(len(images), device=images.device), generator.integers(self.view.channels)[:, 0]
        return self.truth(images)[rows, channel, None], self.told(images)[rows, channel, None]

    def told(self, images: Tensor) -> Tensor:
        """(N, C, *grid): the value of each channel, told from the other group's."""
        answers = self.answers(images)
        return answers[:, :, 0] if self.regresses else self.painted(answers)

    def answers(self, images: Tensor) -> Tensor:
        """(N, C, levels or 1, *grid): for each channel, logits or the value, told from the other group's channels."""
        if self.split:  # each half of the features comes from one group alone
            pyramid = self.pyramid(images)
        else:
            pyramid = self.pyramid(torch.cat([self.without(images, told) for told in self.groups[::-1]]))
        parts = []
        for half, (reader, told) in enumerate(zip(self.readers, self.groups[::-1], strict=True)):
            own = [features.chunk(2, 1 if self.split else 0)[half] for features in pyramid]
            parts.append(reader(own, self.grid).float().unflatten(1, (len(told), -1)))
        return torch.cat(parts[::-1], 1)  # the first half tells the second group, which comes last

    def without(self, images: Tensor, hidden: list[int]) -> Tensor:
        """The images with these channels at the value that the encoder's own normalisation takes to 0."""
        out = images.clone()
        out[:, hidden] = self.encoder.mean[hidden].view(1, -1, *[1] * (images.ndim - 2))
        return out

    def painted(self, logits: Tensor) -> Tensor:
        """(N, C, levels, *grid) -> (N, C, *grid), by the annealed mean."""
        flat = annealed_mean(logits.flatten(0, 1), self.values.to(logits), self.settings.temperature)
        return flat[:, 0].unflatten(0, logits.shape[:2])

    def truth(self, images: Tensor) -> Tensor:
        """(N, C, *grid): the mean of each cell."""
        with torch.autocast(images.device.type, enabled=False):
            return POOL[images.ndim - 2](images, self.settings.cell)

    def encoded(self, truth: Tensor) -> tuple[Tensor, Tensor]:
        """The two levels about each value, the nearer one first, and its shares: both (N, C, *grid, 2)."""
        place = truth.clamp(0, 1) * (self.settings.levels - 1)
        below = place.floor().clamp(max=self.settings.levels - 2)
        share = place - below
        index, weight = torch.stack([below, below + 1], -1).long(), torch.stack([1 - share, share], -1)
        order = weight.argsort(-1, descending=True)
        return index.gather(-1, order), weight.gather(-1, order)

    def labelled(self, index: Tensor) -> Tensor:
        """Levels as numbers of their own in each channel."""
        channel = torch.arange(self.view.channels, device=index.device) * self.settings.levels
        return index + channel.view(1, -1, *[1] * (index.ndim - 2))

    def importance(self, seen: Frequencies, index: Tensor) -> Tensor:
        """(N, C, *grid): the weight of each value, by how often its channel has it."""
        return seen.importance(self.settings.rebalance)[self.labelled(index)[..., 0]]


def shown(window: tuple[float, float]) -> str:
    return f"{window[0]:g} to {window[1]:g}"
