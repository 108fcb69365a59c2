"""Which images may be negatives of each other, and the memory of negatives that are not in the batch.

Images of one patient look alike because they show one body: to drive them apart teaches the network to see scanner and
position instead (false negatives: Huynh 2022, arXiv:2011.11765). Neighbouring slices of a scan are of one patient too.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl.errors import UserError
from medssl.pretext.base import Batch, TaskSettings
from medssl.pretext.processes import gather

NOBODY = -1


class NegativeSettings(TaskSettings):
    """
    Attributes:
        negatives: `other_patients`, or `all` other images, to see what false negatives cost.
    """

    negatives: Literal["other_patients", "all"] = "other_patients"


def apart(settings: NegativeSettings, mine: Tensor, theirs: Tensor) -> Tensor | None:
    """(N, M) bool: whether an image of patient `mine[i]` may have one of `theirs[j]` as a negative; None where all
    others may."""
    return None if settings.negatives == "all" else mine[:, None] != theirs


def refuse_one_patient(name: str, settings: NegativeSettings, patient: Tensor) -> None:
    """Raise UserError where nothing is anybody's negative."""
    if settings.negatives != "all" and bool((patient == patient[0]).all()):
        raise UserError(
            f"all images are of one patient, and '{name}' tells images of different patients apart",
            f"{name}.negatives",
            "Set negatives=all, or take a task without negatives, such as vicreg or byol.",
        )


def info_nce(
    queries: Tensor, keys: Tensor, others: Tensor, allowed: Tensor, temperature: float, apart: Tensor | None = None
) -> Tensor:
    """Cross entropy of finding one's own key among the keys of the batch and a memory (van den Oord 2018; He 2020,
    equation 1, with the batch's other keys as negatives too).

    Args:
        queries, keys: (N, D) of this process's images; rows belong together.
        others: (K, D) vectors of unit length from a memory.
        allowed: (N, K) bool, which of them are negatives of an image.
        apart: (N, M) bool, as for `nt_xent`, of the batch's own keys.
    """
    batch_keys, start = gather(F.normalize(keys, dim=1))
    own = start + torch.arange(len(queries), device=queries.device)
    if apart is None:
        apart = torch.ones(len(queries), len(batch_keys), dtype=torch.bool, device=queries.device)
    mask = torch.cat([apart.scatter(1, own[:, None], True), allowed], 1)
    logits = F.normalize(queries, dim=1) @ torch.cat([batch_keys, others]).T / temperature
    return F.cross_entropy(logits.masked_fill(~mask, -math.inf), own)


class Memory(nn.Module):
    """Vectors of unit length, with the images and patients that they are of; buffers, saved with the run's state.

    They are of single patients, so they belong into no checkpoint that is handed on: a task keeps them out of `heads`.
    """

    vectors: Tensor
    index: Tensor
    patient: Tensor
    written: Tensor

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.register_buffer("vectors", torch.zeros(length, width))
        for name in ("index", "patient"):
            self.register_buffer(name, torch.full((length,), NOBODY))
        self.register_buffer("written", torch.zeros((), dtype=torch.int64))

    def __len__(self) -> int:
        return len(self.vectors)

    def negatives(self, settings: NegativeSettings, batch: Batch, places: Any = slice(None)) -> Tensor:
        """(N, K) bool: which vectors, of those at `places`, are negatives of this process's images."""
        index, patient = self.index[places], self.patient[places]
        others = apart(settings, batch.patient, patient)
        return (index != NOBODY) & (batch.index[:, None] != index if others is None else others)

    @torch.no_grad()
    def write(self, places: Tensor, vectors: Tensor, index: Tensor, patient: Tensor) -> None:
        """Put vectors (M, D) of these images and patients at these places."""
        self.vectors[places] = F.normalize(vectors, dim=1)
        self.index[places], self.patient[places] = index, patient

    @torch.no_grad()
    def push(self, vectors: Tensor, batch: Batch) -> None:
        """The newest vectors, (N, D) in each process, take the place of the oldest ones (He 2020)."""
        newest = [gather(x)[0][-len(self) :] for x in (vectors.detach().float(), batch.index, batch.patient)]
        count = len(newest[0])
        places = (self.written + torch.arange(count, device=self.written.device)) % len(self)
        self.write(places, *newest)
        self.written += count
