"""Settings that tasks, strategies and targets own: each registers its model, and adding one touches no other file."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from medssl.config.reading import validate
from medssl.errors import unknown

_SETTINGS: dict[tuple[str, str], type[BaseModel]] = {}


def register(kind: str, name: str, model: type[BaseModel]) -> None:
    """Make `model` the settings of the task, strategy or target `name`."""
    _SETTINGS[kind, name] = model


def settings_for(kind: str, name: str, raw: dict[str, Any], where: str = "") -> Any:
    """The checked settings of a registered task, strategy or target.

    Raises:
        UserError: no such name, an unknown key, a value out of range.
    """
    if (kind, name) not in _SETTINGS:
        raise unknown(kind, name, registered(kind), where)
    return validate(_SETTINGS[kind, name], raw, where or name)


def registered(kind: str) -> list[str]:
    return sorted(n for k, n in _SETTINGS if k == kind)
