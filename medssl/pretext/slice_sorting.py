"""Slice sorting: in which order were four slices of a stack laid? (Lee 2017, "Unsupervised representation learning by
sorting sequences", the order prediction network.) The features of each pair of slices are compared, and all six
comparisons decide together. A stack read from its end is the same stack, so 24 orders are 12 classes.

The paper sorts frames of a film; here the axis of a stack stands for time, and slices are chosen by mm (`stacks.py`).

Shortcuts and how they are closed:
- Brightness that drifts along the stack (coil shading, bolus, tube current) sorts slices without a look at them: each
  slice is standardised and given a brightness and a contrast of its own, and the preset bends its gray values and its
  shading besides (`normalise: false` opens this one; a test shows what it gives away).
- Noise that neighbours share (interpolation, overlapping slices): neighbours are at least `gap` mm apart.
- A line that can be followed from slice to slice pixel by pixel, and the edge of a field of view or of padding that
  moves along the stack: each slice is cropped and turned at random by itself (the paper's spatial jitter). There is no
  setting to test this with: slices meet only as pooled features, in which pixels have no places.
- Blank slices lie at the ends of a stack: they are never taken.
- Uneven spacing: slices are drawn evenly over the mm.
- The direction, which nothing but the patient's position in the scanner decides: both are one class.
- Colours that drift like brightness (the paper's channel splitting): colour slices are seen in one channel, drawn for
  each stack.
"""

from __future__ import annotations

import itertools
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
from medssl.pretext.pictures import Picture, beside, pictures
from medssl.pretext.questions import Question, few, pictured
from medssl.pretext.stacks import Gap, StackSettings, captions, chain, known, looks, mean_over, refuse_unfit, taken

SLICES = 4
PAIRS = list(itertools.combinations(range(SLICES), 2))
ORDERS = [order for order in itertools.permutations(range(SLICES)) if order[0] < order[-1]]
FLOOR = {"loss": math.log(len(ORDERS)), "accuracy": 1 / len(ORDERS)}


class Settings(StackSettings):
    """
    Attributes:
        gap: smallest and largest distance of neighbours among the four, in mm.
        width: features of a pair.
    """

    gap: Gap = (2.0, 12.0)
    width: Annotated[int, Field(ge=8)] = 128


class SliceSorting(PretextTask):
    name = "slice_sorting"
    paper = "Lee, Huang, Singh, Yang 2017, arXiv:1708.01246"
    line = "tell in which of twelve orders four slices of a stack were laid"
    question = "Which of these shows the slices in the order of the stack, read from either end?"
    Settings = Settings
    sampling = "stack"
    compares = False

    def __init__(self, encoder: Encoder, settings: Any, view: View, modality: str = "") -> None:
        super().__init__(encoder, settings, view, modality)
        self.orders: Tensor
        self.register_buffer("orders", torch.tensor(ORDERS))
        self.pair = nn.Sequential(nn.Linear(2 * encoder.embed_dim, settings.width), nn.ReLU(inplace=True))
        self.order = nn.Linear(len(PAIRS) * settings.width, len(ORDERS))
        self.plan = self.views(crop=(0.5, 1.0))

    @classmethod
    def group_size(cls, settings: Any) -> int:
        return max(settings.window, SLICES)

    def loss(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, dict[str, Tensor]]:
        slices, labels, found = self.puzzle(batch, generator)
        logits = self.answers(slices)
        right = (logits.detach().argmax(1) == labels).float()
        loss = mean_over(found, F.cross_entropy(logits, labels, reduction="none"), FLOOR["loss"])
        return loss, {"accuracy": mean_over(found, right, FLOOR["accuracy"]), "found": found.float().mean()}

    def floor(self, batch: Batch, generator: RowGenerator) -> dict[str, float]:
        found = self.puzzle(batch, generator)[2]
        least, most = self.settings.gap
        refuse_unfit(self, found, batch, f"{SLICES} slices, each {least:g} to {most:g} mm from the next")
        return FLOOR

    def show(self, batch: Batch, generator: RowGenerator) -> list[Picture]:
        """The four slices as they were laid, each with its place in the stack and the one that the network says."""
        slices, labels, found = self.puzzle(batch, generator)
        said, true = (self.orders[x].T + 1 for x in (self.answers(slices).argmax(1), labels))
        words = [
            captions(found, [f"is {a}, said {b}" for a, b in zip(*places, strict=True)])
            for places in zip(true.tolist(), said.tolist(), strict=True)
        ]
        return pictures(*zip(slices.unbind(1), words, strict=True))

    def ask(self, batch: Batch, generator: RowGenerator) -> list[Question]:
        """Which of four orders is the right one? Each is shown with the slices laid by it."""
        slices, order, labels, found = self.laid(batch, generator)
        chosen, place, said = few(self.answers(slices), labels, generator)
        turned = (order != self.orders[labels]).any(1)[:, None, None]  # all four are read as the right one lies
        orders = self.orders[chosen]
        back = torch.where(turned, orders.flip(2), orders).argsort(2)
        rows = torch.arange(len(slices), device=slices.device)[:, None]
        strips = torch.stack([beside(slices[rows, one], SLICES) for one in back.unbind(1)], 1)
        return pictured([], strips, place, said, found)

    def answers(self, slices: Tensor) -> Tensor:
        """(N, 12) logits of the classes, of four slices (N, 4, C, H, W)."""
        features = self.embed(slices.flatten(0, 1)).view(len(slices), SLICES, -1)
        first, second = (features[:, [pair[k] for pair in PAIRS]] for k in range(2))
        return self.order(self.pair(torch.cat([first, second], 2)).flatten(1)).float()

    def puzzle(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, Tensor, Tensor]:
        """Four slices as they were laid, (N, 4, C, H, W), their class, (N,), and where there are four, (N,) bool."""
        slices, _, labels, found = self.laid(batch, generator)
        return slices, labels, found

    def laid(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """`puzzle`, with the order itself, (N, 4): the places in the stack of the slices as they were laid."""
        places, found = chain(batch.position, known(batch), SLICES, self.settings.gap, generator)
        labels = generator.integers(len(ORDERS))[:, 0]
        order = self.orders[labels]
        order = torch.where(generator.chance(0.5)[:, None], order.flip(1), order)
        slices = looks(self, taken(batch.images, places.gather(1, order)), generator)
        return slices, order, labels, found
