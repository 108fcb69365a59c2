"""Which samples make a batch: single images, stacks of neighbouring slices, or several images of one exam."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from medssl.augment import RowGenerator
from medssl.cohort.splits import components
from medssl.errors import UserError

ORDER = 1 << 62  # keeps the draws that shuffle apart from those of training steps
MEMBERS = 3 << 60  # and those that choose within a scan or exam


class Sampling:
    """The samples of each step: a function of (seed, step) alone, the same in every process.

    Each epoch is a new permutation of the items; its last, incomplete batch is left out. With `image` an item is a
    sample. With `stack` a scan is as many items as stacks of K slices fit into it side by side, and an item is K
    neighbouring slices from a random place on, in their order; with `exam` it is K different images of one exam.

    Args:
        table: one row a sample with scan and exam, the samples of a scan in their order.
        keep: (M,) the rows to train on.
        kind: `image`, `stack` or `exam`.
        group: K.
        batch: items a step over all processes.
        seed: of the order.

    Attributes:
        count: items.
        drawn: (D,) places in `keep` of the samples that are in some item.
        note: how many scans or exams are too small to be one, in words.

    Raises:
        UserError: no scan, or no exam, has K samples.
    """

    def __init__(self, table: Any, keep: np.ndarray, kind: str, group: int, batch: int, seed: int) -> None:
        self.kind, self.group, self.batch, self.seed = kind, group, batch, seed
        self.count, self.note = len(keep), ""
        self.drawn = torch.arange(len(keep))
        if kind != "image":
            owner = codes(table["scan" if kind == "stack" else "exam"].to_numpy()[keep])
            self._members = owner.argsort(stable=True)
            self._sizes = torch.bincount(owner, minlength=1)
            self._starts = self._sizes.cumsum(0) - self._sizes
            self.drawn = (self._sizes[owner] >= group).nonzero()[:, 0]
            self._items = torch.arange(len(self._sizes)).repeat_interleave(self._sizes // group)
            self.count = len(self._items)
            what, whose = ("slices", "scan") if kind == "stack" else ("images", "exam")
            if not self.count:
                fix = f"Bring {whose}s that have, or take a task for single images, such as simclr (`medssl tasks`)."
                raise UserError(f"no {whose} has {group} {what}, as this task needs", "samples", fix)
            if small := int((self._sizes < group).sum()):
                self.note = (
                    f"left out: {small:,} of {len(self._sizes):,} {whose}s, which have fewer than {group} {what}"
                )
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.int64)

    @property
    def steps_per_epoch(self) -> int:
        return self.count // self.batch

    def __call__(self, step: int) -> Tensor:
        """(batch,) places in `keep`, or (batch, K) with `stack` and `exam`; steps count from 0."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            draws = RowGenerator(self.seed, ORDER + epoch, torch.arange(self.count)).integers(1 << 31)[:, 0]
            self._epoch, self._order = epoch, draws.argsort(stable=True)
        chosen = self._order[place * self.batch : (place + 1) * self.batch]
        return chosen if self.kind == "image" else self._expand(self._items[chosen], step)

    def _expand(self, owners: Tensor, step: int) -> Tensor:
        generator = RowGenerator(self.seed, MEMBERS + step, torch.arange(len(owners)))
        sizes = self._sizes[owners]
        if self.kind == "stack":
            first = (generator.uniform(1)[:, 0].double() * (sizes - self.group + 1)).long()
            within = first[:, None] + torch.arange(self.group)
        else:
            draws = generator.uniform(int(sizes.max()))
            beyond = torch.arange(draws.shape[1]) >= sizes[:, None]
            within = draws.masked_fill(beyond, 2.0).argsort(1)[:, : self.group]
        return self._members[self._starts[owners][:, None] + within]


def people(table: Any) -> np.ndarray:
    """(N,) the patient of each sample, equal for patients whom a `group` of the catalog ties to each other (the same
    scan under two names, twins): to tell these apart would be to learn noise.

    Args:
        table: one row a sample with patient and, where it is known, group.
    """
    if "group" not in table:
        return table["patient"].to_numpy()
    pairs = table[["patient", "group"]].drop_duplicates()
    numbers = components(pairs.assign(ties=[[group] for group in pairs["group"]]))
    return table["patient"].map(numbers).to_numpy()


def codes(names: np.ndarray) -> Tensor:
    """Names as whole numbers, equal where names are equal."""
    return torch.from_numpy(np.unique(names.astype(str), return_inverse=True)[1].astype(np.int64))
