"""Is it still learning? Numbers that show a collapse before the run is over, and words for what to try.

None of this chooses anything: on-line kNN uses labels of the training pool where there are any, for the eye alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl.config.pretraining import SUNK
from medssl.encoders import Encoder, embed_all
from medssl.metrics import macro_auc
from medssl.pretext import PretextTask
from medssl.training.sampling import people

NEIGHBOURS, SHARPNESS = 20, 0.07  # Wu 2018, arXiv:1805.01978
LABELED_AT_MOST, CLASSES_AT_MOST = 512, 20
LEAST_WIDTH = 16  # of a head's vectors: logits of few classes have a rank of few
DIVERGED = 2.0  # times the best loss so far,
ABOVE = 1.1  # and so far above the floor; a batch's loss lies about it by chance
BELOW = 0.98  # of the floor: a loss that no network reaches which tells nothing apart
PATIENCE = {"collapse": 2, "divergence": 20}  # log lines in a row; of collapse, those with ranks


def embedding_std(embedding: Tensor) -> float:
    """Mean over dimensions of the standard deviation of unit-length embeddings, in units of 1/sqrt(d).

    Near 1 where they fill the sphere, 0 where all images got the same vector (Chen and He 2021, figure 2).
    """
    unit = F.normalize(embedding.float(), dim=1)
    return float(unit.std(0).mean()) * math.sqrt(unit.shape[1])


def rankme(embedding: Tensor) -> float:
    """Effective rank: exp of the entropy of the normalised singular values (Garrido 2023, RankMe); 1 to min(N, d)."""
    x = embedding.double()
    gram = x @ x.T if len(x) < x.shape[1] else x.T @ x
    values = torch.linalg.eigvalsh(gram).clamp_min(0).sqrt()
    share = values / values.sum().clamp_min(1e-30) + 1e-7
    return float(torch.exp(-(share * share.log()).sum()))


class Projections:
    """What a task's heads gave last, where that is a vector an image: a head may collapse and the encoder not."""

    def __init__(self, task: PretextTask) -> None:
        self.last: dict[str, Tensor] = {}
        for name, head in task.heads().items():
            head.register_forward_hook(partial(self._note, name))

    def _note(self, name: str, head: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 2 and output.shape[1] >= LEAST_WIDTH:
            self.last[name] = output.detach()


def spread(task: PretextTask, projections: Projections, ranks: bool) -> dict[str, float]:
    """Standard deviation and effective rank of what the encoder gave last, and of the narrowest head's vectors."""
    found: dict[str, float] = {}
    heads = [(f"{name}_std", f"{name}_rankme", value) for name, value in projections.last.items()]
    for std, rank, value in [("embedding_std", "rankme", task.last_embedding), *heads]:
        if value is not None and len(value) > 1:
            found[std] = round(embedding_std(value), 4)
            if ranks:
                found[rank] = round(rankme(value), 2)
    return found


class Neighbours:
    """On-line kNN on labeled images of the training pool: macro AUC of leaving each patient out in turn.

    Args:
        images: (N, C, *spatial) of which `chosen` are used.
        chosen: (M,) rows with a label.
        labels, patients: (M,) names.
    """

    def __init__(self, images: np.ndarray, chosen: np.ndarray, labels: np.ndarray, patients: np.ndarray) -> None:
        few = np.linspace(0, len(chosen) - 1, min(len(chosen), LABELED_AT_MOST)).astype(int)
        self.images = np.ascontiguousarray(images[chosen[few]])
        self.truth = np.unique(labels[few].astype(str), return_inverse=True)[1]
        self.patients = np.unique(patients[few].astype(str), return_inverse=True)[1]

    def __call__(self, encoder: Encoder, precision: AbstractContextManager) -> float:
        """Macro AUC of a vote of the nearest neighbours, weighted by similarity; `precision` is of the embedding."""
        with precision:
            embedded = embed_all(encoder, self.images)
        features = F.normalize(torch.from_numpy(embedded), dim=1)
        near = features @ features.T
        near[torch.from_numpy(self.patients[:, None] == self.patients)] = -math.inf
        values, index = near.topk(min(NEIGHBOURS, len(near) - 1))
        votes = F.one_hot(torch.from_numpy(self.truth))[index] * torch.exp(values / SHARPNESS)[:, :, None]
        scores = (votes.sum(1) / votes.sum((1, 2))[:, None].clamp_min(1e-30)).numpy()
        return float(macro_auc(self.truth, scores[None].astype(np.float64), np.ones((1, len(scores))))[0, 0])


def neighbours(samples: Any, keep: np.ndarray, labels: dict[str, str] | None) -> Neighbours | None:
    """Of the labeled samples in the pool; None where there are too few, or their label is no small set of classes."""
    if not labels or samples.images.dtype != np.uint8:
        return None
    known = samples.table["scan"].iloc[keep].map(labels)
    chosen = keep[known.notna().to_numpy()]
    names = known.dropna().to_numpy()
    patients = people(samples.table)[chosen]
    if not 2 <= len(set(names)) <= CLASSES_AT_MOST or len(set(patients)) < 2 * NEIGHBOURS:
        return None
    return Neighbours(samples.images, chosen, names, patients)


class Watch:
    """Reads each line of the history and says, once each, what goes wrong.

    Args:
        floor: of the task, with what `spread` says of the untrained network.
        memory: what an earlier part of the run remembered; plain data, saved with the state.
        heads: names of the task's heads in groups (`PretextTask.head_groups`).
        collapsible: the task's loss may be low after a collapse. Any other one is below its floor only where images are
            told apart, however close their vectors lie (as the mean tokens of a masked autoencoder do).
        steps: of the run. A task that is not collapsible gets half of them to come below its floor.
    """

    def __init__(
        self,
        floor: dict[str, float],
        memory: dict[str, Any] | None = None,
        heads: Sequence[Sequence[str]] = (),
        collapsible: bool = True,
        steps: int = 0,
    ) -> None:
        self.floor, self.heads, self.collapsible, self.half = floor, heads, collapsible, steps / 2
        self.memory: dict[str, Any] = memory or {"best": None, "in_a_row": {}, "said": []}

    def kept(self, line: dict[str, Any]) -> dict[str, float]:
        """`spread_kept`, where the line has ranks: the share of the untrained network's spread that is left.

        Standard deviation times effective rank, of the encoder or of a group's head that kept most, whichever is least.
        One head may squeeze its vectors for its own ends (a predictor, a prior) while images are told apart by others
        of its group.
        """
        known = self._shares(line, [("embedding_std", "rankme")])
        for names in self.heads:
            heads = self._shares(line, [(f"{name}_std", f"{name}_rankme") for name in names])
            known += [max(heads)] if heads else []
        return {"spread_kept": round(min(known), 4)} if known else {}

    def _shares(self, line: dict[str, Any], pairs: list[tuple[str, str]]) -> list[float]:
        """Of the pairs of standard deviation and rank that both the line and the untrained network have."""
        known = [pair for pair in pairs if all(key in line and self.floor.get(key) for key in pair)]
        return [math.prod(line[key] / self.floor[key] for key in pair) for pair in known]

    def look(self, line: dict[str, Any]) -> dict[str, str]:
        """Warnings of this line that were not given before, by code; `line` has what `kept` gave."""
        best, floor = self.memory["best"], self.floor.get("loss", 0.0)
        signs = {"divergence": best is not None and line["loss"] > max(DIVERGED * best, ABOVE * floor)}
        excused = not self.collapsible and (line["loss"] < BELOW * floor or line["step"] < self.half)
        if "spread_kept" in line:
            signs["collapse"] = line["spread_kept"] < SUNK and not excused
        self.memory["best"] = line["loss"] if best is None else min(best, line["loss"])
        new = {}
        for sign, there in signs.items():
            row = self.memory["in_a_row"].get(sign, 0) + 1 if there else 0
            self.memory["in_a_row"][sign] = row
            if row >= PATIENCE[sign] and sign not in self.memory["said"]:
                self.memory["said"].append(sign)
                new[sign] = WORDS[sign].format(**line)
        return new


WORDS = {
    "collapse": "collapse: images are getting nearly the same vector ({spread_kept:.1%} is left of the untrained "
    "network's spread). Try a lower learning rate, a larger batch, stronger views, or a loss that holds images apart.",
    "divergence": "the loss ({loss:.3g}) is far above its best: training diverges. Try a lower learning rate, "
    "precision=32, or a smaller batch.",
}
