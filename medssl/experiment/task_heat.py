"""Where a pretext task's answer comes from: heat over the pictures that its network was shown.

for row in task_heat(Cohort.open(folder), checkpoint).rows:
    print(row.said, row.captions)

What is explained depends on how the task answers:

- tasks that compare (SimCLR, BYOL, MICLe, ...): the cosine between the projections of the first two pictures of a row;
  PIRL: between those of an image and of its transformed self.
- tasks that choose one of several answers (rotation, jigsaw, slice sorting, ...): the log-probability of the right one.
  Their loss is its negative, so that no task has to know of this file; of several choices at once (rotation with
  `turns: all`) it is the mean.
- tasks that make images, or answer for many places at once, have no single answer. Of a transformer, the roll-out shows
  all the same what the image's vector is gathered from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from medssl.augment import RowGenerator
from medssl.cohort import Cohort
from medssl.encoders import Encoder
from medssl.experiment.attribution import attribution, rolls_out
from medssl.experiment.pictures import HEAT, STRONGEST
from medssl.pretext.base import Batch, PretextTask
from medssl.pretext.combine import Combine
from medssl.pretext.pictures import beside, middle
from medssl.pretext.pirl import PIRL
from medssl.pretext.questions import SAME_IMAGE
from medssl.training.feed import Feed
from medssl.training.loop import FLOOR
from medssl.training.show import restored

FEW = 4  # pictures of a row that stand apart; more are laid into one
SIMILARITY = "similarity of the two"
CHOICE = "probability of the right answer"
GATHERED = "what the image's vector is gathered from"

Embedded = list[tuple[Tensor, Tensor]]  # pictures and their vectors, of each call of the encoder


@dataclass(frozen=True)
class HeatRow:
    """One row of a batch.

    Attributes:
        said: what is explained, of a few words, with its value; "no such slices here" where the scan has no question.
        panels: (3, H, W) float32 in [0, 1] each, pictures with heat over them.
        captions: one a panel.
    """

    said: str
    panels: list[Tensor]
    captions: list[str]


@dataclass(frozen=True)
class TaskHeat:
    """
    Attributes:
        rows: empty where the task has no single answer.
        rolled_out: the heat is attention roll-out, which is the same whatever is answered, and not Grad-CAM.
    """

    rows: list[HeatRow]
    rolled_out: bool


def task_heat(cohort: Cohort, checkpoint: Path, rows: int = 4, seed: int = 0) -> TaskHeat:
    """Heat over what the task of a checkpoint sees, on the scans that `training.show` shows with the same seed.

    Raises:
        UserError: as for `training.show` and `attribution`.
    """
    request, task, _ = restored(cohort, checkpoint, seed)
    samples, sampling, device = request.samples, request.sampling(request.batch), request.fabric.device
    feed = Feed(samples.images, samples.table, request.keep, sampling, device, workers=0, hold=False)
    return heat_of(task, feed(0), seed, rows)


def heat_of(task: PretextTask, batch: Batch, seed: int, rows: int) -> TaskHeat:
    """`task_heat` of a task in eval mode, for the first rows of a batch; `seed` is that of the views."""
    generator = RowGenerator(seed, FLOOR, batch.rows)
    ones = [slice(n, n + 1) for n in range(min(rows, len(batch.rows)))]
    found = [_row(task, batch.part(one), generator.part(one)) for one in ones]
    return TaskHeat([row for row in found if row is not None], rolls_out(task.encoder))


def _row(task: PretextTask, batch: Batch, generator: RowGenerator) -> HeatRow | None:
    """Of a batch of one row, with a generator that has drawn nothing yet; None without a single answer."""
    if isinstance(task, Combine):
        return _joined([(name, _row(part, batch, generator.beside())) for name, part in task._tasks()])
    if task.sampling == "stack" and task.question and not task.ask(batch, _again(generator)):
        return HeatRow("no such slices here", [], [])
    if isinstance(task, PIRL):
        return _answer(task, lambda: task.matched(batch, _again(generator))[2][0], SIMILARITY)
    if task.question == SAME_IMAGE or (task.question and hasattr(task, "projection")):
        return _alike(task, batch, generator)
    if task.question:
        return _answer(task, lambda: -task.loss(batch, _again(generator))[0][None], CHOICE)
    if rolls_out(task.encoder) and task.sampling == "image":
        heat = attribution(task.encoder, lambda features: features.sum(1), batch.images)
        return _drawn(GATHERED, [(batch.images, heat)])
    return None


def _alike(task: PretextTask, batch: Batch, generator: RowGenerator) -> HeatRow | None:
    """Of the first two pictures that `show` embeds."""
    head: Any = getattr(task, "projection", torch.nn.Identity())
    with torch.no_grad(), _recorded(task.encoder) as calls:
        task.show(batch, generator)
    if not calls:
        return None  # it answers for places, not for the image
    seen, features = (x[:2] for x in calls[0])

    def score(vectors: Tensor) -> Tensor:
        return F.cosine_similarity(*head(vectors).float().split(1))

    value = float(score(features).detach())
    return _drawn(f"{SIMILARITY}: {value:.2f}", [(seen, attribution(task.encoder, score, seen))])


def _answer(task: PretextTask, said: Callable[[], Tensor], words: str) -> HeatRow | None:
    """Of a value (1,) that `said` computes from all that it embeds."""
    encoder = task.encoder
    with torch.no_grad(), _recorded(encoder) as calls:
        value = float(said())
    if not calls:
        return None

    def score_of(number: int) -> Callable[[Tensor], Tensor]:
        def score(vectors: Tensor) -> Tensor:
            with _replayed(encoder, [vectors if n == number else known for n, (_, known) in enumerate(calls)]):
                return said()

        return score

    value = math.exp(value) if words == CHOICE else value
    heat = [(seen, attribution(encoder, score_of(n), seen)) for n, (seen, _) in enumerate(calls)]
    return _drawn(f"{words}: {value:.2f}", heat)


def _again(generator: RowGenerator) -> RowGenerator:
    """The same draws once more."""
    return generator.part(slice(None))


@contextmanager
def _recorded(encoder: Encoder) -> Iterator[Embedded]:
    """Keep what the encoder embeds meanwhile."""
    calls: Embedded = []
    embed = encoder.embed

    def kept(x: Tensor) -> Tensor:
        calls.append((x, embed(x)))
        return calls[-1][1]

    with _embedding(encoder, kept):
        yield calls


@contextmanager
def _replayed(encoder: Encoder, vectors: list[Tensor]) -> Iterator[None]:
    """Let the encoder answer with these vectors, one a call."""
    left = iter(vectors)
    with _embedding(encoder, lambda x: next(left)):
        yield


@contextmanager
def _embedding(encoder: Any, embed: Callable[[Tensor], Tensor]) -> Iterator[None]:
    encoder.embed = embed
    try:
        yield
    finally:
        del encoder.embed  # its class's own shows again


def _drawn(said: str, parts: list[tuple[Tensor, Tensor]]) -> HeatRow:
    """Pictures (M, C, *spatial) with their heat (M, 1, *spatial), those of each call of the encoder together."""
    panels: list[Tensor] = []
    for seen, heat in parts:
        shown = warmed(middle(seen), middle(heat))
        panels += [beside(shown[None], math.ceil(math.sqrt(len(shown))))[0]] if len(shown) > FEW else list(shown)
    return HeatRow(said, panels, [said, *[""] * (len(panels) - 1)])


def warmed(images: Tensor, heat: Tensor) -> Tensor:
    """(M, 3, H, W) in [0, 1]: heat (M, 1, H, W), from 0 to 1, laid over images (M, C, H, W) in orange."""
    strength = STRONGEST * heat
    return images.expand(-1, 3, -1, -1) * (1 - strength) + torch.from_numpy(HEAT).view(1, 3, 1, 1) / 255 * strength


def _joined(parts: list[tuple[str, HeatRow | None]]) -> HeatRow | None:
    """The rows of a combination's parts, side by side."""
    found = [(name, row) for name, row in parts if row is not None]
    if not found:
        return None
    captions = [f"{name}: {text}" if text else "" for name, row in found for text in row.captions]
    said = "; ".join(f"{name}: {row.said}" for name, row in found)
    return HeatRow(said, [panel for _, row in found for panel in row.panels], captions)
