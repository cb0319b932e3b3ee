"""How often notes of the state may be taken, so that they cost a small share of the time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Pace:
    """Says when the next note is due: when the last one is a small share of the time since.

    Args:
        share: The most of the time that notes may take, in [0, 1]; 0 never, 1 always.
        guess_s: What the first note is taken to cost; with 0 it is due at once.
        clock: Seconds.
    """

    def __init__(
        self, share: float, guess_s: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._share, self._clock = share, clock
        self._cost, self._last = guess_s, clock()

    def due(self) -> bool:
        """Return whether a note may be taken now."""
        waited = self._clock() - self._last
        return self._share > 0 and waited * self._share >= self._cost * (1 - self._share)

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Measure what a note costs while the block takes it."""
        start = self._clock()
        yield
        self.took(self._clock() - start)

    def took(self, seconds: float | None) -> None:
        """Say that a note was taken just now, and what it cost, if that is known."""
        self._last = self._clock()
        if seconds is not None:
            self._cost = seconds
