"""Colorization: which colour belongs to each place of a gray image? Two forms.

`ab` (Zhang 2016, "Colorful image colorization"): from the coarsest features, a distribution over bins of a and b of
Lab, for each cell of 4 x 4 pixels; the truth is spread over the five nearest bins; rare colours weigh more, since most
of an image is background; the annealed mean gives one colour. `hypercolumn` (Larsson 2016, "Learning representations
for automatic colorization"): from all levels, histograms of hue and chroma, compared by Kullback-Leibler divergence,
hue as much as there is chroma.

How a gray input goes into an encoder for colour images: L is repeated into all three channels. So the encoder is the
one that downstream work needs (three channels, ImageNet weights if wanted), its checkpoint loads without surgery, and
its filters on an RGB image answer what they learned from L, since they were trained on their sum over the channels.
What the single channels of a filter differ by is never trained; a one-channel encoder would have thrown the colour of
downstream images away instead, and could not start from ImageNet.

Shortcuts and how they are closed:
- L as an exact number gives its colour away: nearly every RGB colour of 8 bits has an L of its own. The input is
  rounded to 256 levels (a test opens this and reads colours from the last digits).
- JPEG keeps chroma at half resolution in blocks of 8 x 8. Asking for means of cells, after a random crop that moves
  and scales the grid of blocks, leaves neither its phase nor its staircase in the answer.
- Chromatic aberration puts coloured fringes on edges, so that an edge's polarity tells their colour: the mean over a
  cell takes most of a fringe of a pixel or two away.
- One stain, or the light of one device, is right nearly everywhere without a look: rebalancing takes its weight, and
  `floor` is what the best single distribution reaches. Changes of colour, contrast and brightness by the views are
  off, because they would make the truth a matter of chance.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from medssl.augment import RowGenerator
from medssl.config import View
from medssl.encoders import Encoder
from medssl.errors import UserError
from medssl.pretext import lab
from medssl.pretext.base import Batch, PretextTask, TaskSettings
from medssl.pretext.pictures import Picture, pictures
from medssl.pretext.reader import Reader, grid_of
from medssl.pretext.soft_bins import Frequencies, best_constant, cross_entropy

NEIGHBOURS, SIGMA = 5, 5.0  # of the soft encoding (Zhang 2016, section 2.2)
HUE_WEIGHT = 5.0  # of the hue's divergence beside the chroma's (Larsson 2016, section 3.2)
GRAY = 1.0  # units of ab: images whose colours all lie nearer to gray have none
INSTEAD = "Colorization learns from colour. For several contrasts or CT windows of one place take 'cross_channel'."


class Settings(TaskSettings):
    """
    Attributes:
        form: `ab` (Zhang 2016) or `hypercolumn` (Larsson 2016).
        cell: pixels a side of a place that is asked for one colour.
        step: of `ab`, side of a bin in units of a and b.
        rebalance: of `ab`, share of the even distribution in the one that weights are taken from: 1 weighs all alike,
            0 would make the rarest colour all that counts.
        temperature: of the annealed mean, with which images are painted.
        bins: of `hypercolumn`, for hue and for chroma.
        width: channels of the head.
    """

    form: Literal["ab", "hypercolumn"] = "ab"
    cell: Annotated[int, Field(ge=1)] = 4
    step: Annotated[float, Field(gt=0)] = 10.0
    rebalance: Annotated[float, Field(gt=0, le=1)] = 0.5
    temperature: Annotated[float, Field(gt=0, le=1)] = 0.38
    bins: Annotated[int, Field(ge=2)] = 32
    width: Annotated[int, Field(ge=8)] = 128


class Colorization(PretextTask):
    name = "colorization"
    paper = "Zhang, Isola, Efros 2016, arXiv:1603.08511; Larsson, Maire, Shakhnarovich 2016, arXiv:1603.06668"
    line = "tell the colours of an image from its lightness"
    Settings = Settings
    channels = (3,)
    compares = False

    def __init__(self, encoder: Encoder, settings: Any, view: View, modality: str = "") -> None:
        super().__init__(encoder, settings, view, modality)
        self.grid = grid_of(view, settings.cell, self.name)
        self.whole = settings.form == "hypercolumn"
        self.bins = torch.empty(0, 2) if self.whole else lab.ab_bins(settings.step)
        self.reader = Reader(encoder, settings.width, 2 * settings.bins if self.whole else len(self.bins), self.whole)
        self.seen = Frequencies(len(self.bins))
        self.plan = self.views(brightness=0.0, contrast=0.0, gamma=0.0, colour=0.0, gray=0.0, blur=0.0, noise=0.0,
                               cutout=0.0)  # fmt: skip

    @classmethod
    def check(cls, view: View) -> None:
        if not view.colour:
            fix = f"For colour images set channels: 3. {INSTEAD}"
            raise UserError("'colorization' needs colour images, and the View is gray", "view.channels", fix)
        super().check(view)

    def loss(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, dict[str, Tensor]]:
        rgb = self.new_view(batch.images, self.plan, generator)
        logits = self.reader(self.pyramid(lightness(rgb)), self.grid).float()
        if self.whole:
            return hue_chroma_loss(logits, *lab.hue_chroma_histograms(rgb, self.settings.bins, self.settings.cell))
        index, weight = self.truth(rgb)
        if self.training:
            self.seen.meet(index, weight)
        accuracy = (logits.detach().argmax(1) == index[..., 0]).float().mean()
        importance = self.seen.importance(self.settings.rebalance)[index[..., 0]]
        return cross_entropy(logits, index, weight, importance), {"accuracy": accuracy}

    def floor(self, batch: Batch, generator: RowGenerator) -> dict[str, float]:
        """The best one distribution for all places of the batch.

        Raises:
            UserError: the images have three channels and no colour.
        """
        if float(lab.rgb_to_lab(batch.images)[:, 1:].abs().amax()) < GRAY:
            raise UserError(
                "'colorization' needs colour images, and these are gray in three channels", "cohort", INSTEAD
            )
        rgb = self.new_view(batch.images, self.plan, generator)
        if not self.whole:
            index, weight = self.truth(rgb)
            seen = Frequencies(len(self.bins)).to(index.device)
            seen.meet(index, weight)
            seen.settle()
            return best_constant(index, weight, seen.importance(self.settings.rebalance)[index[..., 0]], len(self.bins))
        hue, chroma, amount = lab.hue_chroma_histograms(rgb, self.settings.bins, self.settings.cell)
        one_hue = (hue * amount[:, None]).mean((0, 2, 3), keepdim=True)
        constant = torch.cat([one_hue / one_hue.sum().clamp_min(1e-6), chroma.mean((0, 2, 3), keepdim=True)], 1)
        logits = constant.clamp_min(1e-9).log().expand(len(rgb), -1, *self.grid)
        loss, metrics = hue_chroma_loss(logits, hue, chroma, amount)
        return {"loss": float(loss), **{name: float(value) for name, value in metrics.items()}}

    def after_step(self, step: int, steps: int) -> None:
        self.seen.settle()

    def show(self, batch: Batch, generator: RowGenerator) -> list[Picture]:
        rgb = self.new_view(batch.images, self.plan, generator)
        return pictures((lightness(rgb), "seen"), (self.recolored(rgb), "answer"), (rgb, "truth"))

    def made(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, Tensor]:
        rgb = self.new_view(batch.images, self.plan, generator)
        return rgb, self.recolored(rgb)

    @torch.no_grad()
    def recolored(self, rgb: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1]: the lightness of these images in the colours that the network gives them."""
        logits = self.reader(self.pyramid(lightness(rgb)), self.grid).float()
        light = lab.rgb_to_lab(rgb)[:, :1]
        if not self.whole:
            ab = lab.annealed_mean(logits, self.bins.to(logits), self.settings.temperature)
            ab = F.interpolate(ab, rgb.shape[2:], mode="bilinear")
            return lab.lab_to_rgb(torch.cat([light, ab], 1))
        hue, chroma = (part.softmax(1) for part in logits.chunk(2, 1))
        middle = (torch.arange(self.settings.bins, device=rgb.device) + 0.5)[:, None] / self.settings.bins
        amount = torch.einsum("nkhw,kd->ndhw", chroma, middle)
        amount = F.interpolate(amount, rgb.shape[2:], mode="bilinear")[:, 0]
        direction = F.interpolate(hue, rgb.shape[2:], mode="bilinear")
        return lab.hue_chroma_to_rgb(lab.circular_mean(direction), amount, light[:, 0])

    @torch.no_grad()
    def truth(self, rgb: Tensor) -> tuple[Tensor, Tensor]:
        """Bins and weights of the mean a and b of each cell: both (N, *grid, 5)."""
        with torch.autocast(rgb.device.type, enabled=False):
            ab = F.avg_pool2d(lab.rgb_to_lab(rgb)[:, 1:], self.settings.cell)
            return lab.nearest_bins(ab.movedim(1, -1), self.bins.to(ab), NEIGHBOURS, SIGMA)


def lightness(rgb: Tensor) -> Tensor:
    """(N, 3, H, W) in [0, 1]: L of Lab in all three channels, of 256 levels."""
    with torch.autocast(rgb.device.type, enabled=False):
        level = lab.rgb_to_lab(rgb)[:, :1] / 100
        return ((level * 255).round() / 255).clamp(0, 1).expand(-1, 3, -1, -1)


def hue_chroma_loss(logits: Tensor, hue: Tensor, chroma: Tensor, amount: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """KL(chroma) + 5 * mean chroma * KL(hue), a mean over places (Larsson 2016, equation 2), and its two parts.

    Args:
        logits: (N, 2 * K, *grid), hue first.
        hue, chroma: (N, K, *grid), the true histograms.
        amount: (N, *grid), mean chroma.
    """
    of_hue, of_chroma = (
        F.kl_div(part.log_softmax(1), true, reduction="none").sum(1)
        for part, true in zip(logits.chunk(2, 1), (hue, chroma), strict=True)
    )
    hue_part, chroma_part = (amount * of_hue).mean(), of_chroma.mean()
    return chroma_part + HUE_WEIGHT * hue_part, {"hue": hue_part.detach(), "chroma": chroma_part.detach()}
