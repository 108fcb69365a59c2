"""VoCo: say where in the body a crop lies, by which parts of the same image it overlaps (Wu 2024, "VoCo: a simple-yet-
effective volume contrastive learning framework for 3D medical image analysis").

An image is cut into a grid of bases; a crop of the same size at a random place overlaps up to four of them (eight in a
volume). The similarity of their vectors is to be the share of the crop that lies in each base, and two bases are to
have nothing in common. What is contrasted lies in one image, so there are no false negatives between patients, the
batch may be small, and a step sees no more pixels than two views have: that is why this one was taken and not a
contrast of crops over the batch.

Shortcuts: a crop shares its very pixels with a base, noise included; bases and crops come from two views that differ in
brightness, contrast, blur and noise. Brightness that falls off towards the border: crops are standardised one by one.
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from medssl.augment import RowGenerator
from medssl.config import View
from medssl.encoders import Encoder
from medssl.pretext.base import Batch, PretextTask, TaskSettings
from medssl.pretext.heads import mlp
from medssl.pretext.pictures import Column, Picture, beside, pictures, verdict
from medssl.pretext.tiles import standardised

EPSILON = 1e-4  # keeps the logarithm of a wholly wrong share finite


class Settings(TaskSettings):
    """
    Attributes:
        grid: bases a side.
        crops: at random places, an image.
        apart: weight of the term that holds bases apart (the paper's lambda).
        projection: width of the vectors.
    """

    grid: Annotated[int, Field(ge=2)] = 2
    crops: Annotated[int, Field(ge=1)] = 4
    apart: Annotated[float, Field(ge=0)] = 1.0
    projection: Annotated[int, Field(ge=2)] = 128


class VoCo(PretextTask):
    name = "voco"
    paper = "Wu, Zhuang, Chen 2024, arXiv:2402.17300"
    line = "say of a crop how much of it lies in each part of the same image"
    Settings = Settings
    compares = False
    dims = (2, 3)
    smallest = 32

    def __init__(self, encoder: Encoder, settings: Any, view: View, modality: str = "") -> None:
        super().__init__(encoder, settings, view, modality)
        self.size = view.size // settings.grid
        self.check_field("a crop", self.size)
        self.projection = mlp(encoder.embed_dim, encoder.embed_dim, settings.projection, 2, last_norm=False)
        self.plan = self.views()
        self.still = self.plan.model_copy(
            update={"crop": (1.0, 1.0), "rotation": 0.0, "flip": False, "flip_vertical": False, "cutout": 0.0}
        )

    def loss(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, dict[str, Tensor]]:
        """Of crops -log(1 - |similarity - share|), and the mean similarity of two bases."""
        pictures, shares = self.puzzle(batch, generator)
        z = self.projection(self.embed(pictures.flatten(0, 1))).float()
        with torch.autocast(z.device.type, enabled=False):
            z = F.normalize(z, dim=1).view(len(shares), -1, z.shape[1])
            bases, crops = z.split([shares.shape[2], shares.shape[1]], 1)
            said = (crops @ bases.transpose(1, 2)).clamp_min(0)
            wrong = (said - shares).abs()
            alike = (bases @ bases.transpose(1, 2)).abs()
            count = shares.shape[2]
            between = (alike.sum((1, 2)) - count).mean() / (count * (count - 1))
            placed = -(1 - wrong).clamp_min(EPSILON).log().mean()
        found = (said.detach().argmax(2) == shares.argmax(2)).float().mean()
        return placed + self.settings.apart * between, {"accuracy": found, "overlap_error": wrong.detach().mean()}

    def floor(self, batch: Batch, generator: RowGenerator) -> dict[str, float]:
        """Loss and error: every base is said to hold the same share, and the bases are apart. Accuracy: one of them."""
        _, shares = self.puzzle(batch, generator)
        wrong = (shares - 1 / shares.shape[2]).abs()
        return {
            "loss": float(-(1 - wrong).clamp_min(EPSILON).log().mean()),
            "accuracy": 1 / shares.shape[2],
            "overlap_error": float(wrong.mean()),
        }

    def show(self, batch: Batch, generator: RowGenerator) -> list[Picture]:
        """The bases, numbered row by row, and crops with the base that each is said to lie in most."""
        cut, shares = self.puzzle(batch, generator)
        count = shares.shape[2]
        z = F.normalize(self.projection(self.embed(cut.flatten(0, 1))).float(), dim=1).view(len(cut), cut.shape[1], -1)
        said = (z[:, count:] @ z[:, :count].transpose(1, 2)).argmax(2)
        names = [f"base {number + 1}" for number in range(count)]
        columns: list[Column] = [(beside(cut[:, :count], self.settings.grid), "bases")]
        for number in range(shares.shape[1]):
            truth = shares[:, number].argmax(1)
            columns.append((cut[:, count + number], verdict(said[:, number], truth, names)))
        return pictures(*columns)

    def puzzle(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, Tensor]:
        """Bases and then crops, (N, B + R, C, *crop), and which share of each crop lies in each base, (N, R, B)."""
        base = self.new_view(batch.images, self.plan, generator)
        other = self.new_view(base, self.still, generator)
        dims, grid, size, count = base.ndim - 2, self.settings.grid, self.size, self.settings.crops
        corners = torch.cartesian_prod(*[torch.arange(grid, device=base.device) * size] * dims)
        corners = corners.expand(len(base), -1, -1)
        places = generator.integers(size * (grid - 1) + 1, count * dims).view(len(base), count, dims)
        shares = overlap(places, corners, size)
        pictures = torch.cat([crop(base, corners, size), crop(other, places, size)], 1)
        return standardised(pictures), shares


def overlap(places: Tensor, corners: Tensor, size: int) -> Tensor:
    """(N, R, B): which share of the cubes at `places`, (N, R, dims), lies in those at `corners`, (N, B, dims)."""
    shift = (places[:, :, None] - corners[:, None]).abs()
    return ((size - shift).clamp_min(0) / size).prod(-1)


def crop(images: Tensor, corners: Tensor, size: int) -> Tensor:
    """(N, R, C, size, ...): the cubes of `images`, (N, C, *spatial), whose first pixels are at `corners`."""
    rows, count, dims = corners.shape
    out = images.unsqueeze(1)
    steps = torch.arange(size, device=images.device)
    for axis in range(dims):
        index = corners[..., axis, None] + steps
        shape, target = [rows, count, 1, *[1] * dims], [rows, count, *out.shape[2:]]
        shape[3 + axis] = target[3 + axis] = size
        out = out.expand(rows, count, *out.shape[2:]).gather(3 + axis, index.view(shape).expand(target))
    return out
