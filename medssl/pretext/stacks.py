"""Slices of one stack, chosen by their places in millimetres, for the tasks that ask how slices follow each other.

Slices are drawn evenly over millimetres and not over their numbers: each stands for the stretch of the stack that is
nearest to it. Where slices lie close together none is taken more often for that, and two gaps of a stack differ for no
reason but chance, so that uneven spacing tells nothing.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import AfterValidator, Field
from torch import Tensor

from medssl.augment import RowGenerator
from medssl.errors import UserError
from medssl.pretext.base import Batch, PretextTask, TaskSettings
from medssl.pretext.tiles import standardised

BLANK = 0.01  # deviation of a slice that shows nothing: padding, or the air beyond the patient
MEAN, DEVIATION = (0.3, 0.5), (0.15, 0.3)  # of a slice, drawn anew; as samples have them

Millimetres = Annotated[float, Field(ge=0)]


def _ascending(gap: tuple[float, float]) -> tuple[float, float]:
    if gap[0] > gap[1]:
        raise ValueError("the smallest distance comes first")
    return gap


Gap = Annotated[tuple[Millimetres, Millimetres], AfterValidator(_ascending)]


class StackSettings(TaskSettings):
    """
    Attributes:
        window: slices in a row that are looked at together; the task takes a few of them. Shorter stacks are left out.
        normalise: each slice is given a brightness and a contrast of its own.
    """

    window: Annotated[int, Field(ge=3)] = 12
    normalise: bool = True


def known(batch: Batch) -> Tensor:
    """(N, K) bool: slices that show something and whose place is known."""
    return batch.position.isfinite() & (batch.images.flatten(2).std(2) > BLANK)


def widths(position: Tensor, known: Tensor) -> Tensor:
    """(N, K) float64: mm of the stack that are nearer to a slice than to any other; 0 for slices that are not known.

    Args:
        position: (N, K) mm, ascending among those that are known, which come first.
    """
    gaps = torch.where(known[:, 1:], position.double().diff(dim=1), math.nan)
    before, after = F.pad(gaps, (1, 0), value=math.nan), F.pad(gaps, (0, 1), value=math.nan)
    before, after = torch.where(before.isnan(), after, before), torch.where(after.isnan(), before, after)
    return ((before + after) / 2).nan_to_num(0.0)


def chain(
    position: Tensor, known: Tensor, length: int, gap: tuple[float, float], generator: RowGenerator
) -> tuple[Tensor, Tensor]:
    """`length` slices of each stack, each of them `gap` mm beyond the one before: any such choice, evenly over the mm.

    The ways to go on from each slice are counted from the last link back to the first, and the links then drawn in
    order, each as often as there are ways through it.

    Args:
        position: (N, K) mm, in any order; ties and NaN may occur.
        known: (N, K) bool, slices that may be taken.
        length: slices to be taken.
        gap: smallest and largest distance of neighbours in mm.
        generator: of the same N rows.

    Returns:
        (N, length) places in the stack, by ascending mm, and (N,) bool: whether there is such a choice at all.
    """
    place, order, weight = _sorted(position, known)
    step = place[:, None, :] - place[:, :, None]
    follows = ((step >= gap[0]) & (step <= gap[1]) & (step > 0)).double()
    ways = [weight]
    for _ in range(length - 1):
        ways.append(weight * (follows @ ways[-1][:, :, None])[:, :, 0])
    links = [_draw(ways[-1], generator)]
    for left in reversed(ways[:-1]):
        here = links[-1][:, None, None].expand(-1, 1, place.shape[1])
        links.append(_draw(follows.gather(1, here)[:, 0] * left, generator))
    return order.gather(1, torch.stack(links, 1)), ways[-1].sum(1) > 0


def near_and_far(
    position: Tensor, known: Tensor, near: float, far: float, generator: RowGenerator
) -> tuple[Tensor, Tensor]:
    """An anchor, another slice at most `near` mm from it, and one at least `far` mm away, all evenly over the mm.

    Returns:
        (N, 3) places in the stack, and (N,) bool: whether there are such slices.
    """
    place, order, weight = _sorted(position, known)
    distance = (place[:, None, :] - place[:, :, None]).abs()
    itself = torch.eye(place.shape[1], dtype=torch.bool, device=place.device)
    positive = ((distance <= near) & ~itself).double() * weight[:, None, :]
    negative = (distance >= far).double() * weight[:, None, :]
    anchors = weight * (positive.sum(2) > 0) * (negative.sum(2) > 0)
    anchor = _draw(anchors, generator)
    here = anchor[:, None, None].expand(-1, 1, place.shape[1])
    others = [_draw(weights.gather(1, here)[:, 0], generator) for weights in (positive, negative)]
    return order.gather(1, torch.stack([anchor, *others], 1)), anchors.sum(1) > 0


def taken(images: Tensor, places: Tensor) -> Tensor:
    """(N, K, C, H, W) and (N, T) -> (N, T, C, H, W)."""
    return images[torch.arange(len(images), device=images.device)[:, None], places]


def looks(task: PretextTask, slices: Tensor, generator: RowGenerator) -> Tensor:
    """Each slice in a view of its own, and with `normalise` in a brightness and contrast of its own.

    Args:
        task: its `plan` says how views are made.
        slices: (N, T, C, H, W). Colours are seen in one channel, drawn for each stack, since they may drift as
            brightness does.

    Returns:
        (N, T, C, H, W).
    """
    if task.view.colour:
        channel = generator.integers(3)[:, :, None, None, None]
        slices = slices.gather(2, channel.expand_as(slices))
    x = torch.stack([task.new_view(slices[:, k], task.plan, generator) for k in range(slices.shape[1])], 1)
    if not task.settings.normalise:
        return x
    count = slices.shape[1]
    shape = (len(x), count, *[1] * (x.ndim - 2))
    mean, deviation = generator.between(*MEAN, count).view(shape), generator.between(*DEVIATION, count).view(shape)
    return (standardised(x) - 0.5) / 0.25 * deviation + mean


def mean_over(found: Tensor, values: Tensor, floor: float) -> Tensor:
    """Mean of (N,), where a stack that had nothing to ask counts as if nothing were learned: so it is a mean over
    stacks, whatever part of a batch is looked at."""
    return torch.where(found, values, floor).mean()


def captions(found: Tensor, words: list[str]) -> list[str]:
    """Captions of a picture, where there was something to ask."""
    return [text if there else "no such slices here" for there, text in zip(found.tolist(), words, strict=True)]


def refuse_unfit(task: PretextTask, found: Tensor, batch: Batch, needs: str) -> None:
    """Raise UserError where no stack of the batch has what the task needs; it says what they have."""
    if bool(found.any()):
        return
    name, usable = task.name, known(batch)
    if not bool(batch.position.isfinite().any()):
        fix = "Take scans with geometry (DICOM, NIfTI), or a task without order, such as simclr."
        raise UserError(f"'{name}' chooses slices by their positions in mm, and no slice has one", "samples", fix)
    if not bool(usable.any()):
        raise UserError(f"'{name}' needs slices that show something, and all of them are blank", "samples")
    place = batch.position.masked_fill(~usable, math.nan)
    extent = float((place.nan_to_num(-math.inf).amax(1) - place.nan_to_num(math.inf).amin(1)).amax())
    raise UserError(
        f"'{name}' needs {needs}, and {batch.images.shape[1]} slices in a row reach {max(extent, 0.0):g} mm at most",
        "samples",
        "Set a larger window, or distances that suit these stacks.",
    )


def _sorted(position: Tensor, known: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Places by ascending mm (NaN where not known), where they stood, and their widths; float64, which no autocast
    rounds."""
    place, order = position.double().masked_fill(~known, math.inf).sort(dim=1, stable=True)
    there = place < math.inf
    return place.masked_fill(~there, math.nan), order, widths(place, there)


def _draw(weights: Tensor, generator: RowGenerator) -> Tensor:
    """(N,) places, each with a chance in proportion to its weight, (N, K); any place where all are 0."""
    reached = weights.cumsum(1)
    aim = generator.uniform(1).double() * reached[:, -1:]
    return (reached <= aim).sum(1).clamp_max(weights.shape[1] - 1)
