"""One table type for everything that has a name: mixes, saliency, labels, data, rewards ..."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from types import ModuleType
from typing import Any, Generic, TypeVar

from automix.core.errors import ConfigError, did_you_mean

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Info:
    """Facts about a registered thing that its users ask for; a registry may add some by a subclass.

    Each fact is documented where its registry is defined, and has a default unless everything in
    the registry must state it.
    """

    @property
    def facts(self) -> dict[str, Any]:
        """The facts that can be printed: by name, without functions and what does not apply."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {n: value for n, value in found.items() if value is not None and not callable(value)}


@dataclass(frozen=True, kw_only=True)
class NetInfo(Info):
    """Facts about a thing that may look inside the classifier."""

    requires: tuple[str, ...] = ()
    """What the classifier must offer: names in ``automix.training.requirements.ABILITIES``."""

    def required(self, *, guided: bool) -> tuple[str, ...]:
        """Return what the classifier must offer to a mix that saliency guides, or does not."""
        return self.requires

    @property
    def needs(self) -> tuple[str, ...]:
        """Everything that it asks of a training run.

        What the classifier must offer; ``saliency`` of the action; ``classifier`` or ``gradient``:
        answers of a classifier or its gradients; ``teacher`` or ``average``, if that is not the
        classifier in training; ``state``: what is kept from step to step.
        """
        return self.required(guided=False)


I = TypeVar("I", bound=Info)  # noqa: E741


@dataclass(frozen=True)
class Entry(Generic[T, I]):
    """One registered thing."""

    name: str
    value: T
    info: I

    @property
    def summary(self) -> str:
        """The first line of the docstring."""
        return (inspect.getdoc(self.value) or "").split("\n", 1)[0]


class Registry(Generic[T, I]):
    """Name -> thing, with closest-match errors.

    Args:
        kind: What the things are, in words that fit "... is not a <kind>".
        info: The record of facts about each thing.
        package: If given, its modules are imported at the first look-up, so that a file
            dropped into that folder registers itself.
    """

    def __init__(self, kind: str, info: type[I], package: str | None = None) -> None:
        self.kind = kind
        self._info = info
        self._package = package
        self._entries: dict[str, Entry[T, I]] = {}

    def register(self, name: str, info: I | None = None) -> Callable[[T], T]:
        """Return a decorator that stores a thing under ``name`` with facts about it.

        Args:
            name: What it is called.
            info: The facts; by default those of a record that states nothing.
        """
        facts = self._info() if info is None else info

        def store(value: T) -> T:
            if name in self._entries:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._entries[name] = Entry(name, value, facts)
            return value

        return store

    def entry(self, name: str) -> Entry[T, I]:
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

    def info(self, name: str) -> I:
        """Return the facts about the thing called ``name``; errors as of ``entry``."""
        return self.entry(name).info

    def __contains__(self, name: object) -> bool:
        self._discover()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        self._discover()
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        self._discover()
        return len(self._entries)

    def entries(self) -> list[Entry[T, I]]:
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
