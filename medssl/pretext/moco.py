"""MoCo: find the other view's key among those of a queue, which a slow copy of the network made (He 2020, "Momentum
contrast for unsupervised visual representation learning"; v2: Chen 2020; v3: Chen 2021).

`v2` has the queue, so that many negatives do not need a large batch. `v3` has the batch's own keys alone, and a
predictor. In both, each view is once the query and once the key, and the batch's other keys are negatives as well.

Shortcut: batch normalisation marks all vectors of one batch, so a query would know its key among the older ones of the
queue by the batch. The paper shuffles images between GPUs, which does nothing on one device. Here the batch's other
keys, which bear the same mark, are negatives too, and the head of v2 has no norm: with `small_gn`, or a transformer, a
key depends on its image alone and there is no mark at all.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from medssl.augment import RowGenerator
from medssl.config import View
from medssl.encoders import Encoder
from medssl.errors import UserError
from medssl.pretext.base import Batch, PretextTask
from medssl.pretext.heads import found_untrained, mlp, retrieval
from medssl.pretext.momentum import MomentumCopy, momentum_at
from medssl.pretext.negatives import Memory, NegativeSettings, apart, info_nce, refuse_one_patient
from medssl.pretext.processes import gather, process_count
from medssl.pretext.questions import SAME_IMAGE

QUEUE_AT_MOST = 4096


class Settings(NegativeSettings):
    """
    Attributes:
        form: `v2` with a queue, `v3` with a predictor and without one.
        queue: keys that are kept, in v2; 0 takes half of the training pool, 4,096 at most.
        temperature: of the softmax over similarities.
        momentum: of the copy at the first step; it rises to 1 over the run, as in v3.
        hidden: width of the heads' inner layers; 0 takes the encoder's.
        projection: width of queries and keys.
    """

    form: Literal["v2", "v3"] = "v2"
    queue: Annotated[int, Field(ge=0)] = 0
    temperature: Annotated[float, Field(gt=0)] = 0.2
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.98
    hidden: Annotated[int, Field(ge=0)] = 0
    projection: Annotated[int, Field(ge=2)] = 128


class MoCo(PretextTask):
    name = "moco"
    paper = "He, Fan, Wu, Xie, Girshick 2020, arXiv:1911.05722; v2: arXiv:2003.04297; v3: arXiv:2104.02057"
    line = "find the key of the other view among those of a queue, made by a slow copy of the network"
    question = SAME_IMAGE
    Settings = Settings
    compares = True
    dims = (2, 3)

    def __init__(self, encoder: Encoder, settings: Any, view: View, modality: str = "") -> None:
        super().__init__(encoder, settings, view, modality)
        hidden, width = settings.hidden or encoder.embed_dim, settings.projection
        self.projection = (
            mlp(encoder.embed_dim, hidden, width, 2, last_norm=False)
            if settings.form == "v3"
            else nn.Sequential(nn.Linear(encoder.embed_dim, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, width))
        )
        self.slow_encoder, self.slow_projection = MomentumCopy(encoder), MomentumCopy(self.projection)
        self.predictor = mlp(width, hidden, width, 2, last_norm=False) if settings.form == "v3" else None
        self.queue: Memory | None = None  # until the pool is known
        self.plan = self.views()

    def meet(self, index: Tensor, patient: Tensor) -> None:
        refuse_one_patient(self.name, self.settings, patient)
        asked, pool, where = self.settings.queue, len(index), f"{self.name}.queue"
        if self.settings.form == "v3":
            if asked:
                raise UserError("'v3' has no queue", where, "Take form=v2, or leave queue out.")
            return
        if asked >= pool:
            raise UserError(
                f"a queue of {asked:,} keys is not below the {pool:,} images that there are to train on: each image "
                "would meet its own key of the epoch before",
                where,
                f"Set queue={max(1, pool // 2)}, or leave it out.",
            )
        length = asked or max(1, min(QUEUE_AT_MOST, pool // 2))
        self.queue = Memory(length, self.settings.projection)
        self.note = f"moco: a queue of {length:,} keys, of {pool:,} images"

    def loss(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, dict[str, Tensor]]:
        views = self.new_views(batch.images, self.plan, generator)
        z = self.projection(self.embed(views))
        queries = (z if self.predictor is None else self.predictor(z)).float().chunk(2)
        with torch.no_grad():
            keys = self.slow_projection(self.slow_encoder.module.embed(views)).float().chunk(2)
        with torch.autocast(z.device.type, enabled=False):
            near = apart(self.settings, batch.patient, gather(batch.patient)[0])
            memory = self._memory(batch)
            losses = [info_nce(queries[v], keys[1 - v], *memory, self.settings.temperature, near) for v in range(2)]
        if self.queue is not None and self.training:
            self.queue.push(keys[0], batch)
        return torch.stack(losses).mean(), {"accuracy": retrieval(*z.chunk(2))}

    def floor(self, batch: Batch, generator: RowGenerator) -> dict[str, float]:
        """Loss: all similarities equal, the queue full. Accuracy: how often the untrained encoder finds the other
        view in the batch."""
        keys = len(batch.rows) * process_count() + (len(self.queue) if self.queue is not None else 0)
        return {"loss": math.log(keys), "accuracy": found_untrained(self, batch, generator, self.plan)}

    def after_step(self, step: int, steps: int) -> None:
        momentum = momentum_at(step, steps, self.settings.momentum)
        self.slow_encoder.follow(self.encoder, momentum)
        self.slow_projection.follow(self.projection, momentum)

    def heads(self) -> dict[str, nn.Module]:
        """Without the queue, whose vectors are of single patients."""
        return {name: module for name, module in super().heads().items() if name != "queue"}

    def _memory(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The queue's vectors (K, D), and whose negatives they are, (N, K)."""
        if self.queue is None:
            device = batch.images.device
            width, rows = self.settings.projection, len(batch.rows)
            return torch.zeros(0, width, device=device), torch.zeros(rows, 0, dtype=torch.bool, device=device)
        return self.queue.vectors, self.queue.negatives(self.settings, batch)
