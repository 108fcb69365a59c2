"""Find targets and strategies by the name of their file."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

from medssl.config import settings_for
from medssl.errors import UserError, unknown
from medssl.transfer import strategies as strategy_files
from medssl.transfer import targets as target_files
from medssl.transfer.problem import Strategy, TargetKind

if TYPE_CHECKING:  # torch takes seconds to import
    from torch import Tensor, nn


def strategies() -> list[str]:
    return [m.name for m in pkgutil.iter_modules(strategy_files.__path__)]


def target_kinds() -> list[str]:
    return [m.name for m in pkgutil.iter_modules(target_files.__path__)]


def strategy(name: str, settings: dict[str, Any] | None = None, where: str = "strategy") -> Strategy:
    """The strategy of that name with checked settings (UserError for an unknown name or key)."""
    if name not in strategies():
        raise unknown("strategy", name, strategies(), where)
    module = importlib.import_module(f"{strategy_files.__name__}.{name}")
    return module.STRATEGY(settings_for("strategy", name, settings or {}, where))


def target_kind(name: str, labels: list[str], where: str = "target.kind") -> TargetKind:
    """The target of that kind, made from the labels of the whole cohort (so that every job has the same classes)."""
    if name not in target_kinds():
        raise unknown("kind of target", name, target_kinds(), where)
    return importlib.import_module(f"{target_files.__name__}.{name}").TARGET(labels)


def make_head(kind: str, tensors: dict[str, Tensor]) -> nn.Module:
    """The head of that kind from its state dict: `fitted` has the linear one, strategies have others in their files.

    Raises:
        UserError: no head of that kind, or one that has other tensors.
    """
    found = _heads()
    if kind not in found:
        raise unknown("kind of head", kind, sorted(found), "head")
    try:
        head = found[kind](**tensors)
        head.load_state_dict(tensors)
    except (TypeError, RuntimeError):
        fix = "Make the predictor again with this version of medssl."
        raise UserError(f"these are not the tensors of a head of kind '{kind}'", "head", fix) from None
    return head.eval()


def _heads() -> dict[str, type[nn.Module]]:
    from torch import nn

    names = ["medssl.transfer.fitted", *(f"{strategy_files.__name__}.{name}" for name in strategies())]
    things = [thing for name in names for thing in vars(importlib.import_module(name)).values()]
    heads = [thing for thing in things if isinstance(thing, type) and issubclass(thing, nn.Module)]
    return {vars(head)["kind"]: head for head in heads if isinstance(vars(head).get("kind"), str)}
