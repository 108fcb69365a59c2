"""Slice propagation: copy gray levels from one slice to the next by learned affinity, and with them anything else, such
as masks (Vondrick 2018, "Tracking emerges by colorizing videos"; slices stand in for frames).

Every place of a slice is to have the gray level of those places of its neighbours that it resembles: levels are copied
with a softmax over the similarity of features (equations 1 and 2), and are classes (equation 3), as the paper's colours
are. Classes are quantiles of the stack, so that no level is rare. Features are unit vectors with a temperature, of a
fourth of the side, summed over all levels of the encoder's pyramid from there on, so that every stage learns.

Shortcuts and how they are closed:
- The paper's network sees no colour, so it cannot copy by colour. A gray image is its own level: matching brightness
  needs no anatomy. Each slice is seen through a random monotone curve of its own, upwards or downwards (as Models
  Genesis bends intensities), while levels are those of the slice itself; `curves: false` opens this one.
- The same place in the next slice: zero padding tells a network where it is, and neighbouring slices lie on each other.
  Each slice has a crop and a turn of its own, so the same place holds something else;
  `views: {crop: [1, 1], rotation: 0}` opens this one.

`propagate` carries masks through a volume; `benchmarks/mask_propagation.py` measures it.
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medssl.augment import RowGenerator
from medssl.config import View
from medssl.encoders import Encoder
from medssl.pretext.base import Batch, PretextTask, TaskSettings
from medssl.pretext.genesis import bezier
from medssl.pretext.pictures import Picture, pictures

STRIDE = 4  # of the places that are compared, as near as the encoder has it
LEAST = 1e-3  # added to a probability, so that a level that no reference has costs no more than -log of it


class Settings(TaskSettings):
    """
    Attributes:
        references: slices that levels are copied from; the one after them in the stack is painted. The paper takes 3.
        levels: classes of gray; the paper's colours have 16.
        width: of the features that are compared.
        temperature: of the softmax over places.
        curves: each slice is seen through an intensity curve of its own.
    """

    references: Annotated[int, Field(ge=1)] = 1
    levels: Annotated[int, Field(ge=2)] = 16
    width: Annotated[int, Field(ge=8)] = 64
    temperature: Annotated[float, Field(gt=0)] = 0.07
    curves: bool = True


class SlicePropagation(PretextTask):
    name = "slice_propagation"
    paper = "Vondrick, Shrivastava, Fathi, Guadarrama, Murphy 2018, arXiv:1806.09594"
    line = "copy gray levels from one slice to the next by what resembles what"
    Settings = Settings
    sampling = "stack"
    compares = False
    smallest = 32

    def __init__(self, encoder: Encoder, settings: Any, view: View, modality: str = "") -> None:
        super().__init__(encoder, settings, view, modality)
        self.places = Places(encoder, settings.width)
        plan = self.views(crop=(0.6, 1.0), gamma=0.0, blur=0.0, noise=0.0, cutout=0.0)
        still: dict[str, Any] = {"crop": (1.0, 1.0), "rotation": 0.0, "flip": False, "flip_vertical": False}
        self.look = plan.model_copy(update=still)
        gray = ("brightness", "contrast", "gamma", "blur", "noise", "cutout", "colour", "gray", "bias_field", "window")
        self.plan = plan.model_copy(update=dict.fromkeys(gray, 0.0))

    @classmethod
    def group_size(cls, settings: Any) -> int:
        return settings.references + 1

    def loss(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, dict[str, Tensor]]:
        slices, seen = self.puzzle(batch, generator)
        features = self.features(seen)
        levels = quantiles(shrunk(slices, features.shape[3:]), self.settings.levels)
        with torch.autocast(seen.device.type, enabled=False):
            painted = copied(features[:, :-1], features[:, -1], levels[:, :-1], self.settings)
            return scored(painted, levels[:, -1])

    def floor(self, batch: Batch, generator: RowGenerator) -> dict[str, float]:
        """Loss: all places resemble each other. Accuracy: the level at the same place of the slice before, or the
        commonest level of the references, whichever is right more often."""
        slices, _ = self.puzzle(batch, generator)
        side = -(-slices.shape[-1] // self.places.stride)
        levels = quantiles(shrunk(slices, (side, side)), self.settings.levels)
        shares = F.one_hot(levels[:, :-1].flatten(1), self.settings.levels).float().mean(1, keepdim=True)
        truth = levels[:, -1].flatten(1)
        loss, metrics = scored(shares.expand(-1, truth.shape[1], -1), levels[:, -1])
        same = (levels[:, -2] == levels[:, -1]).float().mean()
        return {"loss": float(loss), "accuracy": max(float(metrics["accuracy"]), float(same))}

    def show(self, batch: Batch, generator: RowGenerator) -> list[Picture]:
        slices, seen = self.puzzle(batch, generator)
        features = self.features(seen)
        levels = quantiles(shrunk(slices, features.shape[3:]), self.settings.levels)
        painted = copied(features[:, :-1], features[:, -1], levels[:, :-1], self.settings).argmax(2)
        top = self.settings.levels - 1
        said, right = ((x.reshape(levels[:, -1].shape)[:, None] / top) for x in (painted, levels[:, -1]))
        share = (painted == levels[:, -1].flatten(1)).float().mean(1)
        return pictures(
            (seen[:, -2], "slice before, as seen"),
            (levels[:, -2][:, None] / top, "its levels"),
            (seen[:, -1], "slice, as seen"),
            (said, [f"copied: {100 * x:.0f} % right" for x in share.tolist()]),
            (right, "true levels"),
        )

    def puzzle(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, Tensor]:
        """Slices, and slices as seen, (N, K, C, H, W) each; every one has a crop and a curve of its own."""
        slices = [self.new_view(x, self.plan, generator) for x in batch.images.unbind(1)]
        seen = slices
        if self.settings.curves:
            with torch.autocast(batch.images.device.type, enabled=False):
                seen = [bezier(x, generator) for x in slices]
        return torch.stack(slices, 1), torch.stack([self.new_view(x, self.look, generator) for x in seen], 1)

    def features(self, slices: Tensor) -> Tensor:
        """(N, K, C, H, W) -> (N, K, width, h, w), unit vectors in float32."""
        found = self.places(self.pyramid(slices.flatten(0, 1)))
        return F.normalize(found.float(), dim=1).unflatten(0, slices.shape[:2])

    @torch.no_grad()
    def propagate(self, images: Tensor, mask: Tensor, start: int, reach: int = 4) -> Tensor:
        """The masks of all slices of a stack from that of one, slice after slice in both directions.

        Args:
            images: (S, C, H, W) in [0, 1], in order.
            mask: (H, W) int64 labels of slice `start`.
            reach: how far a place is looked for, in halves of the features' stride: 4 are 8 pixels of 64.

        Returns:
            (S, H, W) int64 labels.
        """
        return spread(self.features(images[None])[0], mask, start, reach, self.settings.temperature)


class Places(nn.Module):
    """One feature map of all levels of a pyramid from a fourth of the side on, as a sum of projections."""

    def __init__(self, encoder: Encoder, width: int) -> None:
        super().__init__()
        self.first = next((n for n, s in enumerate(encoder.strides) if s >= STRIDE), len(encoder.strides) - 1)
        self.stride = encoder.strides[self.first]
        self.project = nn.ModuleList(nn.Conv2d(c, width, 1) for c in encoder.channels[self.first :])

    def forward(self, pyramid: list[Tensor]) -> Tensor:
        finest = pyramid[self.first]
        maps = [project(x) for project, x in zip(self.project, pyramid[self.first :], strict=True)]
        rest = [F.interpolate(x, finest.shape[2:], mode="bilinear") for x in maps[1:]]
        return maps[0] + sum(rest) if rest else maps[0]


def shrunk(slices: Tensor, size: torch.Size | tuple[int, ...]) -> Tensor:
    """(N, K, C, H, W) -> (N, K, h, w): mean gray of each place."""
    gray = slices.mean(2).flatten(0, 1)[:, None]
    return F.adaptive_avg_pool2d(gray, (size[0], size[1])).view(*slices.shape[:2], *size)


def quantiles(gray: Tensor, levels: int) -> Tensor:
    """(N, K, h, w) -> int64 classes of gray: of each stack, as nearly as ties allow, equally many places a class."""
    flat = gray.flatten(1).float()
    ranks = torch.linspace(0, 1, levels + 1, device=gray.device)[1:-1]
    edges = torch.quantile(flat, ranks, dim=1).T.contiguous()
    return torch.searchsorted(edges, flat).view(gray.shape)


def copied(references: Tensor, target: Tensor, levels: Tensor, settings: Settings) -> Tensor:
    """Probabilities of levels at each place of the target.

    Args:
        references: (N, R, D, h, w) features. target: (N, D, h, w).
        levels: (N, R, h, w) int64.

    Returns:
        (N, h * w, levels).
    """
    keys = references.transpose(1, 2).flatten(2)  # (N, D, R * h * w)
    affinity = torch.softmax(target.flatten(2).transpose(1, 2) @ keys / settings.temperature, 2)
    return affinity @ F.one_hot(levels.flatten(1), settings.levels).to(affinity.dtype)


def scored(painted: Tensor, levels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross-entropy and accuracy of probabilities (N, P, L) against levels (N, h, w)."""
    truth = levels.flatten(1)
    right = painted.gather(2, truth[:, :, None])[:, :, 0]
    return -torch.log(right + LEAST).mean(), {"accuracy": (painted.detach().argmax(2) == truth).float().mean()}


def spread(features: Tensor, mask: Tensor, start: int, reach: int, temperature: float) -> Tensor:
    """Carry a mask through a stack: each slice from its neighbour on the side of the first.

    Args:
        features: (S, D, h, w) unit vectors. mask: (H, W) int64 of slice `start`.
        reach: places either way that are compared, of a grid twice as fine as the features.

    Returns:
        (S, H, W) int64.
    """
    classes = int(mask.max()) + 1
    fine = [2 * s for s in features.shape[2:]]
    whole = [s * -(-side // s) for s, side in zip(fine, mask.shape, strict=True)]  # so that blocks are whole
    features = F.normalize(F.interpolate(features, fine, mode="bilinear"), dim=1)
    labels = F.one_hot(mask, classes).permute(2, 0, 1)[None].float()
    held = {start: F.interpolate(labels, whole)}
    for step in (1, -1):
        place = start + step
        while 0 <= place < len(features):
            here, there = features[place, None], features[place - step, None]
            held[place] = carried(here, there, held[place - step], reach, temperature)
            place += step
    return F.interpolate(torch.cat([held[n] for n in range(len(features))]), mask.shape).argmax(1)


def carried(target: Tensor, reference: Tensor, labels: Tensor, reach: int, temperature: float) -> Tensor:
    """Labels of one slice from those of the next: each place takes over, as a block of pixels, what lies at the places
    within `reach` that resemble it. So nothing is lost where nothing moves.

    Args:
        target, reference: (1, D, h, w) unit vectors. labels: (1, classes, H, W), H and W multiples of h and w.

    Returns:
        (1, classes, H, W).
    """
    height, width = target.shape[2:]
    side = 2 * reach + 1
    window = lambda x: F.unfold(x, side, padding=reach).view(1, x.shape[1], side**2, height * width)  # noqa: E731
    there = window(torch.ones_like(target[:, :1]))[:, 0] > 0
    similar = (window(reference) * target.flatten(2)[:, :, None]).sum(1) / temperature
    affinity = torch.softmax(similar.masked_fill(~there, -torch.inf), 1)
    block = labels.shape[2] // height
    blocks = F.pixel_unshuffle(labels, block)
    moved = (window(blocks) * affinity[:, None]).sum(2)
    return F.pixel_shuffle(moved.view(1, -1, height, width), block)
