"""What a setting affects and which values it takes, said where the field is written."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from numbers import Integral, Real
from typing import Any, Literal, get_type_hints

from automix.core.errors import ConfigError

Affects = Literal["result", "shape", "speed"]
"""``result``: what comes out. ``shape``: that, and the form of a saved state. ``speed``: neither,
so that a run that goes on may change it."""


@dataclass(frozen=True)
class Range:
    """The finite numbers that a setting takes."""

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float = math.inf
    whole: bool = False
    hint: str = ""
    """Of the error."""

    def __contains__(self, value: float) -> bool:
        """Return whether a number is one of them; not a number is none."""
        if not isinstance(value, Real):
            return False
        low = value > self.above if self.above is not None else value >= (self.least or 0)
        high = value < self.below if self.most is None else value <= self.most
        return low and high and (isinstance(value, Integral) or not self.whole)

    def check(self, name: str, value: float) -> None:
        """Refuse a number that is none of them.

        Raises:
            ConfigError: If it is not; it is called by its name.
        """
        if value not in self:
            finite = ", finite" * (value in (math.inf, -math.inf))
            raise ConfigError(f"{name} is {value!r}, wanted {self}{finite}", self.hint)

    def __str__(self) -> str:
        if self.above is not None:
            most = f", at most {self.most}" if self.most else ""
            below = f" and below {self.below}" if self.below < math.inf else ""
            return f"a number above {self.above}{most}{below}"
        if self.most is not None:
            return f"a number from {self.least} to {self.most}"
        if self.below < math.inf:
            return f"{self.least} to below {self.below}"
        return f"{'a whole number, ' * self.whole}{self.least} or more"


def setting(
    default: Any = MISSING,
    *,
    factory: Callable[[], Any] | None = None,
    affects: Affects = "result",
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float = math.inf,
    whole: bool = False,
    hint: str = "",
    chosen: Callable[[str], type] | None = None,
) -> Any:
    """Return a field of a settings dataclass; one that is written plainly affects the result.

    Args:
        default: Of the field.
        factory: Makes the default, in its place.
        affects: What depends on it.
        least: The smallest number that it takes, for ``check_ranges``.
        most: The largest; needs ``least``.
        above: What it must exceed, in the place of ``least``.
        below: What must exceed it, in the place of ``most``.
        whole: Whether it must be a whole number.
        hint: What to do about a number outside.
        chosen: For a section whose class depends on its ``name``: returns the class.
    """
    limits = None
    if least is not None or above is not None:
        limits = Range(least, most, above, below, whole, hint)
    metadata = {"affects": affects, "range": limits, "chosen": chosen}
    if factory is not None:
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata)


def check_ranges(settings: Any, section: str = "") -> None:
    """Check the numbers of a settings dataclass against what its fields say.

    Raises:
        ConfigError: If one is outside; it is called ``<section>.<name>``.
    """
    for one in fields(settings):
        limits: Range | None = one.metadata.get("range")
        if limits is not None:
            where = f"{section}.{one.name}" if section else one.name
            limits.check(where, getattr(settings, one.name))


def within(**ranges: Range) -> Callable[..., None]:
    """Return a function that takes numbers by keyword and refuses those outside their range."""

    def check(**numbers: float) -> None:
        for name in numbers.keys() & ranges.keys():
            ranges[name].check(name, numbers[name])

    return check


def affects(settings: object, name: str) -> Affects:
    """Return what a setting affects, by its dotted name; a name that is not known the result.

    Args:
        settings: A settings dataclass, or an instance where a section's class was chosen by name.
        name: Such as ``trainer.mix.lam``.
    """
    first, _, rest = name.partition(".")
    one = next((f for f in fields(settings) if f.name == first), None)  # type: ignore[arg-type]
    if one is None:
        return "result"
    if rest:
        return affects(_section(settings, first), rest)
    found: Affects = one.metadata.get("affects", "result")
    return found


def names_that_affect(settings: object, what: Affects, prefix: str = "") -> list[str]:
    """Return the dotted names of the settings that affect this."""
    found: list[str] = []
    for one in fields(settings):  # type: ignore[arg-type]
        section = _section(settings, one.name)
        if is_dataclass(section):
            found += names_that_affect(section, what, f"{prefix}{one.name}.")
        elif one.metadata.get("affects", "result") == what:
            found.append(prefix + one.name)
    return found


def differences(
    settings: object,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    ignore: Callable[[str], bool] | None = None,
) -> dict[str, str]:
    """Return, by dotted name, how two nestings of plain settings differ in more than speed.

    Args:
        settings: Whose fields say what they affect.
        before: Plain values; what is missing counts as None.
        after: The same.
        ignore: Says of a dotted name whether its value may differ, beside those of speed.
    """
    then, now = dict(_flat(before)), dict(_flat(after))
    return {
        name: f"{name} was {reprlib.repr(then.get(name))}, is {reprlib.repr(now.get(name))}"
        for name in sorted(then.keys() | now.keys())
        if then.get(name) != now.get(name)
        and affects(settings, name) != "speed"
        and not (ignore and ignore(name))
    }


def values_that_decide(settings: object) -> dict[str, Any]:
    """Return the values that results depend on, nested; a section without any is left out."""
    found: dict[str, Any] = {}
    for one in fields(settings):  # type: ignore[arg-type]
        value = getattr(settings, one.name)
        if is_dataclass(value):
            value = values_that_decide(value)
            if value:
                found[one.name] = value
        elif one.metadata.get("affects") != "speed":
            found[one.name] = value
    return found


def _section(settings: object, name: str) -> Any:
    if isinstance(settings, type):
        return get_type_hints(settings)[name]
    return getattr(settings, name)


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        yield name, value
        return
    for key, item in value.items():
        yield from _flat(item, f"{name}.{key}" if name else str(key))
