"""Self-supervised label augmentation (Lee, Hwang & Shin 2020, arXiv:1910.05872): the network tells class and rotation
jointly, (class, angle) being one label of four times as many, and is never asked to look alike in all rotations.

- Aggregated: the logits of a class, each at the rotation that belongs to it, averaged over the four rotations. As this
  is linear in the four embeddings, the predictor is a linear head on `FourRotations`.
- Distilled: a second head learns from the upright image alone what the aggregate says, and the labels (the paper's beta
  is 1), and predicts at a quarter of the cost. The aggregate gets no gradient from it.

It learns from the labeled scans only. A step sees each of its images four times, so it takes fewer of them. A view must
have an up that survives: up-down flips and turns by chance are off, as in the pretext task `rotation`.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medssl.config import register
from medssl.encoders import Encoder
from medssl.encoders.rotated import ROTATIONS, FourRotations, rotations
from medssl.errors import UserError
from medssl.transfer.fitted import Fitted
from medssl.transfer.heads import LinearHead
from medssl.transfer.network import RATES, Batch, Group, autocast, linear_layer, make_encoder, train, views_of
from medssl.transfer.problem import Problem, Strategy
from medssl.transfer.recipe import Recipe
from medssl.transfer.unlabeled import need_classes, seeded


class Settings(Recipe):
    """
    Attributes:
        batch: at most this many samples a step, each in four rotations.
        epochs: at least this many passes over the labeled samples.
        predictor: `aggregated` over the four rotations, or the `distilled` one, which sees the upright image.
    """

    batch: int = Field(12, ge=2)
    epochs: float = Field(1.5, gt=0)
    predictor: Literal["aggregated", "distilled"] = "aggregated"


class SLA(Strategy):
    grid = RATES
    beside = ("other", "jointly")
    of_classes, by_loss = True, False

    def images_a_step(self, labeled: int) -> float:
        return labeled * ROTATIONS

    def fit(self, problem: Problem) -> Fitted:
        """See `Strategy.fit`.

        Raises:
            UserError: the target has no classes, the images are not square, or the encoder shrinks them to a point.
        """
        need_classes(problem, "sla")
        high, wide = problem.images.shape[-2:]
        if high != wide:
            raise UserError(f"'sla' turns images by 90 degrees, and {high} x {wide} pixels are no square", "view")
        classes, distilled = problem.target.outputs, self.settings.predictor == "distilled"
        views = views_of(problem, self.settings).model_copy(update={"flip_vertical": False, "rotation": 0.0})
        with seeded(problem):
            encoder = make_encoder(problem, "sla").train()
            joint = linear_layer(problem, encoder.embed_dim, classes * ROTATIONS)
            single = linear_layer(problem, encoder.embed_dim, classes)

            def loss(batch: Batch) -> Tensor:
                with autocast(problem):
                    features = encoder.embed(rotations(batch.images)).float()
                logits = joint(features)
                value = F.cross_entropy(logits, joint_labels(batch.truth))
                if distilled:
                    said = single(features[: len(batch.truth)])
                    wanted = aggregate(logits.detach()).softmax(1)
                    value = value + F.kl_div(said.log_softmax(1), wanted, reduction="batchmean")
                    value = value + problem.target.loss(said, batch.truth)
                return value

            heads = [*joint.parameters(), *(single.parameters() if distilled else ())]
            train(problem, self.settings, [Group([*encoder.parameters(), *heads])], loss, views=views)
        encoder.eval()
        return Fitted(LinearHead(single.weight, single.bias), encoder) if distilled else aggregated(encoder, joint)


def joint_labels(truth: Tensor) -> Tensor:
    """(4 * N,) labels class * 4 + rotation of the images of `rotations`, from classes (N,)."""
    turns = torch.arange(ROTATIONS, device=truth.device)
    return (truth * ROTATIONS + turns[:, None]).flatten()


def aggregate(logits: Tensor) -> Tensor:
    """(N, C): the mean over rotations of each class's logit at that rotation, from joint logits (4 * N, C * 4)."""
    by_turn = logits.view(ROTATIONS, -1, logits.shape[1] // ROTATIONS, ROTATIONS)
    return by_turn.diagonal(dim1=0, dim2=3).mean(-1)


def aggregated(encoder: Encoder, joint: nn.Linear) -> Fitted:
    """The predictor whose logits are `aggregate` of the joint ones."""
    classes, width = joint.out_features // ROTATIONS, joint.in_features
    weight = joint.weight.view(classes, ROTATIONS * width) / ROTATIONS
    bias = joint.bias.view(classes, ROTATIONS).mean(1)
    return Fitted(LinearHead(weight, bias), FourRotations(encoder).eval())


STRATEGY = SLA
register("strategy", "sla", Settings)
