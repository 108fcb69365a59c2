"""Finetuning from the middle of the projection head (SimCLRv2; Chen 2020, "Big self-supervised models are strong
semi-supervised learners", arXiv:2006.10029): the first layers of the head that pretraining ended with stay below the
classifier, and all is finetuned. What contrast made invariant is undone by the last layers and not by the first.

With several samples a unit the layers see the unit's mean embedding when they predict, as every head does.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_linear_bn_eval

from medssl.config import register
from medssl.encoders import Encoder
from medssl.errors import UserError
from medssl.transfer.fitted import Fitted
from medssl.transfer.heads import LayeredHead
from medssl.transfer.network import RATES, Group, make_encoder, supervised, train
from medssl.transfer.problem import Heads, Problem, Strategy
from medssl.transfer.recipe import Recipe

HEAD = "projection"
TASKS = (  # whose checkpoints hold one: linear layers with ReLU, under that name
    *("barlow_twins", "byol", "dino", "exemplar", "micle", "moco"),
    *("simclr", "simsiam", "slice_contrast", "tracked_patch", "vicreg", "voco"),
)


class Settings(Recipe):
    """layers: how many of the projection head's linear layers, with their norms and ReLUs, are kept."""

    layers: int = Field(1, ge=1)


class FromProjection(Strategy):
    grid = RATES

    def check(self, encoder: Encoder, heads: Heads) -> None:
        """
        Raises:
            UserError: there is no projection head, or not so many layers of it.
        """
        first_layers(heads, self.settings.layers)

    def fit(self, problem: Problem) -> Fitted:
        """See `Strategy.fit`.

        Raises:
            UserError: as `check`, or the encoder shrinks these images to a single point.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(problem.seed)
            encoder = make_encoder(problem, "finetuning").train()
            layers = first_layers(problem.heads(), self.settings.layers)
            width = next(m.out_features for m in reversed(layers) if isinstance(m, nn.Linear))
            head = layers.append(nn.Linear(width, problem.target.outputs)).to(problem.device).train()
            loss = supervised(problem, encoder, head)
            train(problem, self.settings, [Group([*encoder.parameters(), *head.parameters()])], loss)
        return Fitted(as_head(head), encoder.eval())


def first_layers(heads: Heads, count: int) -> nn.Sequential:
    """The first `count` linear layers of the projection head, each with its batch norm, where it has one, and ReLU.

    Args:
        heads: of a checkpoint; a head's layers stand under their place in it: `0.weight`, `1.running_mean`, ...

    Raises:
        UserError: see `FromProjection.check`.
    """
    state: dict[str, Tensor] = heads.get(HEAD, {})
    places = sorted(
        int(name.removesuffix(".weight"))
        for name, value in state.items()
        if name.removesuffix(".weight").isdigit() and value.ndim == 2
    )
    if not places:
        raise UserError(
            "the arm's encoder comes from no checkpoint with a projection head",
            "strategy",
            f"Give the arm a pretraining run (pretrain: NAME) whose task has one: {', '.join(TASKS)}. "
            "Or take the strategy finetune.",
        )
    if count >= len(places):
        raise UserError(
            f"the projection head has {len(places)} layers, and the last one is not followed by a ReLU",
            "strategy.layers",
            f"Keep from 1 to {len(places) - 1}.",
        )
    kept: list[nn.Module] = []
    for place in places[:count]:
        outputs, inputs = state[f"{place}.weight"].shape
        kept.append(_filled(nn.Linear(inputs, outputs, bias=f"{place}.bias" in state), state, place))
        if f"{place + 1}.running_mean" in state:
            kept.append(_filled(nn.BatchNorm1d(outputs), state, place + 1))
        kept.append(nn.ReLU())
    return nn.Sequential(*kept)


def as_head(trained: nn.Sequential) -> LayeredHead:
    """The same function with every batch norm, as it stands, taken into its linear layer."""
    linear: list[nn.Linear] = []
    for module, after in pairwise([*trained.eval(), nn.Identity()]):
        if isinstance(module, nn.Linear):
            linear.append(fuse_linear_bn_eval(module, after) if isinstance(after, nn.BatchNorm1d) else module)
    tensors: dict[str, Tensor] = {}
    for i, layer in enumerate(linear):
        bias = torch.zeros(layer.out_features) if layer.bias is None else layer.bias
        tensors |= {f"weight{i}": layer.weight, f"bias{i}": bias}
    return LayeredHead(**tensors)


def _filled(module: nn.Module, state: dict[str, Tensor], place: int) -> nn.Module:
    start = f"{place}."
    module.load_state_dict({k.removeprefix(start): v for k, v in state.items() if k.startswith(start)})
    return module


STRATEGY = FromProjection
register("strategy", "from_projection", Settings)
