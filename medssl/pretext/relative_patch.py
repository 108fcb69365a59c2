"""Relative patch: on which side of the first patch does the second one lie? (Doersch 2015, "Unsupervised visual
representation learning by context prediction".) Eight neighbours in an image, 26 in a volume.

Shortcuts and how they are closed:
- Lines that run on from one patch into the other: patches are smaller than their cells, with jitter (as in the paper).
- Chromatic aberration, with which the paper's network found the absolute place of a patch, has stand-ins in scans:
  brightness that falls off from the centre (vignetting, coil profiles) is taken away with each patch's own mean and
  deviation (`normalise: false` opens this one); the border of the image, collimation and burned-in markers move, since
  the image is cropped at random first.
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
from medssl.errors import UserError
from medssl.pretext.base import Batch, PretextTask, TaskSettings
from medssl.pretext.pictures import Picture, laid, pictures, verdict
from medssl.pretext.questions import Question, worded
from medssl.pretext.tiles import cut, standardised, tile_size

GRID = 3
SIDES = "above left", "above", "above right", "left", "right", "below left", "below", "below right"


class Settings(TaskSettings):
    """
    Attributes:
        gap: share of a cell that a patch leaves free.
        normalise: each patch has its own mean and deviation taken away.
    """

    gap: Annotated[float, Field(ge=0, le=0.5)] = 0.25
    normalise: bool = True


class RelativePatch(PretextTask):
    name = "relative_patch"
    paper = "Doersch, Gupta, Efros 2015, arXiv:1505.05192"
    line = "tell on which side of a patch its neighbour lies"
    question = "Where does the second patch lie, seen from the first?"
    Settings = Settings
    compares = False
    dims = (2, 3)
    smallest = 32
    sees_wholes = False

    def __init__(self, encoder: Encoder, settings: Any, view: View, modality: str = "") -> None:
        super().__init__(encoder, settings, view, modality)
        self.size = tile_size(view.size, GRID, settings.gap)
        self.check_field("a patch", self.size)
        self.neighbours = GRID**view.spatial_dims - 1
        width = encoder.embed_dim
        self.compare = nn.Sequential(
            nn.Linear(2 * width, width), nn.ReLU(inplace=True), nn.Linear(width, self.neighbours)
        )
        self.plan = self.views(flip=False)

    def loss(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, dict[str, Tensor]]:
        patches, labels = self.puzzle(batch, generator)
        logits = self.answer(patches)
        accuracy = (logits.detach().argmax(1) == labels).float().mean()
        return F.cross_entropy(logits, labels), {"accuracy": accuracy}

    def floor(self, batch: Batch, generator: RowGenerator) -> dict[str, float]:
        return {"loss": math.log(self.neighbours), "accuracy": 1 / self.neighbours}

    def show(self, batch: Batch, generator: RowGenerator) -> list[Picture]:
        """The two patches as they lie, and the neighbour where the network puts it."""
        patches, labels = self.puzzle(batch, generator)
        said = self.answer(patches).argmax(1)
        centre, rows = self.neighbours // 2, torch.arange(len(patches), device=patches.device)
        placed = []
        for answer in (said, labels):
            grid = torch.full_like(patches[:, :1], 0.8).repeat(1, self.neighbours + 1, *[1] * (patches.ndim - 2))
            grid[:, centre] = patches[:, 0]
            grid[rows, answer + (answer >= centre)] = patches[:, 1]
            placed.append(laid(grid, GRID))
        words = verdict(said, labels, ["answer"] * self.neighbours)
        seen = (patches[:, 0], "patch"), (patches[:, 1], "its neighbour")
        return pictures((batch.images, "image"), *seen, (placed[0], words), (placed[1], "truth"))

    def ask(self, batch: Batch, generator: RowGenerator) -> list[Question]:
        if self.view.spatial_dims == 3:
            raise UserError("nobody can name the 26 neighbours of a cube", "relative_patch", "Take a 2-D encoder.")
        patches, labels = self.puzzle(batch, generator)
        columns = (patches[:, 0], "first"), (patches[:, 1], "second")
        return worded(columns, SIDES, labels, self.answer(patches).argmax(1))

    def answer(self, patches: Tensor) -> Tensor:
        """(N, neighbours) float32 scores."""
        return self.compare(self.embed(patches.flatten(0, 1)).view(len(patches), -1)).float()

    def puzzle(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, Tensor]:
        """The middle patch and one neighbour, (N, 2, C, *patch), and which one it is, (N,), in C-order of the grid."""
        images = self.new_view(batch.images, self.plan, generator)
        labels = generator.integers(self.neighbours)[:, 0]
        centre = self.neighbours // 2
        cells = torch.stack([torch.full_like(labels, centre), labels + (labels >= centre)], 1)
        patches = cut(images, cells, GRID, self.size, generator)
        return standardised(patches) if self.settings.normalise else patches, labels
