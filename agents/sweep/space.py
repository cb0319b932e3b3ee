"""The search space that words span: choices and intervals, and trials drawn from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep
from hydra.errors import HydraException
from scipy.stats import qmc

from automix.agents.config.compose import choices_of, keys
from automix.agents.sweep.search_settings import MOST_TRIALS
from automix.core.errors import ConfigError
from automix.core.seeding import generator

DIGITS = 4
"""Of a drawn number: it is written as a word, and read again as the same number."""


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
    """What words leave open, and what they fix.

    Attributes:
        fixed: Words of one value each.
        dimensions: One for each key with several values, in the order of the words.
    """

    fixed: Sequence[str]
    dimensions: Sequence[Choice | Interval]

    @property
    def combinations(self) -> float:
        """How many points it has; infinite with an interval of real numbers."""
        return math.prod(
            len(one.values) if isinstance(one, Choice) else math.inf for one in self.dimensions
        )

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
        points = [
            {one.key: one.at(place) for one, place in zip(self.dimensions, row, strict=True)}
            for row in places.tolist()
        ]
        different = len({tuple(point.values()) for point in points})
        if different < count:
            raise _too_few(count, different)
        return points

    def _chosen(self, count: int, rng: np.random.Generator) -> list[dict[str, str]]:
        sizes = [len(one.values) for one in self.dimensions if isinstance(one, Choice)]
        numbers = np.sort(rng.choice(math.prod(sizes), count, replace=False))
        rows = np.stack(np.unravel_index(numbers, sizes), axis=1).tolist()
        return [
            {
                one.key: one.values[place]
                for one, place in zip(self.dimensions, row, strict=True)
                if isinstance(one, Choice)
            }
            for row in rows
        ]


def space_of(words: Sequence[str]) -> Space:
    """Read the search space from the words of a run, some with several values.

    ``a=1,2`` and ``a=range(1,5)`` are choices, ``a=interval(1e-4,1e-2)`` is an interval.

    Raises:
        ConfigError: If a word cannot be read, or none has several values.
    """
    fixed: list[str] = []
    dimensions: list[Choice | Interval] = []
    for word in words:
        interval = _interval(word)
        if interval:
            dimensions.append(interval)
            continue
        (choices,) = choices_of([word])
        if choices.several:
            values = [chosen.partition("=")[2] for chosen in choices.words]
            dimensions.append(Choice(choices.key, values))
        else:
            fixed.append(word)
    if not dimensions:
        raise ConfigError(
            "nothing to search: no word has several values",
            "for example agent.learning_rate=1e-4,1e-3 or agent.gamma=interval(0.9,1)",
        )
    return Space(fixed, dimensions)


def _interval(word: str) -> Interval | None:
    if "interval(" not in word:
        return None
    try:
        override = OverridesParser.create().parse_override(word)
        found = override.value()
    except HydraException:
        return None  # whoever reads it next says what is wrong
    if not isinstance(found, IntervalSweep):
        return None
    key = override.key_or_group
    low, high = found.start, found.end
    if low is None or high is None or not -math.inf < low < high < math.inf:
        raise ConfigError(f"{word!r} is no interval, wanted the lesser number first")
    whole = type(keys().get(key)) is int
    if whole and not (low.is_integer() and high.is_integer()):
        raise ConfigError(f"{word!r}: {key} takes whole numbers")
    return Interval(key, low, high, whole)


def _too_few(asked: int, there: int) -> ConfigError:
    return ConfigError(
        f"sweep.trials is {asked}, but the words make {there} different trials",
        "give more values, or fewer trials",
    )
