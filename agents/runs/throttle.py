"""How often notes of the state may be taken, so that they cost a small share of the time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class SaveThrottle:
    """Says when the next note is due: when all of them, with it, are a small share of the time.

    The next one is taken to cost what the last one did. One that was slow is paid for by a longer
    wait, whatever the guess was.

    Args:
        share: The most of the time that notes may take, in [0, 1]; 0 never, 1 always.
        guess_s: What the first note is taken to cost; with 0 it is due at once.
        clock: Seconds.
    """

    def __init__(
        self, share: float, guess_s: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._share, self._clock = share, clock
        self._cost, self._spent, self._start = guess_s, 0.0, clock()

    def due(self) -> bool:
        """Return whether a note may be taken now."""
        worked = self._clock() - self._start - self._spent
        noted = self._spent + self._cost
        return self._share > 0 and noted * (1 - self._share) <= worked * self._share

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Measure what a note costs while the block takes it."""
        start = self._clock()
        yield
        self.took(self._clock() - start)

    def took(self, seconds: float | None) -> None:
        """Say that a note was taken just now, and what it cost, if that is known."""
        if seconds is not None:
            self._cost = seconds
        self._spent += self._cost
