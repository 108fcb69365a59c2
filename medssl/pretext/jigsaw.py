"""Jigsaw: in which order were the tiles laid? (Noroozi and Favaro 2016, "Unsupervised learning of visual
representations by solving jigsaw puzzles".)

Shortcuts and how they are closed, after the paper's section 4.2:
- Lines and gradients that run on across the border of two tiles: tiles are smaller than their cells, with jitter.
- Brightness and contrast that fall off from the centre: each tile is standardised on its own (`normalise: false` opens
  this one; a test shows what it gives away).
- The place of a tile on the detector (collimation, burned-in markers): the image is cropped at random first.
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
from medssl.pretext.base import Batch, PretextTask, TaskSettings
from medssl.pretext.pictures import Picture, laid, pictures, verdict
from medssl.pretext.questions import Question, few, pictured
from medssl.pretext.tiles import cut, permutations, standardised, tile_size

GRID = {2: 3, 3: 2}  # tiles a side


class Settings(TaskSettings):
    """
    Attributes:
        permutations: how many orders there are to tell apart. The paper takes 100 with 1.3 million images.
        gap: share of a cell that a tile leaves free.
        width: features a tile that go into the comparison.
        normalise: each tile has its own mean and deviation taken away.
    """

    permutations: Annotated[int, Field(ge=2, le=1000)] = 24
    gap: Annotated[float, Field(ge=0, le=0.5)] = 0.2
    width: Annotated[int, Field(ge=8)] = 64
    normalise: bool = True


class Jigsaw(PretextTask):
    name = "jigsaw"
    paper = "Noroozi, Favaro 2016, arXiv:1603.09246"
    line = "tell in which of many orders the tiles of an image were laid"
    question = "Which of these puts the tiles in order?"
    Settings = Settings
    compares = False
    dims = (2, 3)
    smallest = 32
    sees_wholes = False

    def __init__(self, encoder: Encoder, settings: Any, view: View, modality: str = "") -> None:
        super().__init__(encoder, settings, view, modality)
        self.grid = GRID[view.spatial_dims]
        self.size = tile_size(view.size, self.grid, settings.gap)
        self.check_field("a tile", self.size)
        tiles = self.grid**view.spatial_dims
        self.orders: Tensor
        self.register_buffer("orders", permutations(tiles, settings.permutations))
        self.reduce = nn.Sequential(nn.Linear(encoder.embed_dim, settings.width), nn.ReLU(inplace=True))
        self.compare = nn.Sequential(
            nn.Linear(tiles * settings.width, 4 * settings.width),
            nn.ReLU(inplace=True),
            nn.Linear(4 * settings.width, settings.permutations),
        )
        self.plan = self.views()

    def loss(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, dict[str, Tensor]]:
        tiles, labels = self.puzzle(batch, generator)
        logits = self.answer(tiles)
        accuracy = (logits.detach().argmax(1) == labels).float().mean()
        return F.cross_entropy(logits, labels), {"accuracy": accuracy}

    def floor(self, batch: Batch, generator: RowGenerator) -> dict[str, float]:
        count = self.settings.permutations
        return {"loss": math.log(count), "accuracy": 1 / count}

    def show(self, batch: Batch, generator: RowGenerator) -> list[Picture]:
        """The tiles as they are shown, and laid in the order that the network answers."""
        tiles, labels = self.puzzle(batch, generator)
        said = self.answer(tiles).argmax(1)
        rows = torch.arange(len(tiles), device=tiles.device)[:, None]
        answered, right = (laid(tiles[rows, self.orders[order].argsort(1)], self.grid) for order in (said, labels))
        words = verdict(said, labels, ["answer"] * self.settings.permutations)
        return pictures((batch.images, "image"), (laid(tiles, self.grid), "seen"), (answered, words), (right, "truth"))

    def ask(self, batch: Batch, generator: RowGenerator) -> list[Question]:
        """Which of four orders is the right one? Each is shown with the tiles laid by it."""
        tiles, labels = self.puzzle(batch, generator)
        chosen, place, said = few(self.answer(tiles), labels, generator)
        back = self.orders[chosen].argsort(2)  # (N, K, T)
        rows = torch.arange(len(tiles), device=tiles.device)[:, None]
        laid_out = torch.stack([laid(tiles[rows, order], self.grid) for order in back.unbind(1)], 1)
        return pictured([(laid(tiles, self.grid), "the tiles")], laid_out, place, said)

    def answer(self, tiles: Tensor) -> Tensor:
        """(N, permutations) float32 scores."""
        features = self.reduce(self.embed(tiles.flatten(0, 1)))
        return self.compare(features.view(len(tiles), -1)).float()

    def puzzle(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, Tensor]:
        """Tiles in their shuffled order, (N, T, C, *tile), and which order it is, (N,)."""
        images = self.new_view(batch.images, self.plan, generator)
        labels = generator.integers(self.settings.permutations)[:, 0]
        tiles = cut(images, self.orders[labels], self.grid, self.size, generator)
        return standardised(tiles) if self.settings.normalise else tiles, labels
