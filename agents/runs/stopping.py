"""Ctrl-C and SIGTERM: once ends the epoch and leaves a checkpoint, twice stops at once."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

log = logging.getLogger("automix")


class Stopping:
    """Knows whether the run was asked to stop; called, it returns the signal's number, or 0."""

    def __init__(self) -> None:
        self._number = 0
        self._patient = False

    def __call__(self) -> int:
        """Return the number of the signal that asked to stop, 0 if none did."""
        return self._number

    @contextmanager
    def patiently(self) -> Iterator[None]:
        """Let the block end an epoch before it stops; whoever is in it asks for ``self()``."""
        self._patient = True
        try:
            yield
        finally:
            self._patient = False

    def hear(self, number: int, frame: FrameType | None) -> None:
        """Take a signal."""
        if self._patient and not self._number:
            self._number = number
            log.warning("stopping after this epoch, with a checkpoint; once more stops at once")
            return
        stop(number)


def stop(number: int) -> None:
    """Raise what a signal means."""
    raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)


@contextmanager
def stopping() -> Iterator[Stopping]:
    """Hear SIGINT and SIGTERM inside the block; a thread other than the main one hears none."""
    asked = Stopping()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    # Who started this process in the background may have had it ignore Ctrl-C.
    heard = [number for number in numbers if before[number] is not signal.SIG_IGN]
    for number in heard:
        signal.signal(number, asked.hear)
    try:
        yield asked
    finally:
        for number in heard:
            signal.signal(number, before[number])


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Let SIGTERM break the block off as Ctrl-C does; the process still ends as SIGTERM has it.

    Ray's loops let nothing but a KeyboardInterrupt through.

    Raises:
        SystemExit: With code 143, in the place of that KeyboardInterrupt.
    """
    came = False

    def hear(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, hear)
    try:
        yield
    except KeyboardInterrupt:
        if came:
            stop(signal.SIGTERM)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
