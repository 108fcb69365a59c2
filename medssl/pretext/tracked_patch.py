"""Tracked patch: a patch that was followed through neighbouring slices is nearer to where it began than to any other
(Wang and Gupta 2015, "Unsupervised learning of visual representations using videos"; slices stand in for frames).

A patch with much to see is chosen in the first slice and followed by normalised cross-correlation, each slice from the
one before, as the paper follows its own with a correlation filter. First and last patch are a pair; the ranking loss
(section 4.2, equation 2) wants their cosine distance smaller by a margin than that to negatives, which are drawn at
random at first and are the hardest of the batch later (section 4.3). Patches of the same patient are no negatives,
except for the one named below. Tracks whose correlation falls too low at any step are lost and count nothing.

Shortcuts and how they are closed:
- A scan betrays itself by brightness, contrast and noise, and all pairs come from one scan. Each pair has a negative
  from elsewhere in its own last slice, which shares all of that; `within: false` opens this one. And each patch is
  standardised and seen in a view of its own.
- The same pixels on both sides, where slices lie closely: pairs are several slices apart.
The paper also wants patches that move, so that a pair differs. Between slices all that differs is shape; a pair that
is the same at both ends teaches little and does no harm.
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
from medssl.errors import UserError
from medssl.pretext.base import Batch, PretextTask, TaskSettings
from medssl.pretext.heads import mlp
from medssl.pretext.pictures import Picture, pictures
from medssl.pretext.processes import gather
from medssl.pretext.questions import Question, few, pictured
from medssl.pretext.tiles import standardised

CANDIDATES = 16  # places that are drawn, for the patch and for the one elsewhere
WARM = 0.3  # share of the steps with random negatives
FLAT = 1e-3  # length of a patch, its mean taken away, under which it shows nothing
NEARER = 1e-4  # correlation that a pixel of movement costs, so that nothing moves without a reason


class Settings(TaskSettings):
    """
    Attributes:
        slices: neighbouring slices through which a patch is followed.
        patch: its side, as a share of the image's.
        reach: how far it may move from one slice to the next, as a share of the image's side.
        least: correlation under which a track is lost.
        negatives: patches that each pair is compared with, the one elsewhere in its slice not counted. The paper's 4.
        margin: of the ranking loss, in cosine distance. The paper's .5.
        within: each pair has a negative from elsewhere in its own slice.
        projection: width of the vectors whose distances count.
    """

    slices: Annotated[int, Field(ge=2)] = 4
    patch: Annotated[float, Field(gt=0, lt=1)] = 0.4
    reach: Annotated[float, Field(ge=0, lt=0.5)] = 0.06
    least: Annotated[float, Field(ge=-1, le=1)] = 0.5
    negatives: Annotated[int, Field(ge=1)] = 4
    margin: Annotated[float, Field(gt=0)] = 0.5
    within: bool = True
    projection: Annotated[int, Field(ge=2)] = 128


class TrackedPatch(PretextTask):
    name = "tracked_patch"
    paper = "Wang, Gupta 2015, arXiv:1505.00687"
    line = "tell a patch that was followed through slices from any other"
    question = "Which of these patches is the framed one, some slices further on?"
    Settings = Settings
    sampling = "stack"
    compares = True

    past: Tensor

    def __init__(self, encoder: Encoder, settings: Any, view: View, modality: str = "") -> None:
        super().__init__(encoder, settings, view, modality)
        self.size = max(2, round(settings.patch * view.size))
        self.reach = max(1, round(settings.reach * view.size))
        self.check_field("a patch", self.size)
        if self.size + 2 * self.reach > view.size:
            raise UserError(
                f"a patch of {self.size} pixels that may move by {self.reach} does not fit {view.size} pixels",
                "tracked_patch",
                "Lower patch or reach.",
            )
        self.projection = mlp(encoder.embed_dim, encoder.embed_dim, settings.projection, 2, last_norm=False)
        self.plan = self.views(crop=(0.7, 1.0), cutout=0.0)
        self.register_buffer("past", torch.zeros(()))  # share of the steps that are done; saved with the state
        self.followed: Tensor | None = None

    @classmethod
    def group_size(cls, settings: Any) -> int:
        return settings.slices

    def inputs(self, batch: Batch, generator: RowGenerator) -> Tensor:
        """(3 * N, C, patch, patch): where the tracks begin, where they end, and elsewhere in the last slice."""
        patches, self.followed = self.puzzle(batch, generator)
        if not self.settings.within:
            patches = patches[:, :2]
        patches = standardised(patches)
        return torch.cat([self.new_view(x, self.plan, generator) for x in patches.unbind(1)])

    def loss_of(self, embeddings: Tensor, batch: Batch, generator: RowGenerator) -> tuple[Tensor, dict[str, Tensor]]:
        assert self.followed is not None
        z = self.projection(embeddings).float()
        with torch.autocast(z.device.type, enabled=False):
            parts = list(F.normalize(z, dim=1).chunk(3 if self.settings.within else 2))
            hard = self.past >= WARM
            return ranked(parts, batch.patient, self.followed, hard, self.settings, generator)

    def floor(self, batch: Batch, generator: RowGenerator) -> dict[str, float]:
        """All distances equal. Accuracy: as often as one of all patches that a pair is compared with."""
        followed = self.puzzle(batch, generator)[1].float()
        others = (batch.patient[:, None] != batch.patient).sum(1).float() + self.settings.within
        accuracy = ((followed / (1 + others)).sum() / followed.sum().clamp_min(1)).item()
        floor = {"loss": self.settings.margin * followed.mean().item(), "accuracy": accuracy}
        return floor | ({"accuracy_within": 0.5} if self.settings.within else {})

    def after_step(self, step: int, steps: int) -> None:
        self.past.fill_((step + 1) / steps)

    def show(self, batch: Batch, generator: RowGenerator) -> list[Picture]:
        places, least = self.tracks(batch.images, generator)
        first, last = (outlined(batch.images[:, k], places[:, k], self.size) for k in (0, -1))
        z = F.normalize(self.projection(self.embed(self.inputs(batch, generator))).float(), dim=1)
        begin, end = z.chunk(3 if self.settings.within else 2)[:2]
        found = (begin @ end.T).argmax(1).tolist()
        ends = windows(batch.images[:, -1], places[:, -1], self.size)
        said = [f"found again: {'right' if row == at else 'wrong'}" for row, at in enumerate(found)]
        followed = [f"followed to here (correlation {x:.2f})" for x in least.tolist()]
        return pictures((first, "patch in the first slice"), (last, followed), (ends[found], said))

    def ask(self, batch: Batch, generator: RowGenerator) -> list[Question]:
        places, least = self.tracks(batch.images, generator)
        z = F.normalize(self.projection(self.embed(self.inputs(batch, generator))).float(), dim=1)
        begin, end = z.chunk(3 if self.settings.within else 2)[:2]
        chosen, place, said = few(begin @ end.T, torch.arange(len(end), device=end.device), generator)
        ends = windows(batch.images[:, -1], places[:, -1], self.size)
        first = outlined(batch.images[:, 0], places[:, 0], self.size)
        return pictured([(first, "first slice")], ends[chosen], place, said, least >= self.settings.least)

    def puzzle(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, Tensor]:
        """Begin, end and elsewhere, (N, 3, C, patch, patch), and which tracks were not lost, (N,) bool."""
        images, size = batch.images, self.size
        places, least = self.tracks(images, generator)
        drawn = candidates(images, size, generator)
        distance = (drawn - places[:, -1, None]).abs().amax(2)
        elsewhere = drawn[torch.arange(len(drawn), device=drawn.device), distance.argmax(1)]
        ends = (images[:, 0], places[:, 0]), (images[:, -1], places[:, -1]), (images[:, -1], elsewhere)
        return torch.stack([windows(x, at, size) for x, at in ends], 1), least >= self.settings.least

    def tracks(self, images: Tensor, generator: RowGenerator) -> tuple[Tensor, Tensor]:
        """Of stacks (N, K, C, H, W): corners of the followed patches (N, K, 2), and each track's least correlation."""
        with torch.autocast(images.device.type, enabled=False):
            drawn = candidates(images, self.size, generator)
            seen = torch.stack([windows(images[:, 0], at, self.size).flatten(1).std(1) for at in drawn.unbind(1)], 1)
            place = drawn[torch.arange(len(drawn), device=drawn.device), seen.argmax(1)]
            return track(images, place, self.size, self.reach)


def track(images: Tensor, place: Tensor, size: int, reach: int) -> tuple[Tensor, Tensor]:
    """Follow a patch from the first slice on, each time to where it correlates best with the slice before.

    Args:
        images: (N, K, C, H, W) with H, W of at least size + 2 * reach.
        place: (N, 2) rows and columns of the patch's upper left corner in the first slice.

    Returns:
        (N, K, 2) corners, and (N,) the least normalised cross-correlation of each track.
    """
    limits = torch.tensor(images.shape[3:], device=images.device) - size - 2 * reach
    steps = torch.arange(2 * reach + 1, device=images.device)
    grid = torch.cartesian_prod(steps, steps)
    places, least = [place], torch.ones(len(images), device=images.device)
    for before, here in zip(images.unbind(1), images[:, 1:].unbind(1), strict=False):
        corner = torch.minimum((place - reach).clamp_min(0), limits)
        found = correlation(windows(before, place, size), windows(here, corner, size + 2 * reach))
        moved = (corner[:, None] + grid - place[:, None]).abs().amax(2)
        best = (found - NEARER * moved).masked_fill(moved > reach, -torch.inf).argmax(1)
        place = corner + grid[best]
        least = torch.minimum(least, found.gather(1, best[:, None])[:, 0])
        places.append(place)
    return torch.stack(places, 1), least


def ranked(
    parts: list[Tensor], patient: Tensor, followed: Tensor, hard: Tensor, s: Settings, generator: RowGenerator
) -> tuple[Tensor, dict[str, Tensor]]:
    """The ranking loss over all processes' patches.

    Args:
        parts: unit vectors (N, D) of begin, end and, with `within`, elsewhere.
        patient: (N,); ends of the same patient are no negatives.
        followed: (N,) bool; lost tracks give no loss, and their ends no negatives.
        hard: () bool, whether the nearest negatives are taken, or else random ones.

    Returns:
        The mean over stacks, and over followed pairs how often the end is nearer than all negatives, and than the one
        elsewhere in its slice.
    """
    begin, end = parts[:2]
    keys, whose, there = gather(end)[0], gather(patient)[0], gather(followed.to(end.dtype))[0] > 0
    distance = 1 - begin @ keys.T
    allowed = (patient[:, None] != whose) & there
    own = 1 - (begin * end).sum(1)
    free = torch.where(hard, distance.detach(), generator.uniform(len(keys))).masked_fill(~allowed, torch.inf)
    rank, chosen = free.topk(min(s.negatives, len(keys)), 1, largest=False)
    hinge = F.relu(own[:, None] - distance.gather(1, chosen) + s.margin) * rank.isfinite()
    count, weight = rank.isfinite().sum(1), followed.to(own.dtype)
    nearest = distance.detach().masked_fill(~allowed, torch.inf).amin(1)
    metrics = {}
    total = hinge.sum(1)
    if s.within:
        elsewhere = 1 - (begin * parts[2]).sum(1)
        total, count = total + F.relu(own - elsewhere + s.margin), count + 1
        nearest = torch.minimum(nearest, elsewhere.detach())
        metrics["accuracy_within"] = _share(own < elsewhere, weight)
    metrics |= {"accuracy": _share(own < nearest, weight), "followed": weight.mean()}
    return (weight * total / count.clamp_min(1)).mean(), metrics


def windows(images: Tensor, corner: Tensor, size: int) -> Tensor:
    """(N, C, size, size) of images (N, C, H, W), each with its upper left corner at its own (N, 2) row and column."""
    span = torch.arange(size, device=images.device)
    rows = torch.arange(len(images), device=images.device).view(-1, 1, 1, 1)
    channels = torch.arange(images.shape[1], device=images.device).view(1, -1, 1, 1)
    down, across = (corner[:, axis, None] + span for axis in (0, 1))
    return images[rows, channels, down[:, None, :, None], across[:, None, None, :]]


def candidates(images: Tensor, size: int, generator: RowGenerator) -> Tensor:
    """(N, CANDIDATES, 2): random corners of patches that lie inside images (N, K, C, H, W)."""
    sides = [generator.integers(length - size + 1, CANDIDATES) for length in images.shape[3:]]
    return torch.stack(sides, 2)


def correlation(pattern: Tensor, field: Tensor) -> Tensor:
    """Normalised cross-correlation of patterns (N, C, s, s) with all W places of fields (N, C, *larger) that they fit:
    (N, W), 0 where nothing varies."""
    size, share = pattern.shape[-1], float(pattern[0].numel())
    centred = pattern.flatten(1) - pattern.flatten(1).mean(1, keepdim=True)
    length = centred.norm(dim=1, keepdim=True)
    products = torch.bmm(centred[:, None], F.unfold(field, size))[:, 0]  # the places' means fall out: centred sums to 0
    exact = field.double()  # a variance that is a difference of sums needs the digits
    total, squares = (boxes(x.sum(1), size).flatten(1) for x in (exact, exact.square()))
    lengths = length * (squares - total.square() / share).clamp_min(0).sqrt().to(length.dtype)
    return torch.where((length > FLAT) & (lengths > FLAT * length), products / lengths.clamp_min(FLAT**2), 0.0)


def boxes(x: Tensor, size: int) -> Tensor:
    """Sums over all squares of so many pixels in (N, H, W), rows first and then columns."""
    return size**2 * F.avg_pool2d(F.avg_pool2d(x, (size, 1), 1), (1, size), 1)


def outlined(images: Tensor, corner: Tensor, size: int) -> Tensor:
    """Images (N, C, H, W) with a white frame of a pixel about a patch."""
    out = images.clone()
    for row, (top, left) in enumerate(corner.tolist()):
        inside = slice(top + 1, top + size - 1), slice(left + 1, left + size - 1)
        kept = out[row, :, inside[0], inside[1]].clone()
        out[row, :, top : top + size, left : left + size] = 1.0
        out[row, :, inside[0], inside[1]] = kept
    return out


def _share(right: Tensor, weight: Tensor) -> Tensor:
    return (right * weight).sum() / weight.sum().clamp_min(1)
