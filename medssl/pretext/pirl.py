"""PIRL: an image and its transformed self get the same vector (Misra and van der Maaten 2020, "Self-supervised learning
of pretext-invariant representations").

Where jigsaw or rotation ask what was done to an image, this asks for a vector that does not change by it. Any transform
serves: a function from images to pictures, in `TRANSFORMS`. The vectors of all images wait in a memory bank, each a
running mean over the epochs; an image's own entry is what both its vectors are to be near, those of other patients are
the negatives. The loss is the softmax over all of them, not the paper's binary form, which needs its
normalising constants estimated.

Shortcuts: those of the transform, closed as its own task closes them (tiles apart and standardised one by one); and
brightness, which both pictures share but for the view: image and transformed image come from two different views.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medssl.augment import RowGenerator
from medssl.config import View
from medssl.encoders import Encoder
from medssl.errors import unknown
from medssl.pretext.base import Batch, PretextTask
from medssl.pretext.heads import found_untrained, retrieval
from medssl.pretext.inpainting import holes
from medssl.pretext.negatives import NOBODY, Memory, NegativeSettings, apart, info_nce, refuse_one_patient
from medssl.pretext.pictures import Picture, beside, pictures
from medssl.pretext.processes import gather, process_count
from medssl.pretext.questions import Question, same
from medssl.pretext.rotation import ANGLES, turn
from medssl.pretext.tiles import cut, standardised, tile_size

GRID = {2: 3, 3: 2}  # tiles a side
GAP = 0.2
CELLS = 8  # blocks a side
SCORED_AT_MOST = 16_384  # entries of the bank a step


class Settings(NegativeSettings):
    """
    Attributes:
        transform: `jigsaw`, `rotation` or `holes`.
        weight: of the transformed image's loss; the rest is the image's own (the paper's lambda).
        temperature: of the softmax over similarities.
        memory: how much of an entry stays when its image is seen again.
        width: features a picture that are joined.
        projection: width of the vectors.
    """

    transform: str = "jigsaw"
    weight: Annotated[float, Field(ge=0, le=1)] = 0.5
    temperature: Annotated[float, Field(gt=0)] = 0.1
    memory: Annotated[float, Field(ge=0, lt=1)] = 0.5
    width: Annotated[int, Field(ge=8)] = 64
    projection: Annotated[int, Field(ge=2)] = 128


class PIRL(PretextTask):
    name = "pirl"
    paper = "Misra, van der Maaten 2020, arXiv:1912.01991"
    line = "give an image and its shuffled or turned self the same vector, among those of a memory bank"
    question = "Which of these images were the pieces cut from?"
    Settings = Settings
    compares = True
    dims = (2, 3)
    smallest = 32

    def __init__(self, encoder: Encoder, settings: Any, view: View, modality: str = "") -> None:
        super().__init__(encoder, settings, view, modality)
        if settings.transform not in TRANSFORMS:
            raise unknown("transform", settings.transform, list(TRANSFORMS), "pirl.transform")
        self.transform = TRANSFORMS[settings.transform]
        trial = torch.zeros(1, 1, *[view.size] * view.spatial_dims)
        pictures = self.transform(trial, RowGenerator(0, 0, torch.zeros(1, dtype=torch.int64)))
        self.check_field("a transformed picture", pictures.shape[-1])
        self.projection = nn.Linear(encoder.embed_dim, settings.projection)
        self.reduce = nn.Linear(encoder.embed_dim, settings.width)
        self.join = nn.Linear(pictures.shape[1] * settings.width, settings.projection)
        self.bank = Memory(0, settings.projection)
        self.places: Tensor
        self.register_buffer("places", torch.zeros(0, dtype=torch.int64))
        self.plan = self.views()

    def meet(self, index: Tensor, patient: Tensor) -> None:
        refuse_one_patient(self.name, self.settings, patient)
        self.bank = Memory(len(index), self.settings.projection)
        self.places = index.clone()
        size = self.bank.vectors.nbytes / 2**20
        self.note = f"pirl: a memory bank of {len(index):,} images, {size:,.1f} MiB"

    def loss(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, dict[str, Tensor]]:
        plain = self.new_view(batch.images, self.plan, generator)
        pictures = self.transform(self.new_view(batch.images, self.plan, generator), generator)
        whole = self.projection(self.embed(plain)).float()
        parts = self.reduce(self.encoder.embed(pictures.flatten(0, 1)))
        joined = self.join(parts.view(len(plain), -1)).float()
        with torch.autocast(plain.device.type, enabled=False):
            rows = torch.searchsorted(self.places, batch.index)
            own = self._entries(rows, whole)
            others, allowed = self._others(batch, generator)
            near = apart(self.settings, batch.patient, gather(batch.patient)[0])
            nce = [info_nce(z, own, others, allowed, self.settings.temperature, near) for z in (joined, whole)]
        loss = self.settings.weight * nce[0] + (1 - self.settings.weight) * nce[1]
        if self.training and len(self.bank):
            entries = own.lerp(F.normalize(whole.detach(), dim=1), 1 - self.settings.memory)
            self.bank.write(*(gather(x)[0] for x in (rows, entries, batch.index, batch.patient)))
        return loss, {"accuracy": retrieval(joined, whole)}

    def floor(self, batch: Batch, generator: RowGenerator) -> dict[str, float]:
        """Loss: all similarities equal, the bank full. Accuracy: how often the untrained encoder finds another view."""
        scored = min(SCORED_AT_MOST, len(self.bank))
        return {"loss": math.log(1 + scored), "accuracy": found_untrained(self, batch, generator, self.plan)}

    def show(self, batch: Batch, generator: RowGenerator) -> list[Picture]:
        """An image, its transformed self, and the image that the network takes that for."""
        plain, transformed, alike = self.matched(batch, generator)
        found = alike.argmax(1)
        words = ["right" if row == at else "wrong" for row, at in enumerate(found.tolist())]
        return pictures(
            (plain, "image"),
            (transformed, self.settings.transform),
            (plain[found], [f"taken for this: {word}" for word in words]),
        )

    def ask(self, batch: Batch, generator: RowGenerator) -> list[Question]:
        plain, transformed, alike = self.matched(batch, generator)
        return same([(transformed, self.settings.transform)], plain, alike, generator)

    def matched(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, Tensor, Tensor]:
        """Images, (N, C, *spatial), their transformed selves as pictures, (N, C, H, W), and how alike the network finds
        each of these to each image, (N, N)."""
        plain = self.new_view(batch.images, self.plan, generator)
        transformed = self.transform(self.new_view(batch.images, self.plan, generator), generator)
        whole = F.normalize(self.projection(self.embed(plain)).float(), dim=1)
        parts = self.reduce(self.encoder.embed(transformed.flatten(0, 1)))
        joined = F.normalize(self.join(parts.view(len(plain), -1)).float(), dim=1)
        across = round(transformed.shape[1] ** (1 / plain[0, 0].ndim))
        return plain, beside(transformed, across), joined @ whole.T

    def heads(self) -> dict[str, nn.Module]:
        """Without the bank, whose vectors are of single patients."""
        return {name: module for name, module in super().heads().items() if name != "bank"}

    @torch.no_grad()
    def _entries(self, rows: Tensor, whole: Tensor) -> Tensor:
        """(N, D): what the bank has of these images; of images that it has not met, what the encoder says now."""
        fresh = F.normalize(whole, dim=1)
        if not len(self.bank):
            return fresh
        return torch.where(self.bank.index[rows, None] == NOBODY, fresh, self.bank.vectors[rows])

    def _others(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, Tensor]:
        """Entries of images that are not in the batch, (K, D), and whose negatives they are, (N, K)."""
        places: Any = slice(None)
        if len(self.bank) > SCORED_AT_MOST:  # each row draws its share, so that all processes score the same ones
            share = math.ceil(SCORED_AT_MOST / (len(batch.rows) * process_count()))
            places = gather(generator.integers(len(self.bank), share))[0].flatten()
        here = torch.isin(self.bank.index[places], gather(batch.index)[0])
        return self.bank.vectors[places], self.bank.negatives(self.settings, batch, places) & ~here


def jigsaw(images: Tensor, generator: RowGenerator) -> Tensor:
    """The tiles of every image in an order of its own."""
    grid = GRID[images.ndim - 2]
    tiles = generator.order(grid ** (images.ndim - 2))
    return standardised(cut(images, tiles, grid, tile_size(images.shape[-1], grid, GAP), generator))


def rotation(images: Tensor, generator: RowGenerator) -> Tensor:
    """Every image turned by a multiple of 90 degrees (in the axial plane), itself included."""
    return turn(images, generator.integers(ANGLES)[:, 0])[:, None]


def painted_over(images: Tensor, generator: RowGenerator) -> Tensor:
    """Half of the blocks of every image behind gray."""
    return torch.where(holes(generator, CELLS, 0.5, images.shape[2:]), 0.5, images)[:, None]


# (N, C, *spatial) in, T pictures of every image out: (N, T, C, *smaller)
TRANSFORMS: dict[str, Callable[[Tensor, RowGenerator], Tensor]] = {
    "jigsaw": jigsaw,
    "rotation": rotation,
    "holes": painted_over,
}
