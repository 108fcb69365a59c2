"""Spotting artifacts: tell an image with damaged features from a whole one, and say where the damage lies (Jenni and
Favaro 2018, "Self-supervised feature learning by learning to spot artifacts").

Three players, each with an optimizer of its own. An autoencoder learns to copy images. Half of the places of its
features are dropped and filled with the mean of their neighbourhood; a repair network, a layer beside each layer of the
decoder, corrects the dropped places alone (section 3.2) so that the decoded image passes for a whole one. The encoder
is the discriminator: it tells whole from damaged images (equation 3) and predicts which places were dropped
(equation 4). The mask is predicted from the coarsest features, the ones that transfer.

Differences from the paper, for two CPU cores: the autoencoder is trained beside the others, in place of ahead of them,
with features at an eighth of the side; and the repair network gets the discriminator's gradient reversed, of both its
answers, in the pass that the discriminator has anyway (Ganin 2015), in place of a pass of its own.

Shortcuts and how they are closed:
- The decoder's own traces (blur, grid) tell damaged images from real ones. Whole images are decoded too, from their
  undamaged features (section 3.1); `decoded: false` opens this one.
- Damage that any gap betrays, without an idea of what should be there. Features are dropped at an eighth of the side,
  so that what is missing is a part and no texture, and the repair network learns to hide the rest. That is a matter of
  degree, which no test can settle.
- Gray levels that no image has: the repair network finds some that fool the discriminator for a moment, and when these
  are found out, nothing is left of its gradient to bring it back. So the repaired image is also drawn towards the whole
  one, as that of a context encoder is (Pathak 2016); `likeness: 0` opens this one, and damage is found at once.
- Statistics of the batch or of the whole image that a normalisation carries from the damage to everywhere: autoencoder
  and repair network have none.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call

from medssl.augment import RowGenerator
from medssl.config import View
from medssl.encoders import Encoder
from medssl.encoders.resnet import CONV
from medssl.pretext.base import Batch, MakeOptimizer, PretextTask, TaskSettings, weight_decay_groups
from medssl.pretext.decoder import PixelShuffle, blank_error
from medssl.pretext.pictures import Picture, pictures
from medssl.pretext.questions import Question, which_is_real

STRIDE = 8  # of the autoencoder's features
REACH = 2  # places on each side whose mean fills a dropped one
POOL = {2: F.avg_pool2d, 3: F.avg_pool3d}


class Settings(TaskSettings):
    """
    Attributes:
        dropped: share of the places of the features that are dropped.
        mask: weight of the prediction of what was dropped.
        likeness: weight of the repaired image's squared distance to the whole one, for the repair network.
        width: channels of the autoencoder's features.
        decoded: whole images are decoded from their features as damaged ones are.
    """

    dropped: Annotated[float, Field(gt=0, lt=1)] = 0.5
    mask: Annotated[float, Field(ge=0)] = 1.0
    likeness: Annotated[float, Field(ge=0)] = 1000.0
    width: Annotated[int, Field(ge=8)] = 64
    decoded: bool = True


class Artifacts(PretextTask):
    name = "artifacts"
    paper = "Jenni, Favaro 2018, arXiv:1806.05024"
    line = "tell images with damaged features from whole ones, and where the damage lies"
    question = "One of these was damaged and repaired. Which one is whole?"
    Settings = Settings
    dims = (2, 3)
    smallest = 3 * STRIDE
    compares = False

    def __init__(self, encoder: Encoder, settings: Any, view: View, modality: str = "") -> None:
        super().__init__(encoder, settings, view, modality)
        dims, width = view.spatial_dims, settings.width
        self.coder = coder(dims, view.channels, width)
        self.decoder = Decoder(dims, width, view.channels)
        self.repair = Repair(dims, width)
        finer = max(1, encoder.strides[-1] // STRIDE)
        self.whole = nn.Linear(encoder.channels[-1], 1)
        self.where = nn.Sequential(CONV[dims](encoder.channels[-1], finer**dims, 1), PixelShuffle(finer))
        self.plan = self.views(blur=0.0, noise=0.0, cutout=0.0)

    def loss(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, dict[str, Tensor]]:
        images, copied, damaged, gone = self.puzzle(batch, generator)
        error = F.mse_loss(copied.float(), images)
        left = F.mse_loss(damaged.float(), images)  # only the repair network made what is damaged
        whole = copied.detach() if self.settings.decoded else images.to(copied.dtype)
        answers, places = self.judged(torch.cat([whole, Reversed.apply(damaged)]), gone.shape[2:])
        truth = torch.arange(len(answers), device=answers.device) < len(images)
        told = F.binary_cross_entropy_with_logits(answers, truth.float())
        marks = torch.cat([torch.zeros_like(gone), gone])
        found = F.binary_cross_entropy_with_logits(places, marks.float())
        metrics = {
            "accuracy": ((answers.detach() > 0) == truth).float().mean(),
            "mask_accuracy": ((places.detach() > 0) == marks).float()[len(images) :].mean(),
            "autoencoder": error.detach(),
            "repaired": left.detach(),
        }
        return told + self.settings.mask * found + error + self.settings.likeness * left, metrics

    def floor(self, batch: Batch, generator: RowGenerator) -> dict[str, float]:
        """A discriminator that cannot tell, an equal chance of damage everywhere, and images of their mean alone."""
        images = self.new_view(batch.images, self.plan, generator)
        blank, share = blank_error(images), self.settings.dropped / 2  # half of the images are whole
        mask = -share * math.log(share) - (1 - share) * math.log1p(-share)
        loss = math.log(2) + self.settings.mask * mask + (1 + self.settings.likeness) * blank
        often = max(self.settings.dropped, 1 - self.settings.dropped)
        return {"loss": loss, "accuracy": 0.5, "mask_accuracy": often, "autoencoder": blank, "repaired": blank}

    def optimizers(self, learning_rate: float, make: MakeOptimizer = torch.optim.AdamW) -> list[torch.optim.Optimizer]:
        players = [self.encoder, self.whole, self.where], [self.repair], [self.coder, self.decoder]
        parts = [[p for module in player for p in module.parameters()] for player in players]
        return [make(weight_decay_groups(part, self.weight_decay), lr=learning_rate) for part in parts]

    def show(self, batch: Batch, generator: RowGenerator) -> list[Picture]:
        images, copied, damaged, gone = self.puzzle(batch, generator)
        answers, places = self.judged(torch.cat([copied, damaged]), gone.shape[2:])
        chance = [f"{100 * x:.0f} % whole" for x in answers.sigmoid().tolist()]
        large = [F.interpolate(x.float(), images.shape[2:]) for x in (places[len(images) :].sigmoid(), gone)]
        return pictures(
            (images, "image"),
            (copied, [f"decoded: {x}" for x in chance[: len(images)]]),
            (damaged, [f"damaged: {x}" for x in chance[len(images) :]]),
            (large[0], "damage, as found"),
            (large[1], "damage"),
        )

    def ask(self, batch: Batch, generator: RowGenerator) -> list[Question]:
        """Which is whole? Both are decoded, so that the decoder's traces tell nothing."""
        _, copied, damaged, gone = self.puzzle(batch, generator)
        answers, _ = self.judged(torch.cat([copied, damaged]), gone.shape[2:])
        return which_is_real(copied, damaged, answers, generator)

    def puzzle(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Images, their copies, the damaged ones, and where these are damaged (N, 1, *small) bool."""
        images = self.new_view(batch.images, self.plan, generator)
        code = self.coder(images)
        gone = self.drawn(code, generator)
        damaged = self.damaged(code.detach(), gone, images.shape[2:])
        return images, self.decoder(code, images.shape[2:]), damaged, gone

    def judged(self, images: Tensor, size: torch.Size) -> tuple[Tensor, Tensor]:
        """The discriminator's answers: (M,), above 0 for whole images; (M, 1, *size), above 0 for damaged places."""
        features = self.pyramid(images)[-1]
        places = self.where(features).float()
        places = places if places.shape[2:] == size else F.interpolate(places, size)
        return self.whole(features.flatten(2).mean(2)).float()[:, 0], places

    def drawn(self, code: Tensor, generator: RowGenerator) -> Tensor:
        """(N, 1, *small) bool: which places are dropped, the same number in each row."""
        total = code[0, 0].numel()
        count = min(max(1, round(self.settings.dropped * total)), total - 1)
        return (generator.order(total).argsort(1) < count).view(len(code), 1, *code.shape[2:])

    def damaged(self, code: Tensor, gone: Tensor, size: torch.Size) -> Tensor:
        """Images (N, C, *size) of features (N, width, *small) of which places are gone, as far as they are repaired.

        The decoder's weights are taken as they are: its own lesson is to copy.
        """
        kept, pool = (~gone).to(code.dtype), POOL[code.ndim - 2]
        reach = min(REACH, (min(code.shape[2:]) - 1) // 2)
        near = [pool(x, 2 * reach + 1, 1, reach) for x in (code * kept, kept)]
        filled = torch.where(gone, near[0] / near[1].clamp_min(1e-3), code)
        fixed = {name: p.detach() for name, p in self.decoder.named_parameters()}
        return functional_call(self.decoder, fixed, (filled, size, self.repair(gone)))


class Reversed(torch.autograd.Function):
    """The same numbers, with the gradient's sign changed: whoever made them climbs what their reader descends."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return -gradient


def coder(dims: int, channels: int, width: int) -> nn.Sequential:
    """(N, C, *spatial) -> (N, width, *spatial / 8)."""
    conv = CONV[dims]
    return nn.Sequential(
        conv(channels, width // 2, 3, 2, padding=1),
        nn.ReLU(inplace=True),
        conv(width // 2, width, 3, 2, padding=1),
        nn.ReLU(inplace=True),
        conv(width, width, 3, 2, padding=1),
    )


class Decoder(nn.Module):
    """(N, width, *small) -> (N, C, *size), two doublings and a pixel shuffle."""

    def __init__(self, dims: int, width: int, channels: int) -> None:
        super().__init__()
        conv = CONV[dims]
        self.layers = nn.ModuleList([conv(width, width, 3, padding=1), conv(width, width, 3, padding=1)])
        self.last = nn.Sequential(conv(width, channels * 2**dims, 3, padding=1), PixelShuffle(2))

    def forward(self, x: Tensor, size: torch.Size, repairs: Any = None) -> Tensor:
        """`repairs` gives for each layer a function of its input and its output, added before the activation."""
        for number, layer in enumerate(self.layers):
            y = layer(x)
            if repairs is not None:
                y = y + repairs[number](x)
            x = F.interpolate(F.relu(y), scale_factor=2.0, mode="nearest")
        return self.last(x)[(..., *[slice(0, side) for side in size])]


class Repair(nn.Module):
    """A layer beside each one of the decoder, which speaks only where features were dropped (section 3.2)."""

    def __init__(self, dims: int, width: int) -> None:
        super().__init__()
        conv = CONV[dims]
        self.layers = nn.ModuleList(
            nn.Sequential(conv(width, width, 3, padding=1), nn.ReLU(inplace=True), conv(width, width, 3, padding=1))
            for _ in range(2)
        )

    def forward(self, gone: Tensor) -> list[Any]:
        """One function a layer, for features of which these places (N, 1, *small) are gone."""
        marks = [F.interpolate(gone.float(), scale_factor=float(2**n), mode="nearest") for n in range(2)]
        return [
            lambda x, layer=layer, mark=mark: layer(x) * mark.to(x.dtype)
            for layer, mark in zip(self.layers, marks, strict=True)
        ]
