"""How two nestings of plain settings differ."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping
from typing import Any


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, str]:
    """Return, by dotted name, what to tell of each setting that differs; None is one that lacks."""
    then, now = dict(_flat(before)), dict(_flat(after))
    return {
        name: f"{name} was {reprlib.repr(then.get(name))}, is {reprlib.repr(now.get(name))}"
        for name in sorted(then.keys() | now.keys())
        if then.get(name) != now.get(name)
    }


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        yield name, value
        return
    for key, item in value.items():
        yield from _flat(item, f"{name}.{key}" if name else str(key))
