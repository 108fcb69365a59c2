"""Fields of a form from pydantic models: kind, limits and help of each come from the model and its docstring."""

from __future__ import annotations

import inspect
import re
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import annotated_types
import streamlit as st
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from medssl.errors import UserError


def fields(model: type[BaseModel], names: list[str], key: str, defaults: dict[str, Any] | None = None) -> dict:
    """Widgets for some fields of a model, in two columns; returns those that differ from the model's defaults.

    Args:
        key: begins the key of each widget.
        defaults: what stands there at first, where it is not the model's own.

    Raises:
        UserError: a text that is no YAML.
    """
    places, found = st.columns(2, gap="medium"), {}
    for i, name in enumerate(names):
        field = model.model_fields[name]
        own = field.get_default(call_default_factory=True)
        first = (defaults or {}).get(name, own)
        with places[i % 2]:
            value = _widget(name, field, first, f"{key} {name}", about(model).get(name))
        if value != own:
            found[name] = value
    return found


@cache
def about(model: type[BaseModel]) -> dict[str, str]:
    """What the docstrings of a model say of each field, under "Attributes:"."""
    found: dict[str, str] = {}
    for one in (m for m in reversed(model.__mro__) if issubclass(m, BaseModel) and m is not BaseModel):
        lines = inspect.cleandoc(one.__dict__.get("__doc__") or "").splitlines()
        names: list[str] = []
        for line in lines[lines.index("Attributes:") + 1 :] if "Attributes:" in lines else []:
            start = re.match(r"    ([a-z_]+(?:, [a-z_]+)*): (.*)", line)
            if start:
                names = start[1].split(", ")
                found |= dict.fromkeys(names, start[2])
            elif names and line.startswith("     "):
                found |= {name: f"{found[name]} {line.strip()}" for name in names}
            else:
                names = []
    return found


def plain(model: type[BaseModel]) -> list[str]:
    """The fields that one widget can hold: numbers, words, yes or no."""
    return [
        name
        for name, field in model.model_fields.items()
        if isinstance(field.get_default(call_default_factory=True), bool | int | float | str | NoneType)
    ]


def label(name: str) -> str:
    return name[:1].upper() + name[1:].replace("_", " ")


def _widget(name: str, field: FieldInfo, first: Any, key: str, said: str | None) -> Any:
    kinds = _kinds(field.annotation)
    optional, kinds = NoneType in kinds, [k for k in kinds if k is not NoneType]
    words, only = label(name), kinds[0] if len(kinds) == 1 else None
    if only is bool:
        return st.checkbox(words, first, key=key, help=said)
    if get_origin(only) is Literal:
        options = list(get_args(only)) + ([None] if optional else [])
        return st.selectbox(words, options, options.index(first), key=key, help=said, format_func=_plain)
    if only in (int, float):
        low, high, step = _limits(field, only)
        form = "%d" if only is int else "%g"
        first = None if first is None else only(first)  # a default of 1 may stand for 1.0
        return st.number_input(words, low, high, first, step, form, key=key, help=said, placeholder="default")
    text = st.text_input(words, _as_text(first), key=key, help=said, placeholder="default").strip()
    if kinds == [str]:
        return text or (None if optional else first)
    try:
        return yaml.safe_load(f"[{text}]" if isinstance(first, list) and not text.startswith("[") else text)
    except yaml.YAMLError:
        raise UserError(
            f"'{words}' cannot be read", "", f"Write it like this: {_as_text(first) or 'a value'}"
        ) from None


def _kinds(annotation: Any) -> list[Any]:
    """The parts of a union, or the annotation itself."""
    return list(get_args(annotation)) if get_origin(annotation) in (Union, UnionType) else [annotation]


def _limits(field: FieldInfo, kind: type) -> tuple[Any, Any, Any]:
    """Lowest and highest value, and step, as the widget takes them."""
    step = kind(1) if kind is int else 0.01
    low: Any = None
    high: Any = None
    for one in field.metadata:
        if isinstance(one, annotated_types.Ge):
            low = kind(one.ge)
        elif isinstance(one, annotated_types.Gt):
            low = kind(one.gt) + (1 if kind is int else 1e-6)
        elif isinstance(one, annotated_types.Le):
            high = kind(one.le)
        elif isinstance(one, annotated_types.Lt):
            high = kind(one.lt) - (1 if kind is int else 1e-6)
    return low, high, step


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return (
        value
        if isinstance(value, str)
        else yaml.safe_dump(value, default_flow_style=True).removesuffix("\n...\n").strip()
    )


def _plain(value: Any) -> str:
    return "none" if value is None else str(value)
