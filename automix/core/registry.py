"""One table type for everything that has a name: mixes, saliency, labels, data, rewards ..."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Generic, TypeVar

from automix.core.errors import ConfigError, did_you_mean

T = TypeVar("T")


@dataclass(frozen=True)
class Entry(Generic[T]):
    """One registered thing."""

    name: str
    value: T
    tags: Mapping[str, object] = field(default_factory=dict)
    """Facts about the thing that its users ask for, such as ``guided=True`` of a mix."""

    @property
    def summary(self) -> str:
        """The first line of the docstring."""
        return (inspect.getdoc(self.value) or "").split("\n", 1)[0]


class Registry(Generic[T]):
    """Name -> thing, with closest-match errors.

    Args:
        kind: What the things are, in words that fit "... is not a <kind>".
        package: If given, its modules are imported at the first look-up, so that a file
            dropped into that folder registers itself.
    """

    def __init__(self, kind: str, package: str | None = None) -> None:
        self.kind = kind
        self._package = package
        self._entries: dict[str, Entry[T]] = {}

    def register(self, name: str, **tags: object) -> Callable[[T], T]:
        """Return a decorator that stores a thing under ``name`` with facts about it."""

        def store(value: T) -> T:
            if name in self._entries:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._entries[name] = Entry(name, value, tags)
            return value

        return store

    def entry(self, name: str) -> Entry[T]:
        """Return the entry called ``name``.

        Raises:
            ConfigError: If there is none; the closest name is offered.
        """
        self._discover()
        try:
            return self._entries[name]
        except KeyError:
            raise ConfigError(
                f"{name!r} is not a {self.kind}.{did_you_mean(name, self._entries)}",
                f"known: {', '.join(sorted(self._entries))}",
            ) from None

    def __getitem__(self, name: str) -> T:
        return self.entry(name).value

    def __contains__(self, name: object) -> bool:
        self._discover()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        self._discover()
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        self._discover()
        return len(self._entries)

    def entries(self) -> list[Entry[T]]:
        """Return all entries, by name."""
        return [self.entry(name) for name in self]

    def _discover(self) -> None:
        if self._package is None:
            return
        package, self._package = self._package, None
        import_modules(importlib.import_module(package))


def import_modules(package: ModuleType) -> None:
    """Import every module directly inside a package, in the order of their names."""
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")


def keyword_defaults(function: Callable[..., object]) -> dict[str, Any]:
    """Return the settings of a registered function: its keyword-only arguments with defaults."""
    return {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
