"""Pieces of work that note how far they are, so that a kill costs an epoch and not the piece."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from automix.agents.runs.throttle import SaveThrottle
from automix.core.errors import DataError
from automix.core.snapshots import load_snapshot, save_snapshot

GUESS_S = 0.2
"""What a note is taken to cost at first, so that pieces of work of a few seconds write none."""

log = logging.getLogger("automix")


@dataclass(frozen=True)
class TaskCheckpoint:
    """Where one piece of work leaves its state; small, so that it travels to workers.

    A piece of work begins at ``state()`` if there is one, and notes its own by ``saver()``. The
    file is of use to nobody when the piece is done.
    """

    path: Path | None = None
    """A file; without one nothing is noted."""
    share: float = 0.02
    """As ``checkpoint.share``."""

    def state(self) -> Any | None:
        """Return what was noted last, None if nothing was, or nothing that can be read."""
        if self.path is None or not self.path.exists():
            return None
        try:
            return load_snapshot(self.path)
        except DataError as error:
            log.warning("%s; this piece of work starts afresh", error)
            return None

    def saver(self) -> Saver:
        """Return what notes the state of this piece of work."""
        return Saver(self.path, self.share if self.path else 0.0)


class Saver:
    """Notes a state when that is due.

    Args:
        path: A file.
        share: The most of the time that it may take; 0 notes nothing.
    """

    def __init__(self, path: Path | None, share: float) -> None:
        self._path, self._pace = path, SaveThrottle(share, GUESS_S)

    def due(self) -> bool:
        """Return whether the state is to be noted now."""
        return self._path is not None and self._pace.due()

    def save(self, state: Any) -> None:
        """Note the state."""
        if self._path is not None:
            with self._pace.noting():
                save_snapshot(self._path, state)
