"""From frozen settings dataclasses to a schema that Hydra checks, and back.

The settings of ``automix`` and ``envs`` are the only place where a field, its type and its
default are written. OmegaConf knows neither ``Sequence`` nor ``Literal``, so a twin with lists
and strings is derived from them.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from automix.core.errors import ConfigError

T = TypeVar("T")


@cache
def schema_of(settings: type, chosen: type | None = None) -> type:
    """Return the dataclass that OmegaConf can check for a frozen settings dataclass.

    Args:
        settings: The dataclass.
        chosen: What a section is whose class depends on its name; it is left open without.
    """
    made: list[tuple[str, Any, Any]] = []
    hints = get_type_hints(settings)
    for field in dataclasses.fields(settings):
        hint = hints[field.name]
        if field.metadata.get("chosen"):
            hint = chosen or Any
        if dataclasses.is_dataclass(hint):
            nested = schema_of(typing.cast(type, hint))
            made.append((field.name, nested, dataclasses.field(default_factory=nested)))
            continue
        default = None if hint is Any else _default(field)
        if isinstance(default, Mapping):
            made.append((field.name, dict[str, Any], dataclasses.field(default_factory=dict)))
        elif isinstance(default, Sequence) and not isinstance(default, str):
            items = dataclasses.field(default_factory=list(default).copy)
            made.append((field.name, _list_of(get_args(hint)[0]), items))
        else:
            made.append((field.name, _plain(hint), dataclasses.field(default=default)))
    return dataclasses.make_dataclass(settings.__name__, made)


def build(settings: type[T], values: Mapping[str, Any], section: str = "") -> T:
    """Build the settings from plain values; their own checks run.

    Raises:
        ConfigError: If a number without a range is not finite, called ``<section><name>``, or as
            the checks have it.
    """
    hints = get_type_hints(settings)
    arguments: dict[str, Any] = {}
    for field in dataclasses.fields(settings):  # type: ignore[arg-type]
        if field.name not in values:
            continue
        value, hint = values[field.name], hints[field.name]
        checked = field.metadata.get("range")
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, float) and not checked and not math.isfinite(number):
                raise ConfigError(f"{section}{field.name} is {number}, wanted a finite number")
        if dataclasses.is_dataclass(hint):
            choose = field.metadata.get("chosen")
            kind = choose(value["name"]) if choose else typing.cast(type, hint)
            arguments[field.name] = build(kind, value, f"{section}{field.name}.")
        else:
            arguments[field.name] = tuple(value) if isinstance(value, list) else value
    return settings(**arguments)


def _list_of(item: Any) -> Any:
    return list[item]


def _plain(hint: Any) -> Any:
    if get_origin(hint) is Literal:
        return str
    if isinstance(hint, types.UnionType):
        return typing.Optional[next(a for a in get_args(hint) if a is not type(None))]  # noqa: UP045
    return hint


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default
