"""From frozen settings dataclasses to a schema that Hydra checks, and back.

The settings of ``automix`` and ``envs`` are the only place where a field, its type and its
default are written. OmegaConf knows neither ``Sequence`` nor ``Literal``, so a twin with lists
and strings is derived from them.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")


@cache
def schema_of(settings: type) -> type:
    """Return the dataclass that OmegaConf can check for a frozen settings dataclass."""
    made: list[tuple[str, Any, Any]] = []
    hints = get_type_hints(settings)
    for field in dataclasses.fields(settings):
        hint = hints[field.name]
        default = _default(field)
        if dataclasses.is_dataclass(hint):
            nested = schema_of(typing.cast(type, hint))
            made.append((field.name, nested, dataclasses.field(default_factory=nested)))
        elif isinstance(default, Sequence) and not isinstance(default, str):
            items = list(default)
            made.append(
                (
                    field.name,
                    _list_of(get_args(hint)[0]),
                    dataclasses.field(default_factory=items.copy),
                )
            )
        else:
            made.append((field.name, _plain(hint), dataclasses.field(default=default)))
    return dataclasses.make_dataclass(settings.__name__, made)


def build(settings: type[T], values: Mapping[str, Any]) -> T:
    """Build the settings from plain values; their own checks run."""
    hints = get_type_hints(settings)
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        hint = hints[name]
        if dataclasses.is_dataclass(hint):
            arguments[name] = build(typing.cast(type, hint), value)
        else:
            arguments[name] = tuple(value) if isinstance(value, list) else value
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
