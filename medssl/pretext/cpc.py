"""Contrastive predictive coding: what comes below in the image, given the rows above? (van den Oord 2018,
"Representation learning with contrastive predictive coding", in the form of Hénaff 2020, "Data-efficient image
recognition with contrastive predictive coding".)

The image is cut into a grid of patches that overlap by half; each is encoded on its own; a small network of row-causal
convolutions sums up the rows so far, and from it the patches two and more rows further down are told from all others of
the batch (InfoNCE).

Shortcuts: neighbouring rows overlap, so the first row that is predicted shares no pixel with those known; patches are
standardised one by one, so brightness that falls off does not tell them apart. Patches of other images of the same
patient are left out (`negatives: all` counts them); those of the same image stay, as in the paper.
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
from medssl.pretext.base import Batch, PretextTask
from medssl.pretext.negatives import NegativeSettings, apart
from medssl.pretext.pictures import Picture, laid, pictures
from medssl.pretext.processes import gather, process_count
from medssl.pretext.tiles import standardised


class Settings(NegativeSettings):
    """
    Attributes:
        grid: patches a side.
        steps: how many rows are predicted; the first is the second below.
        width: of patches and context.
        temperature: of the softmax over patches.
    """

    grid: Annotated[int, Field(ge=4)] = 5
    steps: Annotated[int, Field(ge=1)] = 2
    width: Annotated[int, Field(ge=8)] = 128
    temperature: Annotated[float, Field(gt=0)] = 0.1


class CPC(PretextTask):
    name = "cpc"
    paper = "van den Oord, Li, Vinyals 2018, arXiv:1807.03748; images: Hénaff et al. 2020, arXiv:1905.09272"
    line = "tell which patch comes further down from the rows above"
    Settings = Settings
    compares = True
    smallest = 32
    sees_wholes = False

    def __init__(self, encoder: Encoder, settings: Any, view: View, modality: str = "") -> None:
        super().__init__(encoder, settings, view, modality)
        self.size = 2 * (view.size // (settings.grid + 1))
        self.check_field("a patch", self.size)
        if settings.steps + 2 > settings.grid:
            raise UserError(
                f"{settings.steps} predicted rows do not fit a grid of {settings.grid}", "cpc.steps", "Lower steps."
            )
        width = settings.width
        self.patch = nn.Linear(encoder.embed_dim, width)
        self.context = nn.ModuleList(nn.Conv2d(width, width, (2, 3)) for _ in range(2))
        self.predict = nn.ModuleList(nn.Linear(width, width) for _ in range(settings.steps))
        self.plan = self.views(rotation=0.0)

    def loss(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, dict[str, Tensor]]:
        losses, right = [], []
        for logits, labels in self.answers(self.puzzle(batch, generator), batch.patient):
            losses.append(F.cross_entropy(logits, labels))
            right.append((logits.detach().argmax(1) == labels).float().mean())
        return torch.stack(losses).mean(), {"accuracy": torch.stack(right).mean()}

    def floor(self, batch: Batch, generator: RowGenerator) -> dict[str, float]:
        grid = self.settings.grid
        counts = [process_count() * len(batch.rows) * grid * (grid - k - 2) for k in range(self.settings.steps)]
        return {
            "loss": sum(map(math.log, counts)) / len(counts),
            "accuracy": sum(1 / n for n in counts) / len(counts),
        }

    def show(self, batch: Batch, generator: RowGenerator) -> list[Picture]:
        """The patches, and from the third row on those that the network expects, out of all of the batch."""
        patches = self.puzzle(batch, generator)
        grid, below = self.settings.grid, 2
        said = self.answers(patches, batch.patient)[0][0].argmax(1).view(-1, grid - below, grid)
        right = torch.arange(said.numel(), device=said.device).view(said.shape) == said
        cells = patches.view(-1, grid, grid, *patches.shape[1:])
        expected = cells[:, below:].flatten(0, 2)[said]
        answer = torch.cat([cells[:, :below], expected], 1).flatten(1, 2)
        words = [f"answer: {int(n)} of {right[0].numel()} right" for n in right.sum((1, 2))]
        return pictures((batch.images, "image"), (laid(cells.flatten(1, 2), grid), "seen"), (laid(answer, grid), words))

    def answers(self, patches: Tensor, patient: Tensor) -> list[tuple[Tensor, Tensor]]:
        """For each step ahead scores, (N * rows * grid, M * rows * grid): what is expected against what is there, in
        the M images of all processes; and which is the right one."""
        grid, rows = self.settings.grid, len(patient)
        z = self.patch(self.embed(patches)).view(rows, grid, grid, -1)
        context = self.summed_up(z.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        z, images_apart = z.float(), apart(self.settings, patient, gather(patient)[0])
        scores = []
        with torch.autocast(z.device.type, enabled=False):
            for k, predict in enumerate(self.predict):
                below = k + 2
                said = F.normalize(predict(context[:, :-below].float()).flatten(0, 2), dim=1)
                keys, start = gather(F.normalize(z[:, below:].flatten(0, 2), dim=1))
                right = start + torch.arange(len(said), device=said.device)
                logits = said @ keys.T / self.settings.temperature
                if images_apart is not None:
                    each = len(said) // rows
                    owner = torch.arange(len(keys), device=keys.device) // each
                    own = owner == (right // each)[:, None]
                    logits = logits.masked_fill(~(own | images_apart[owner[: len(said)]][:, owner]), -math.inf)
                scores.append((logits, right))
        return scores

    def puzzle(self, batch: Batch, generator: RowGenerator) -> Tensor:
        """The patches of a view of each image."""
        return self.patches(self.new_view(batch.images, self.plan, generator))

    def patches(self, images: Tensor) -> Tensor:
        """(N * grid * grid, C, size, size), row after row, each half over its neighbours and standardised."""
        half = self.size // 2
        cut = images.unfold(2, self.size, half).unfold(3, self.size, half)
        cut = cut[:, :, : self.settings.grid, : self.settings.grid].permute(0, 2, 3, 1, 4, 5).flatten(1, 2)
        return standardised(cut.contiguous()).flatten(0, 1)

    def summed_up(self, z: Tensor) -> Tensor:
        """(N, D, grid, grid) -> the same: each place knows its own row and those above it, and none below."""
        for layer in self.context:
            z = z + F.relu(layer(F.pad(z, (1, 1, 1, 0))))
        return z
