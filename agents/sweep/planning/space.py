"""The values that overrides leave open: choices and intervals, and points drawn from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep
from hydra.errors import HydraException
from scipy.stats import qmc

from automix.agents.config.compose import choices_of, keys
from automix.agents.sweep.settings import MOST_TRIALS
from automix.core.errors import ConfigError
from automix.core.seeding import generator

DIGITS = 4
"""Of a drawn number: it is written into an override, and read again as the same number."""


@dataclass(frozen=True)
class Choice:
    """A key that takes one of several values.

    Attributes:
        key: Dotted.
        values: As text, in the order in which they were written: neighbours are alike.
    """

    key: str
    values: Sequence[str]

    def at(self, place: float) -> str:
        """Return the value at a place in [0, 1)."""
        return self.values[int(place * len(self.values))]


@dataclass(frozen=True)
class Interval:
    """A key that takes any number between two.

    Attributes:
        key: Dotted.
        low: Included.
        high: Included.
        whole: Only whole numbers.
    """

    key: str
    low: float
    high: float
    whole: bool = False

    @property
    def log(self) -> bool:
        """Whether equal factors count as equal steps: from 0 on none do, within a decade few."""
        return self.low > 0 and self.high >= 10 * self.low

    @property
    def line(self) -> tuple[float, float]:
        """The ends of the line on which equal steps are equal lengths."""
        return self.on_line(self.low), self.on_line(self.high)

    def on_line(self, value: float) -> float:
        """Return where on the line a value is."""
        return math.log10(value) if self.log else value

    def off_line(self, place: float) -> float:
        """Return the value that belongs to a place on the line."""
        return 10.0**place if self.log else place

    def at(self, place: float) -> str:
        """Return the value at a place in [0, 1), as text."""
        low, high = self.line
        return self.text(self.off_line(low + place * (high - low)))

    def text(self, value: float) -> str:
        """Return the nearest value of the interval, as text."""
        value = min(max(value, self.low), self.high)
        if self.whole:
            return str(round(value))
        rounded = float(f"{value:.{DIGITS}g}")
        return repr(float(min(max(rounded, self.low), self.high)))


@dataclass(frozen=True)
class Space:
    """What overrides leave open, and what they fix.

    Attributes:
        fixed: Overrides of one value each.
        dimensions: One for each key with several values, in the order of the overrides.
    """

    fixed: Sequence[str]
    dimensions: Sequence[Choice | Interval]

    @property
    def combinations(self) -> float:
        """How many points it has; infinite with an interval of real numbers."""
        return math.prod(
            len(one.values) if isinstance(one, Choice) else math.inf for one in self.dimensions
        )

    def overrides_with(self, values: Mapping[str, str]) -> list[str]:
        """Return the overrides of a run: those that are fixed, then these values."""
        rest = [word for word in self.fixed if key_of(word) not in values]
        return [*rest, *(f"{key}={value}" for key, value in values.items())]

    def every(self) -> list[dict[str, str]]:
        """Return all points of a space of choices, key to value; the last key changes fastest."""
        values = [one.values for one in self.dimensions if isinstance(one, Choice)]
        return [self._point(row) for row in product(*values)]

    def draw(self, trials: int, seed: int) -> list[dict[str, str]]:
        """Return different points of the space, key to value.

        Choices alone are taken all, or drawn without repetition; with an interval, a Latin
        hypercube spreads the points over every dimension.

        Args:
            trials: How many; 0 is all, at most ``MOST_TRIALS``.
            seed: Root of the draws.

        Raises:
            ConfigError: If there are not as many.
        """
        count = trials or int(min(self.combinations, MOST_TRIALS))
        if count > self.combinations:
            raise _too_few(trials, int(self.combinations))
        rng = generator(seed, "search")
        if math.isfinite(self.combinations):
            return self._chosen(count, rng)
        places = qmc.LatinHypercube(len(self.dimensions), rng=rng).random(count)
        rows = [
            tuple(one.at(place) for one, place in zip(self.dimensions, row, strict=True))
            for row in places.tolist()
        ]
        if len(set(rows)) < count:
            raise _too_few(count, len(set(rows)))
        return [self._point(row) for row in rows]

    def _chosen(self, count: int, rng: np.random.Generator) -> list[dict[str, str]]:
        values = [one.values for one in self.dimensions if isinstance(one, Choice)]
        sizes = [len(one) for one in values]
        numbers = np.sort(rng.choice(math.prod(sizes), count, replace=False))
        rows = np.stack(np.unravel_index(numbers, sizes), axis=1).tolist()
        return [self._point([one[at] for one, at in zip(values, row, strict=True)]) for row in rows]

    def _point(self, values: Sequence[str]) -> dict[str, str]:
        return {one.key: value for one, value in zip(self.dimensions, values, strict=True)}


def key_of(override: str) -> str:
    """Return the key of ``key=value``."""
    return override.partition("=")[0]


def space_of(overrides: Sequence[str], intervals: bool) -> Space:
    """Read the space from the overrides of a run, some with several values.

    ``a=1,2`` and ``a=range(1,5)`` are choices, ``a=interval(1e-4,1e-2)`` is an interval.

    Args:
        overrides: As ``train`` takes them, some with several values.
        intervals: Whether they may have endlessly many.

    Raises:
        ConfigError: If one cannot be read, or a key with several values is given twice.
    """
    fixed: list[str] = []
    dimensions: list[Choice | Interval] = []
    for override in overrides:
        interval = _interval(override) if intervals and "interval(" in override else None
        if interval:
            dimensions.append(interval)
            continue
        (choices,) = choices_of([override])
        if choices.several:
            values = [chosen.partition("=")[2] for chosen in choices.words]
            dimensions.append(Choice(choices.key, values))
        else:
            fixed.append(override)
    # In a search, one value and several of a key are no more than a default and what is searched.
    given = [one.key for one in dimensions] + ([] if intervals else [key_of(one) for one in fixed])
    for one in dimensions:
        if given.count(one.key) > 1:
            raise ConfigError(
                f"{one.key} is given twice", f"write all its values at once: {one.key}=1,2"
            )
    return Space(fixed, dimensions)


def _interval(text: str) -> Interval | None:
    try:
        override = OverridesParser.create().parse_override(text)
        found = override.value()
    except HydraException:
        return None  # whatever reads it next says what is wrong
    if not isinstance(found, IntervalSweep):
        return None
    key = override.key_or_group
    low, high = found.start, found.end
    if low is None or high is None or not -math.inf < low < high < math.inf:
        raise ConfigError(f"{text!r} is no interval, wanted the lesser number first")
    whole = type(keys().get(key)) is int
    if whole and not (low.is_integer() and high.is_integer()):
        raise ConfigError(f"{text!r}: {key} takes whole numbers")
    return Interval(key, low, high, whole)


def _too_few(asked: int, there: int) -> ConfigError:
    return ConfigError(
        f"sweep.trials is {asked}, but the overrides make {there} different trials",
        "give more values, or fewer trials",
    )
