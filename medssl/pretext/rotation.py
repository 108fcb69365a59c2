"""Rotation: which way up is this image? (Gidaris 2018, "Unsupervised representation learning by predicting image
rotations".)

Shortcuts and how they are closed:
- Letterbox bars of a padded image show the angle: a View with `fit: pad` is refused.
- Turning by a multiple of 90 degrees moves pixels and interpolates none, so no resampling marks and no empty corners.
- The border of the image (collimation, burned-in side markers) stays in the same place in every scan: each image is
  cropped at random first, and `mask: circle` hides the corners, where markers stand.
- An up-down flip looks like a turn by 180 degrees: it is off whatever the preset says.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl.augment import RowGenerator, make_view
from medssl.config import View
from medssl.encoders import Encoder
from medssl.errors import UserError
from medssl.pretext.base import Batch, PretextTask, TaskSettings

ANGLES = 4


class Settings(TaskSettings):
    """
    Attributes:
        turns: `all` shows each image in its four rotations at once, as the paper does; `one` shows one at random.
        mask: `circle` hides all but the inscribed circle.
    """

    turns: Literal["all", "one"] = "one"
    mask: Literal["none", "circle"] = "none"


class Rotation(PretextTask):
    name = "rotation"
    paper = "Gidaris, Singh, Komodakis 2018, arXiv:1803.07728"
    line = "tell by which multiple of 90 degrees an image was turned"
    Settings = Settings

    def __init__(self, encoder: Encoder, settings: Any, view: View, modality: str = "") -> None:
        super().__init__(encoder, settings, view, modality)
        self.head = nn.Linear(encoder.embed_dim, ANGLES)
        self.plan = self.views(flip_vertical=False, rotation=0.0)
        if self.plan.flip_vertical or self.plan.rotation > 30:
            raise UserError(
                "'rotation' cannot tell its turns from up-down flips or from turns by more than 30 degrees",
                "rotation.views",
                "Leave flip_vertical off and rotation at 30 or below.",
            )

    @classmethod
    def check(cls, view: View) -> None:
        super().check(view)
        if view.fit == "pad":
            raise UserError(
                "the black bars of a padded image give its rotation away", "view.fit", "Use fit: crop or stretch."
            )

    def loss(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, dict[str, Tensor]]:
        x = make_view(batch.images, self.plan, generator)
        if self.settings.turns == "all":
            labels = torch.arange(ANGLES, device=x.device).repeat_interleave(len(x))
            x = torch.cat([torch.rot90(x, k, (-2, -1)) for k in range(ANGLES)])
        else:
            labels = generator.integers(ANGLES)[:, 0]
            x = turn(x, labels)
        if self.settings.mask == "circle":
            x = circle(x)
        logits = self.head(self.embed(x)).float()
        accuracy = (logits.detach().argmax(1) == labels).float().mean()
        return F.cross_entropy(logits, labels), {"accuracy": accuracy}

    def floor(self, batch: Batch, generator: RowGenerator) -> dict[str, float]:
        return {"loss": math.log(ANGLES), "accuracy": 1 / ANGLES}


def turn(x: Tensor, quarters: Tensor) -> Tensor:
    """Turn each row of x, (N, C, S, S), by `quarters` (N,) times 90 degrees, as torch.rot90 does."""
    turned = torch.stack([torch.rot90(x, k, (-2, -1)) for k in range(ANGLES)])
    return turned[quarters, torch.arange(len(x), device=x.device)]


def circle(x: Tensor) -> Tensor:
    """Put gray over everything outside the inscribed circle."""
    places = (torch.arange(x.shape[-1], device=x.device) + 0.5) / x.shape[-1] * 2 - 1
    inside = places[:, None] ** 2 + places[None, :] ** 2 <= 1
    return torch.where(inside, x, 0.5)
