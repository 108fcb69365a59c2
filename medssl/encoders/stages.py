"""The stages of a network from the input to the output: what is frozen, let go or initialised together."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from torch import nn


class Stage(NamedTuple):
    """
    Attributes:
        tensors: names in the network's `state_dict`; every name is in exactly one stage.
        modules: those that are complete with this stage: they, and all that they are made of, lie in it or before it.
    """

    tensors: list[str]
    modules: list[nn.Module]


def walk(network: nn.Module, ends: Sequence[str]) -> list[Stage]:
    """Cut a network into stem, stages and what follows the last one, in the order in which its modules were registered.

    Normalisation and activation right after the stem belong to it, also where `ends` names them, and a stage without
    tensors is none. What the network itself holds (an encoder's mean and std) goes with the stem.

    Args:
        ends: names of the modules that each stage ends with; those that are not there are passed over.
    """
    modules = list(network.named_modules(remove_duplicate=False))
    names = [name for name, _ in modules]
    ends = [end for end in ends if end in names]

    def past(end: str) -> int:
        return 1 + max(i for i, name in enumerate(names) if f"{name}.".startswith(f"{end}."))

    cuts = [past(end) for end in ends]
    if ends and any(weight.ndim > 1 for weight in network.get_submodule(ends[0]).parameters()):
        cuts.insert(0, names.index(ends[0]))
    part = {name: bisect_right(cuts, i) for i, name in enumerate(names)}
    holders = {key: key.rpartition(".")[0] for key in network.state_dict()}
    filled = sorted({part[holder] for holder in holders.values() if holder})
    number = {name: max(0, bisect_right(filled, part[name]) - 1) for name in names}
    stages = [Stage([], []) for _ in filled]
    for key, holder in holders.items():
        stages[number[holder]].tensors.append(key)
    for name, module in modules:
        inside = [number[other] for other in names if not name or f"{other}.".startswith(f"{name}.")]
        stages[max(inside)].modules.append(module)
    return stages
