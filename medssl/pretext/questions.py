"""Questions of a pretext task that a person can answer as well as the network, made by `PretextTask.ask`, and real
images beside those that a network made of them, from `PretextTask.made`. `medssl.report.reader_test` asks them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from medssl.augment import RowGenerator
from medssl.pretext.pictures import Column, middle, pictures

FEW = 4  # choices, where a task has more answers than a person can look at
SAME_IMAGE = "Which of these shows the same image?"


@dataclass(frozen=True)
class Question:
    """One question; nothing in it names a patient, and nothing that is shown tells the answer.

    Attributes:
        shown: (C, H, W) float32 in [0, 1] each: what is asked about.
        captions: one a shown panel.
        choices: the answers that there are, in words or as panels.
        truth: the number of the right one.
        said: the number of the network's; None where it does not judge.
    """

    shown: list[Tensor]
    captions: list[str]
    choices: list[str] | list[Tensor]
    truth: int
    said: int | None


def worded(
    columns: Sequence[Column], words: Sequence[str], truth: Tensor, said: Tensor, found: Tensor | None = None
) -> list[Question]:
    """Questions whose answers are words, one a row.

    Args:
        columns: what is shown, as for `pictures`.
        words: of the answers, the same for all rows.
        truth, said: (N,) numbers of the right answer and of the network's.
        found: (N,) bool, which rows have a question; default all.
    """
    rows = zip(pictures(*columns), truth.tolist(), said.tolist(), strict=True)
    asked = [Question(row.panels, row.captions, list(words), right, answer) for row, right, answer in rows]
    return asked if found is None else [q for q, there in zip(asked, found.tolist(), strict=True) if there]


def pictured(
    columns: Sequence[Column], choices: Tensor, truth: Tensor, said: Tensor | None, found: Tensor | None = None
) -> list[Question]:
    """Questions whose answers are pictures, one a row.

    Args:
        columns: what is shown beside the choices; may be empty.
        choices: (N, K, C, *spatial).
        truth, said, found: as for `worded`; `said` may be None.
    """
    flat = middle(choices.flatten(0, 1)).unflatten(0, choices.shape[:2])
    beside = pictures(*columns) if columns else [None] * len(flat)
    asked = []
    for row, (shown, own) in enumerate(zip(beside, flat, strict=True)):
        panels, captions = (shown.panels, shown.captions) if shown else ([], [])
        answer = None if said is None else int(said[row])
        asked.append(Question(panels, captions, list(own), int(truth[row]), answer))
    return asked if found is None else [q for q, there in zip(asked, found.tolist(), strict=True) if there]


def few(scores: Tensor, truth: Tensor, generator: RowGenerator, count: int = FEW) -> tuple[Tensor, Tensor, Tensor]:
    """Some of a task's many answers, the right one among them at a random place.

    Args:
        scores: (N, M) of all answers, higher for those that the network holds for right.
        truth: (N,) the right ones.
        count: answers that remain, where there are more.

    Returns:
        (N, count) numbers of answers, and among these the place of the right one and of the network's, (N,) each.
    """
    draws = generator.uniform(scores.shape[1]).scatter(1, truth[:, None], -1.0)
    chosen = draws.argsort(1)[:, :count]  # the right one, and others at random
    chosen = chosen.gather(1, generator.order(chosen.shape[1]))
    return chosen, (chosen == truth[:, None]).int().argmax(1), scores.gather(1, chosen).argmax(1)


def same(columns: Sequence[Column], images: Tensor, alike: Tensor, generator: RowGenerator) -> list[Question]:
    """Which of some images belongs to what is shown?

    Args:
        columns: what is shown.
        images: (N, C, *spatial): of each row the one that belongs to it; the others are those of other rows.
        alike: (N, N) how well the network says that they belong together.
    """
    truth = torch.arange(len(images), device=images.device)
    chosen, place, said = few(alike, truth, generator)
    return pictured(columns, images[chosen], place, said)


def same_image(views: Tensor, embeddings: Tensor, generator: RowGenerator) -> list[Question]:
    """Which of four second views was made from the first one's image? The network takes the nearest embedding.

    Args:
        views: (2 * N, C, *spatial), all first ones first.
        embeddings: (2 * N, D) of them.
    """
    first, second = views.chunk(2)
    here, there = F.normalize(embeddings.float(), dim=1).chunk(2)
    return same([(first, "one view")], second, here @ there.T, generator)


def which_is_real(real: Tensor, made: Tensor, scores: Tensor | None, generator: RowGenerator) -> list[Question]:
    """Two-alternative forced choice between a real image and one that a network made of it (the "colorization Turing
    test" of Zhang 2016, section 3.1).

    Args:
        real, made: (N, C, *spatial).
        scores: (2 * N,) of real and made ones, higher for those that the network holds for real; None where it does
            not judge.
    """
    place = generator.integers(2)[:, 0]  # of the real one
    order = torch.stack([place, 1 - place], 1)
    rows = torch.arange(len(real), device=real.device)[:, None]
    said = None if scores is None else scores.view(2, -1).T[rows, order].argmax(1)
    return pictured([], torch.stack([real, made], 1)[rows, order], place, said)
