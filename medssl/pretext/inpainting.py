"""Inpainting: fill in what was cut out (Pathak 2016, "Context encoders: feature learning by inpainting").

A part of the image is hidden behind the mean of what stays visible, and a light decoder on the encoder's coarsest
features paints it; only hidden pixels count. What is hidden: blocks of a grid, at random (the paper's random regions,
as blocks), the middle, or all but the middle (out-painting). There are no skip connections from finer levels: they
would carry the edges around the encoder's last stages, and it is those that transfer.

With `adversarial` a discriminator learns to tell painted images from real ones and the painter to fool it: the loss is
then (1 - adversarial) x reconstruction + adversarial x fooling, as the paper's equation 3, whose weight is .001. The
discriminator has an optimizer of its own, at a tenth of the rate (section 4), and neither player's gradient reaches
the other.

Shortcuts and how they are closed:
- A block copied from its surroundings by blurring. Large blocks (an eighth of the side, half of them hidden) leave
  holes that interpolation cannot fill; `cells: 32` opens it.
- In the middle, what lies along one fixed border is all that counts, and features that look there transfer less
  (section 4): blocks at random places are the default.
- The discriminator finds the seam between the real and the painted part. It is shown what the decoder paints for the
  whole image and never a mixture with real pixels (section 3.2).
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call

from medssl.augment import RowGenerator
from medssl.config import View
from medssl.encoders import Encoder
from medssl.encoders.resnet import CONV, norm_layer
from medssl.errors import UserError
from medssl.pretext.base import Batch, MakeOptimizer, PretextTask, TaskSettings, weight_decay_groups
from medssl.pretext.decoder import decoder_of
from medssl.pretext.pictures import Picture, pictures

SLOWER = 0.1  # rate of the discriminator, of the painter's


class Settings(TaskSettings):
    """
    Attributes:
        region: what is hidden: random `blocks` of a grid, the `middle`, or all `around` the middle.
        cells: with `blocks`, the image is divided into cells x cells of them (a volume into cells x cells x cells).
        hidden: share of the image that is hidden. The paper hides .25 in the middle.
        adversarial: weight of the adversarial loss; 0 trains without an adversary. The paper's is .001.
        width: channels of the decoder.
    """

    region: Literal["blocks", "middle", "around"] = "blocks"
    cells: Annotated[int, Field(ge=2)] = 8
    hidden: Annotated[float, Field(gt=0, lt=1)] = 0.5
    adversarial: Annotated[float, Field(ge=0, lt=1)] = 0.0
    width: Annotated[int, Field(ge=8)] = 64


class Inpainting(PretextTask):
    name = "inpainting"
    paper = "Pathak, Krähenbühl, Donahue, Darrell, Efros 2016, arXiv:1604.07379"
    line = "paint the blocks that were cut out of an image"
    Settings = Settings
    dims = (2, 3)
    compares = False

    def __init__(self, encoder: Encoder, settings: Any, view: View, modality: str = "") -> None:
        super().__init__(encoder, settings, view, modality)
        if settings.region == "blocks" and settings.cells > view.size:
            raise UserError(f"{settings.cells} cells do not fit {view.size} pixels", "inpainting.cells")
        self.decoder = decoder_of(encoder, settings.width, view)
        if settings.adversarial:
            self.discriminator = discriminator(view)
        self.plan = self.views(blur=0.0, noise=0.0, cutout=0.0)

    def loss(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, dict[str, Tensor]]:
        target, seen, hidden = self.puzzle(batch, generator)
        painted = self.decoder(self.pyramid(seen)[-1], target.shape[2:])
        error = masked_error(painted.float(), target, hidden)
        weight = self.settings.adversarial
        if not weight:
            return error, {}
        fixed = {name: p.detach() for name, p in self.discriminator.named_parameters()}
        fooled = F.softplus(-functional_call(self.discriminator, fixed, painted).float()).mean()
        real, false = self.discriminator(torch.cat([target, painted.detach().to(target.dtype)])).float().chunk(2)
        told = (F.softplus(-real).mean() + F.softplus(false).mean()) / 2  # for the discriminator alone
        right = ((real > 0).float().mean() + (false <= 0).float().mean()) / 2
        metrics = {"error": error.detach(), "discriminator_accuracy": right.detach()}
        return (1 - weight) * error + weight * fooled + told, metrics

    def floor(self, batch: Batch, generator: RowGenerator) -> dict[str, float]:
        """Every hidden pixel the mean of the visible ones, and a discriminator that cannot tell."""
        target, seen, hidden = self.puzzle(batch, generator)
        error, weight = float(masked_error(seen, target, hidden)), self.settings.adversarial
        if not weight:
            return {"loss": error}
        loss = (1 - weight) * error + (1 + weight) * math.log(2)
        return {"loss": loss, "error": error, "discriminator_accuracy": 0.5}

    def show(self, batch: Batch, generator: RowGenerator) -> list[Picture]:
        target, seen, painted = self.painted(batch, generator)
        return pictures((target, "image"), (seen, "seen"), (painted, "painted"))

    def made(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, Tensor]:
        image, _, painted = self.painted(batch, generator)
        return image, painted

    def judge(self, images: Tensor) -> Tensor | None:
        return self.discriminator(images)[:, 0] if self.settings.adversarial else None

    def painted(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, Tensor, Tensor]:
        """The image, the image with holes, and the image with what is painted there, (N, C, *spatial) each."""
        target, seen, hidden = self.puzzle(batch, generator)
        painted = self.decoder(self.pyramid(seen)[-1], target.shape[2:]).float()
        return target, seen, torch.where(hidden, painted, target)

    def optimizers(self, learning_rate: float, make: MakeOptimizer = torch.optim.AdamW) -> list[torch.optim.Optimizer]:
        if not self.settings.adversarial:
            return super().optimizers(learning_rate, make)
        judge = set(self.discriminator.parameters())
        painter = [p for p in self.parameters() if p not in judge]
        players = (painter, learning_rate), ([*self.discriminator.parameters()], SLOWER * learning_rate)
        return [make(weight_decay_groups(part, self.weight_decay), lr=rate) for part, rate in players]

    def puzzle(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, Tensor, Tensor]:
        """The whole image, the image with holes, and where the holes are: (N, 1, *spatial) bool."""
        s = self.settings
        target = self.new_view(batch.images, self.plan, generator)
        size = target.shape[2:]
        if s.region == "blocks":
            hidden = holes(generator, s.cells, s.hidden, size)
        else:
            inside = middle(s.hidden if s.region == "middle" else 1 - s.hidden, size).to(target.device)
            hidden = (inside if s.region == "middle" else ~inside).expand(len(target), 1, *size)
        visible = (target * ~hidden).flatten(2).sum(2) / (~hidden).flatten(2).sum(2).clamp_min(1)
        return target, torch.where(hidden, visible.view(*visible.shape, *[1] * (target.ndim - 2)), target), hidden


def holes(generator: RowGenerator, cells: int, share: float, size: torch.Size) -> Tensor:
    """(N, 1, *size) bool: in each row the same number of blocks of a grid of `cells` a side, at random places."""
    total = cells ** len(size)
    count = min(max(1, round(share * total)), total - 1)
    chosen = generator.order(total).argsort(1) < count  # rank below count
    grid = chosen.view(-1, 1, *[cells] * len(size))
    return F.interpolate(grid.float(), size, mode="nearest") > 0.5


def middle(share: float, size: torch.Size) -> Tensor:
    """size bool: the box about the centre that takes `share` of the image, a pixel a side at least and never all."""
    inside = torch.ones(size, dtype=torch.bool)
    for axis, length in enumerate(size):
        side = min(max(1, round(share ** (1 / len(size)) * length)), length - 1)
        places = torch.arange(length) - (length - side) // 2
        inside &= ((places >= 0) & (places < side)).view(*[length if a == axis else 1 for a in range(len(size))])
    return inside


def masked_error(painted: Tensor, target: Tensor, hidden: Tensor) -> Tensor:
    """Mean squared error over hidden pixels alone."""
    return (((painted - target) ** 2) * hidden).sum() / (hidden.sum() * target.shape[1])


def discriminator(view: View) -> nn.Sequential:
    """One number an image, above 0 for a real one: three convolutions of stride 2, as DCGAN's (Radford 2016), narrow.

    Normalised by groups: statistics of a batch of painted images would tell it what no single image does.
    """
    conv, widths = CONV[view.spatial_dims], (view.channels, 32, 64, 128)
    body: list[nn.Module] = []
    for inputs, width in pairwise(widths):
        body += [conv(inputs, width, 4, 2, padding=1), norm_layer("group", view.spatial_dims, width), nn.LeakyReLU(0.2)]
    pool = {2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}[view.spatial_dims](1)
    return nn.Sequential(*body, pool, nn.Flatten(), nn.Linear(widths[-1], 1))
