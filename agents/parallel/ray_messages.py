"""What goes between this process and a Ray actor, in a form that Ray sends fast.

Ray writes numbers, texts, bytes and lists of them by msgpack; one thing of another kind, be it a
tuple or an array, and its pickler is called for it. For the messages of a step of two actors that
takes as long again as all else that Ray does. So tuples, dicts, NumPy arrays, plain dataclasses
and functions of modules are written as lists, tag first. What is none of these stays as it is,
and Ray sends it in its own way.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import fields
from types import FunctionType
from typing import Any

import numpy as np


def packed(value: Any) -> Any:
    """Return a value as lists; ``unpacked`` gives an equal one, whose arrays are its own."""
    pack = _PACK.get(type(value))
    if pack:
        return pack(value)
    if isinstance(value, np.generic) and value.dtype.kind in _NUMBERS:
        return [_SCALAR, *_content(np.asarray(value))]
    if _is_plain(type(value)):
        inner = [packed(getattr(value, field.name)) for field in fields(value)]
        return [_OBJECT, *_name(type(value)), inner]
    return value


def unpacked(message: Any) -> Any:
    """Return what was packed.

    Raises:
        ImportError: If it speaks of a module that is not to be had here.
        AttributeError: If that module lacks what it speaks of.
    """
    if type(message) is not list:
        return message
    tag, *rest = message
    return _UNPACK[tag](*rest)


_LIST, _TUPLE, _DICT, _ARRAY, _SCALAR, _FUNCTION, _OBJECT = range(7)
_NUMBERS = "biufc"
"""Kinds of NumPy's types that are bytes and nothing else."""


def _pack_array(array: np.ndarray) -> Any:
    return [_ARRAY, *_content(array)] if array.dtype.kind in _NUMBERS else array


def _content(array: np.ndarray) -> list[Any]:
    return [array.dtype.str, list(array.shape), array.tobytes()]


def _unpack_array(kind: str, shape: list[int], content: bytes) -> np.ndarray:
    return np.frombuffer(content, dtype=kind).reshape(shape).copy()


def _pack_function(function: FunctionType) -> Any:
    return [_FUNCTION, *_name(function)] if _is_found(function) else function


def _is_plain(kind: type) -> bool:
    """Return whether a class is a dataclass that its fields make anew."""
    own = getattr(kind, "__dataclass_fields__", None)
    return (
        own is not None
        and "__dataclass_params__" in vars(kind)
        and not hasattr(kind, "__post_init__")
        and all(field.init and not field.kw_only for field in own.values())
        and _is_found(kind)
    )


def _is_found(named: Any) -> bool:
    """Return whether another process finds the same by its name."""
    module, name = _name(named)
    there = vars(sys.modules[module]) if module in sys.modules else {}
    return module != "__main__" and there.get(name) is named


def _name(named: Any) -> tuple[str, str]:
    return named.__module__, named.__qualname__


def _found(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


_PACK: dict[type, Callable[[Any], Any]] = {
    list: lambda value: [_LIST, *map(packed, value)],
    tuple: lambda value: [_TUPLE, *map(packed, value)],
    dict: lambda value: [_DICT, *map(packed, value), *map(packed, value.values())],
    np.ndarray: _pack_array,
    FunctionType: _pack_function,
}
_UNPACK: dict[int, Callable[..., Any]] = {
    _LIST: lambda *items: [unpacked(item) for item in items],
    _TUPLE: lambda *items: tuple(unpacked(item) for item in items),
    _DICT: lambda *items: dict(
        zip(
            map(unpacked, items[: len(items) // 2]),
            map(unpacked, items[len(items) // 2 :]),
            strict=True,
        )
    ),
    _ARRAY: _unpack_array,
    _SCALAR: lambda *content: _unpack_array(*content)[()],
    _FUNCTION: _found,
    _OBJECT: lambda module, name, inner: _found(module, name)(*map(unpacked, inner)),
}
