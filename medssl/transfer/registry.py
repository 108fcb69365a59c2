"""Find targets and strategies by the name of their file."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from medssl.config import settings_for
from medssl.errors import unknown
from medssl.transfer import strategies as strategy_files
from medssl.transfer import targets as target_files
from medssl.transfer.problem import Strategy
from medssl.transfer.target import TargetKind


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


def target_class(name: str, where: str = "target.kind") -> type[TargetKind]:
    """What targets of that kind have in common (UserError for an unknown name)."""
    if name not in target_kinds():
        raise unknown("kind of target", name, target_kinds(), where)
    return importlib.import_module(f"{target_files.__name__}.{name}").TARGET


def target_kind(
    name: str, labels: list[str], settings: dict[str, Any] | None = None, where: str = "target.kind"
) -> TargetKind:
    """The target of that kind with checked settings, made from the labels of the whole cohort (so that every job has
    the same classes)."""
    return target_class(name, where)(labels, settings_for("target", name, settings or {}, where))
