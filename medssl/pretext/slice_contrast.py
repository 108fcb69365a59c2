"""Slice contrast: of two slices of the same stack, which one lies nearer to a third? (Sermanet 2018, "Time-contrastive
networks: self-supervised learning from video", the single-view form.) Near slices are drawn together and far ones of
the same stack pushed away, so that nothing that is the same all along the stack, such as the patient and the scanner,
can be of use. The loss is the triplet loss of Schroff 2015, equation 3. Several images of one exam as positives, the
multi-view form, are the task `micle`.

The paper takes frames of a film; here the axis of a stack stands for time, and slices are chosen by mm (`stacks.py`).

Shortcuts and how they are closed:
- Brightness that drifts along the stack (coil shading, bolus, tube current): near slices are equally bright. Each slice
  is standardised and given a brightness and a contrast of its own, and the preset bends its gray values and its shading
  besides (`normalise: false` opens this one; a test shows what it gives away).
- Lines and edges at the same pixels in near slices, and the edge of a field of view or of padding: each slice is
  cropped and turned at random by itself. There is no setting to test this with: slices meet only as pooled features,
  in which pixels have no places.
- Blank slices are near each other: they are never taken.
- Uneven spacing: near and far are distances in mm.
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from medssl.augment import RowGenerator
from medssl.config import View
from medssl.encoders import Encoder
from medssl.errors import UserError
from medssl.pretext.base import Batch, PretextTask
from medssl.pretext.heads import mlp
from medssl.pretext.pictures import Picture, pictures
from medssl.pretext.questions import Question, few, pictured
from medssl.pretext.stacks import (
    Millimetres,
    StackSettings,
    captions,
    known,
    looks,
    mean_over,
    near_and_far,
    refuse_unfit,
    taken,
)


class Settings(StackSettings):
    """
    Attributes:
        near: mm between two slices at most that belong together.
        far: mm between two slices at least that do not.
        margin: of squared distance, by which the far slice shall be farther. The paper takes 0.2.
        projection: width of the vectors, of unit length, whose distances count.
    """

    near: Millimetres = 6.0
    far: Millimetres = 9.0
    margin: Annotated[float, Field(gt=0, le=4)] = 0.2
    projection: Annotated[int, Field(ge=2)] = 128

    @model_validator(mode="after")
    def _in_order(self) -> Settings:
        if self.near >= self.far:
            raise UserError(
                f"slices within {self.near:g} mm are near and slices beyond {self.far:g} mm are far: these overlap",
                "slice_contrast.far",
                "Set far larger than near.",
            )
        return self


class SliceContrast(PretextTask):
    name = "slice_contrast"
    paper = "Sermanet et al. 2018, arXiv:1704.06888; loss: Schroff, Kalenichenko, Philbin 2015, arXiv:1503.03832"
    line = "put near slices of a stack closer to each other than far ones"
    question = "Which slice lies nearer to the one that is shown?"
    Settings = Settings
    sampling = "stack"
    compares = False

    def __init__(self, encoder: Encoder, settings: Any, view: View, modality: str = "") -> None:
        super().__init__(encoder, settings, view, modality)
        self.projection = mlp(encoder.embed_dim, encoder.embed_dim, settings.projection, 2, last_norm=True)
        self.plan = self.views(crop=(0.5, 1.0))

    @classmethod
    def group_size(cls, settings: Any) -> int:
        return settings.window

    def loss(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, dict[str, Tensor]]:
        slices, found = self.puzzle(batch, generator)
        near, far = distances(self.projection(self.embed(slices.flatten(0, 1))).view(len(found), 3, -1))
        loss = mean_over(found, F.relu(near - far + self.settings.margin), self.settings.margin)
        return loss, {"accuracy": mean_over(found, (near < far).float(), 0.5), "found": found.float().mean()}

    def floor(self, batch: Batch, generator: RowGenerator) -> dict[str, float]:
        """Loss: all distances equal. Accuracy: of the untrained encoder, to which near slices look alike."""
        needs = f"two slices {self.settings.near:g} mm apart at most, and one {self.settings.far:g} mm away at least"
        training = self.training
        self.eval()
        with torch.no_grad():
            slices, found = self.puzzle(batch, generator)
            refuse_unfit(self, found, batch, needs)
            near, far = distances(self.embed(slices.flatten(0, 1)).view(len(found), 3, -1))
        self.train(training)
        return {"loss": self.settings.margin, "accuracy": float(mean_over(found, (near < far).float(), 0.5))}

    def show(self, batch: Batch, generator: RowGenerator) -> list[Picture]:
        """Anchor, near and far slice, and how far the network puts them from the anchor."""
        slices, found = self.puzzle(batch, generator)
        near, far = distances(self.projection(self.embed(slices.flatten(0, 1))).view(len(found), 3, -1))
        anchor, close, beyond = slices.unbind(1)
        words = [
            captions(found, [f"{name}: distance {value:.2f}" for value in x.tolist()])
            for name, x in (("near", near), ("far", far))
        ]
        return pictures((anchor, "anchor"), (close, words[0]), (beyond, words[1]))

    def ask(self, batch: Batch, generator: RowGenerator) -> list[Question]:
        slices, found = self.puzzle(batch, generator)
        gaps = torch.stack(distances(self.projection(self.embed(slices.flatten(0, 1))).view(len(found), 3, -1)), 1)
        chosen, place, said = few(-gaps, torch.zeros_like(found, dtype=torch.int64), generator)
        rows = torch.arange(len(slices), device=slices.device)[:, None]
        return pictured([(slices[:, 0], "")], slices[rows, 1 + chosen], place, said, found)

    def puzzle(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, Tensor]:
        """An anchor, a near and a far slice, (N, 3, C, H, W), and where there are such slices, (N,) bool."""
        places, found = near_and_far(batch.position, known(batch), self.settings.near, self.settings.far, generator)
        return looks(self, taken(batch.images, places), generator), found


def distances(z: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distances of unit vectors, (N,) each: anchor to near and anchor to far slice, of (N, 3, D)."""
    z = F.normalize(z.float(), dim=2)
    near, far = ((z[:, 0] - z[:, k]).square().sum(1) for k in (1, 2))
    return near, far
