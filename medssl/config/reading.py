"""Read a YAML file, apply overrides, and check it, with errors that name the nearest key."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from medssl.config.models import Experiment
from medssl.errors import UserError, nearest

Model = TypeVar("Model", bound=BaseModel)


def load_experiment(path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Experiment:
    """Read a YAML file, apply `key.sub=value` overrides, and check it.

    Args:
        path: a file, or the name of a shipped config (`demo`, `busi`, ...).
        overrides: values are read as YAML, so that `budgets=[2,5,all]` and `draws=3` mean what they look like.

    Raises:
        UserError: no such file, not YAML, an unknown key (with the nearest known one), a value out of range.
    """
    file = find_config(path)
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"not valid YAML{line}: {problem or str(error).splitlines()[0]}", str(path)) from None
    if not isinstance(raw, dict):
        raise UserError("a config is a mapping of keys to values", str(path))
    apply_overrides(raw, overrides)
    return validate(Experiment, raw, str(path))


def find_config(path: str | Path) -> Path:
    """The file at `path`, else the shipped config of that name."""
    path = Path(path)
    if path.is_file():
        return path
    shipped = shipped_configs()
    known = {p.stem: p for folder in shipped for p in sorted(folder.glob("*.yaml"))}
    if path.stem in known and str(path.parent) in (".", "configs"):
        return known[path.stem]
    near = nearest(path.stem, list(known))
    hint = f"Did you mean '{near}'? " if near else ""
    raise UserError("no such config", str(path), f"{hint}Name a YAML file, or one of: {', '.join(sorted(known))}.")


def shipped_configs() -> list[Path]:
    """Folders of shipped configs: in the wheel, and beside the package in a checkout."""
    package = Path(__file__).parent.parent
    return [p for p in (package / "_configs", package.parent / "configs") if p.is_dir()]


def apply_overrides(raw: dict[str, Any], overrides: list[str] | tuple[str, ...]) -> None:
    """Set `a.b=value` in a nested mapping, in place."""
    for item in overrides:
        key, sign, text = item.partition("=")
        if not sign or not key:
            raise UserError("an override is written key=value", item, "For example: draws=3 view.size=96")
        *parents, last = key.split(".")
        place = raw
        for parent in parents:
            step = place.setdefault(parent, {})
            if not isinstance(step, dict):
                raise UserError(f"'{parent}' holds a value and has no keys below it", item)
            place = step
        place[last] = yaml.safe_load(text)


def validate(model: type[Model], raw: dict[str, Any], where: str) -> Model:
    """Check `raw` against `model`; the first problem becomes a UserError that names key, problem and nearest key."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        problems = error.errors()
        first = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = _keys_beside(model, first["loc"])
            near = nearest(str(first["loc"][-1]), known)
            fix = f"Did you mean '{near}'? " if near else ""
            raise UserError(f"unknown key '{key}'", where, f"{fix}Known here: {', '.join(known)}.") from None
        raise UserError(f"'{key}': {first['msg']}" if key else str(first["msg"]), where) from None


def _keys_beside(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Names that would have been allowed where an unknown key stood."""
    here: Any = model
    for part in location[:-1]:
        if not (isinstance(here, type) and issubclass(here, BaseModel)):
            break
        field = here.model_fields.get(str(part))
        inner = _models_in(field.annotation) if field else []
        here = inner[0] if inner else here
    return sorted(here.model_fields) if isinstance(here, type) and issubclass(here, BaseModel) else []


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for arg in getattr(annotation, "__args__", ()) for m in _models_in(arg)]
