"""MAE: paint the patches that were hidden, from the few that were not (He 2022, "Masked autoencoders are scalable
vision learners").

The encoder is a transformer that sees the visible patches alone, so a step costs a quarter of one on whole images; a
small decoder gets their tokens, and one learned token at every hidden place, and paints. Only hidden patches count,
each standardised by itself (section 4.1), so that the brightness of a region is not what is learned.

Shortcut: with few patches hidden, a border is copied from next door. Three quarters are hidden.
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from medssl.augment import RowGenerator
from medssl.config import View
from medssl.encoders import Encoder
from medssl.encoders.vit import block, positions
from medssl.errors import UserError
from medssl.pretext.base import Batch, PretextTask, TaskSettings
from medssl.pretext.pictures import Picture, pictures

EPSILON = 1e-4  # of the variance of a patch, in squares of the full range


class Settings(TaskSettings):
    """
    Attributes:
        hidden: share of the patches that the encoder does not see.
        width: of the decoder; each of its heads has 32.
        depth: blocks of the decoder.
        standardise: each hidden patch is painted less its mean, over its deviation.
    """

    hidden: Annotated[float, Field(gt=0, lt=1)] = 0.75
    width: Annotated[int, Field(ge=96, multiple_of=96)] = 96
    depth: Annotated[int, Field(ge=1)] = 2
    standardise: bool = True


class MAE(PretextTask):
    name = "mae"
    paper = "He, Chen, Xie, Li, Dollár, Girshick 2022, arXiv:2111.06377"
    line = "paint the hidden patches of an image from the few visible ones; for transformers"
    Settings = Settings
    collapsible = False
    compares = False
    dims = (2, 3)
    needs_tokens = True

    def __init__(self, encoder: Encoder, settings: Any, view: View, modality: str = "") -> None:
        super().__init__(encoder, settings, view, modality)
        self.grid = torch.Size([view.size // encoder.patch] * view.spatial_dims)
        self.total = self.grid.numel()
        self.count = hidden_count("mae", settings.hidden, self.total)
        width = settings.width
        self.widen = nn.Linear(encoder.embed_dim, width)
        self.blank = nn.Parameter(torch.randn(width) * 0.02)
        self.blocks = nn.ModuleList(block(width, width // 32) for _ in range(settings.depth))
        self.paint = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, view.channels * encoder.patch ** len(self.grid))
        )
        self.plan = self.views(gamma=0.0, blur=0.0, noise=0.0, cutout=0.0)

    def loss(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared error over hidden patches."""
        images, hidden = self.puzzle(batch, generator)
        painted = self.painted(images, hidden)[hidden]
        return nn.functional.mse_loss(painted.float(), self.targets(images)[hidden]), {}

    def floor(self, batch: Batch, generator: RowGenerator) -> dict[str, float]:
        """Every hidden patch painted in its own mean (without standardising, in that of the visible patches), or as the
        other images of the batch are at its place, whichever is nearer: the decoder knows places."""
        images, hidden = self.puzzle(batch, generator)
        targets = self.targets(images)
        plain = torch.zeros(()) if self.settings.standardise else targets[~hidden].view(len(targets), -1).mean(1)
        placed = (targets.sum(0) - targets) / max(1, len(targets) - 1)
        guesses = plain.to(targets.device).view(-1, 1, 1), placed
        return {"loss": min(float((targets - guess)[hidden].square().mean()) for guess in guesses)}

    def show(self, batch: Batch, generator: RowGenerator) -> list[Picture]:
        return pictures(*zip(self.seen(batch, generator), ("image", "seen", "painted"), strict=True))

    def made(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, Tensor]:
        image, _, painted = self.seen(batch, generator)
        return image, painted

    def seen(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, ...]:
        """The image, what is seen of it, and what is painted, (N, C, *spatial) each; standardised patches get their own
        brightness back."""
        images, hidden = self.puzzle(batch, generator)
        patches, painted = patches_of(images, self.encoder.patch), self.painted(images, hidden).float()
        if self.settings.standardise:
            mean, variance = patches.mean(2, keepdim=True), patches.var(2, keepdim=True)
            painted = painted * (variance + EPSILON).sqrt() + mean
        return tuple(
            images_of(torch.where(hidden[:, :, None], values, patches), self.grid, self.encoder.patch)
            for values in (patches, torch.full_like(patches, 0.5), painted)
        )

    def puzzle(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, Tensor]:
        """The images, and which of their patches are hidden, (N, L) bool."""
        images = self.new_view(batch.images, self.plan, generator)
        return images, generator.order(self.total) < self.count

    def painted(self, images: Tensor, hidden: Tensor) -> Tensor:
        """(N, L, C * patch^dims): all patches as the decoder paints them from the visible ones."""
        tokens = self.encoder.tokens(images, hidden)  # type: ignore[operator]
        self.last_embedding = tokens.detach().float().mean(1)
        seen = self.widen(tokens)
        canvas = self.blank.to(seen.dtype).expand(*hidden.shape, -1).clone()
        canvas[~hidden] = seen.flatten(0, 1)
        canvas = canvas + positions(self.grid, self.settings.width, canvas.device)
        for layer in self.blocks:
            canvas = layer(canvas)
        return self.paint(canvas)

    def targets(self, images: Tensor) -> Tensor:
        """(N, L, C * patch^dims): the patches as they shall be painted."""
        patches = patches_of(images, self.encoder.patch)
        if not self.settings.standardise:
            return patches
        mean, variance = patches.mean(2, keepdim=True), patches.var(2, keepdim=True)
        return (patches - mean) / (variance + EPSILON).sqrt()


def hidden_count(name: str, share: float, total: int) -> int:
    """How many of so many patches are hidden.

    Raises:
        UserError: none or all of them.
    """
    count = round(share * total)
    if not 0 < count < total:
        what = "nothing to see" if count else "nothing to paint"
        raise UserError(
            f"hiding {share:g} of {total} patches leaves {what}",
            f"{name}.hidden",
            "Take a share nearer to one half, a larger --size, or smaller patches.",
        )
    return count


def patches_of(images: Tensor, patch: int) -> Tensor:
    """(N, C, *spatial) -> (N, L, C * patch^dims), patches in C-order."""
    rows, channels, *spatial = images.shape
    dims = len(spatial)
    split = images.reshape(rows, channels, *[n for side in spatial for n in (side // patch, patch)])
    places, inner = range(2, 2 + 2 * dims, 2), range(3, 3 + 2 * dims, 2)
    return split.permute(0, *places, 1, *inner).reshape(rows, -1, channels * patch**dims)


def images_of(patches: Tensor, grid: torch.Size, patch: int) -> Tensor:
    """The images of `patches_of`."""
    dims = len(grid)
    split = patches.reshape(len(patches), *grid, -1, *[patch] * dims)
    pairs = [axis for d in range(dims) for axis in (1 + d, 2 + dims + d)]
    return split.permute(0, 1 + dims, *pairs).reshape(len(patches), -1, *[n * patch for n in grid])
