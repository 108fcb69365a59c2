"""Slice verification: does the middle one of three slices lie between the other two? (Misra 2016, "Shuffle and learn:
unsupervised learning using temporal order verification".) Right and wrong triples have the same outer slices; in a
wrong one the slice between them comes from outside.

The paper takes frames of a film; here the axis of a stack stands for time, and slices are chosen by mm (`stacks.py`).

Shortcuts and how they are closed:
- Brightness that drifts along the stack (coil shading, bolus, tube current): each slice is standardised and given a
  brightness and a contrast of its own, and the preset bends its gray values and its shading besides
  (`normalise: false` opens this one; a test shows what it gives away).
- Noise that neighbours share (interpolation, overlapping slices): neighbours are at least `gap` mm apart.
- How far apart the slices are: with the same outer slices in right and wrong triples (the paper's choice), and gaps
  drawn from one range, no distance differs but the one that is asked for.
- A line that can be followed from slice to slice, and the edge of a field of view or of padding that moves along the
  stack: each slice is cropped and turned at random by itself. There is no setting to test this with: slices meet only
  as pooled features, in which pixels have no places.
- Blank slices lie at the ends of a stack, so as middle ones they would give a triple away: they are never taken.
- Uneven spacing: slices are drawn evenly over the mm.
- The direction, which nothing but the patient's position in the scanner decides: a triple read backwards is as right or
  as wrong as before.
- What cannot be closed: a middle slice from the very end of a stack is a wrong one. To see that it is the end is to
  know the anatomy, which is what the task is to teach.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medssl.augment import RowGenerator
from medssl.config import View
from medssl.encoders import Encoder
from medssl.pretext.base import Batch, PretextTask
from medssl.pretext.pictures import Picture, pictures, verdict
from medssl.pretext.questions import Question, worded
from medssl.pretext.stacks import Gap, StackSettings, captions, chain, known, looks, mean_over, refuse_unfit, taken

TRIPLES = [  # of four slices by ascending mm: outer, middle, outer
    [[1, 2, 3], [0, 1, 2]],  # right, without the first slice, and without the last one
    [[1, 0, 3], [0, 3, 2]],  # wrong, with the same outer slices
]


class Settings(StackSettings):
    """
    Attributes:
        gap: smallest and largest distance of neighbours among the four slices that a triple is made of, in mm.
        wrong: share of wrong triples. The paper tried a quarter, a half and three quarters.
        width: of the layer that compares the three slices.
    """

    gap: Gap = (2.0, 12.0)
    wrong: Annotated[float, Field(gt=0, lt=1)] = 0.5
    width: Annotated[int, Field(ge=8)] = 256


class SliceVerification(PretextTask):
    name = "slice_verification"
    paper = "Misra, Zitnick, Hebert 2016, arXiv:1603.08561"
    line = "tell whether the middle one of three slices lies between the other two"
    question = "Does the middle slice lie between the outer two?"
    Settings = Settings
    sampling = "stack"
    compares = False

    def __init__(self, encoder: Encoder, settings: Any, view: View, modality: str = "") -> None:
        super().__init__(encoder, settings, view, modality)
        self.triples: Tensor
        self.register_buffer("triples", torch.tensor(TRIPLES))
        self.compare = nn.Sequential(
            nn.Linear(3 * encoder.embed_dim, settings.width), nn.ReLU(inplace=True), nn.Linear(settings.width, 2)
        )
        self.plan = self.views(crop=(0.5, 1.0))
        shares = settings.wrong, 1 - settings.wrong
        entropy = -sum(share * math.log(share) for share in shares)
        self.chance: dict[str, float] = {"loss": entropy, "accuracy": max(shares)}

    @classmethod
    def group_size(cls, settings: Any) -> int:
        return max(settings.window, 4)

    def loss(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, dict[str, Tensor]]:
        slices, wrong, found = self.puzzle(batch, generator)
        logits = self.answers(slices)
        right = (logits.detach().argmax(1) == wrong).float()
        loss = mean_over(found, F.cross_entropy(logits, wrong, reduction="none"), self.chance["loss"])
        return loss, {"accuracy": mean_over(found, right, self.chance["accuracy"]), "found": found.float().mean()}

    def floor(self, batch: Batch, generator: RowGenerator) -> dict[str, float]:
        found = self.puzzle(batch, generator)[2]
        least, most = self.settings.gap
        refuse_unfit(self, found, batch, f"4 slices, each {least:g} to {most:g} mm from the next")
        return self.chance

    def show(self, batch: Batch, generator: RowGenerator) -> list[Picture]:
        """The three slices, and what the network says of the middle one."""
        slices, wrong, found = self.puzzle(batch, generator)
        words = verdict(self.answers(slices).argmax(1), wrong, ["said: between", "said: from outside"])
        first, middle, last = slices.unbind(1)
        return pictures((first, "outer"), (middle, captions(found, words)), (last, "outer"))

    def ask(self, batch: Batch, generator: RowGenerator) -> list[Question]:
        slices, wrong, found = self.puzzle(batch, generator)
        columns = list(zip(slices.unbind(1), ("outer", "middle", "outer"), strict=True))
        return worded(columns, ("between", "from outside"), wrong, self.answers(slices).argmax(1), found)

    def answers(self, slices: Tensor) -> Tensor:
        """(N, 2) logits of right and wrong, of three slices (N, 3, C, H, W)."""
        return self.compare(self.embed(slices.flatten(0, 1)).view(len(slices), -1)).float()

    def puzzle(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, Tensor, Tensor]:
        """Three slices, (N, 3, C, H, W), whether they are a wrong triple, (N,) int64, and where there are enough, (N,)
        bool."""
        places, found = chain(batch.position, known(batch), 4, self.settings.gap, generator)
        wrong, side = generator.chance(self.settings.wrong).long(), generator.integers(2)[:, 0]
        triple = self.triples[wrong, side]
        triple = torch.where(generator.chance(0.5)[:, None], triple.flip(1), triple)
        return looks(self, taken(batch.images, places.gather(1, triple)), generator), wrong, found
