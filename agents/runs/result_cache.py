"""What a run has finished, piece by piece, so that a resumed one does it only once.

Pieces of work are functions of the settings alone, so that a result on record is as good as one
that is worked out again.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from automix.agents.parallel.pool import map_in_order
from automix.agents.parallel.worker import Worker
from automix.agents.runs.checkpoints import SaveThrottle
from automix.core.errors import DataError
from automix.core.files import append_line, read_bytes, write_text
from automix.core.snapshots import load_snapshot, save_snapshot

T = TypeVar("T")

log = logging.getLogger("automix")


GUESS_S = 0.2
"""What a save is taken to cost at first, so that pieces of work of a few seconds do none."""


@dataclass(frozen=True)
class TaskCheckpoint:
    """Where one piece of work leaves its state; small, so that it travels to workers.

    A piece of work begins at ``load()`` if that is not None, and leaves its own by ``saver()``, so
    that a kill costs an epoch and not the piece. The file is of no use when the piece is done.
    """

    path: Path | None = None
    """A file; without one nothing is saved."""
    share: float = 0.02
    """As ``checkpoint.share``."""

    def load(self) -> Any | None:
        """Return the last state, None if there is none, or none that can be read."""
        if self.path is None or not self.path.exists():
            return None
        try:
            return load_snapshot(self.path)
        except DataError as error:
            log.warning("%s; this piece of work starts afresh", error)
            return None

    def saver(self) -> Saver:
        """Return what saves the state of this piece of work."""
        return Saver(self.path, self.share if self.path else 0.0)


class Saver:
    """Saves a state when that is due.

    Args:
        path: A file.
        share: The most of the time that it may take; 0 saves nothing.
    """

    def __init__(self, path: Path | None, share: float) -> None:
        self._path, self._throttle = path, SaveThrottle(share, GUESS_S)

    def save_if_due(self, state: Callable[[], Any]) -> None:
        """Save what ``state`` returns, if it is time to."""
        if self._path is not None and self._throttle.due():
            with self._throttle.saving():
                save_snapshot(self._path, state())


class ResultCache:
    """JSON lines of finished pieces of work, each under a name.

    Args:
        path: A file, which need not exist; None records nothing.
        share: As ``checkpoint.share``, for the pieces that are under way.
    """

    def __init__(self, path: Path | None = None, share: float = 0.02) -> None:
        self._path, self._share = path, share
        self._results = _read(path) if path and path.exists() else {}

    def get(self, name: str) -> Any | None:
        """Return the result of a piece of work, None if it is not on record."""
        return self._results.get(name)

    def add(self, name: str, result: Any) -> None:
        """Record the result of a piece of work; JSON must be able to say it."""
        if self._path is None:
            return
        append_line(self._path, json.dumps({"name": name, "result": result}))
        self._results[name] = result
        unfinished = self.checkpoint(name).path
        if unfinished:
            unfinished.unlink(missing_ok=True)

    def checkpoint(self, name: str) -> TaskCheckpoint:
        """Return where a piece of work may leave its state while it is under way."""
        if self._path is None:
            return TaskCheckpoint()
        file = name.replace("/", "_").replace(" ", "_")
        return TaskCheckpoint(self._path.with_name(f"{file}.safetensors"), self._share)

    def map(
        self,
        what: str,
        workers: Sequence[Worker],
        function: Callable[..., T],
        items: Sequence[tuple[Any, ...]],
        on_done: Callable[[], None] = lambda: None,
    ) -> list[T]:
        """Do as ``map_in_order`` does, but for the items whose results are on record.

        Args:
            what: Names the pieces, together with their number.
            workers: Share the items.
            function: Called as ``function(state, *item, checkpoint)``.
            items: Of work; the same ones in the same order in a resumed run.
            on_done: Called once for each.
        """
        names = [f"{what}/{number}" for number in range(len(items))]
        left = [number for number, name in enumerate(names) if name not in self._results]
        for _ in range(len(items) - len(left)):
            on_done()

        def finished(place: int, result: T) -> None:
            self.add(names[left[place]], result)
            on_done()

        todo = [(*items[number], self.checkpoint(names[number])) for number in left]
        fresh = map_in_order(workers, function, todo, finished)
        results = dict(zip(left, fresh, strict=True))
        return [
            results[number] if number in results else self._results[name]
            for number, name in enumerate(names)
        ]


def _read(path: Path) -> dict[str, Any]:
    """Read what is whole; what a kill cut off is removed from the file."""
    lines = read_bytes(path, math.inf).splitlines(keepends=True)
    results: dict[str, Any] = {}
    for number, line in enumerate(lines):
        try:
            if not line.endswith(b"\n"):
                raise ValueError("it is cut off")
            record = json.loads(line)
            results[record["name"]] = record["result"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            log.warning("%s, line %d: %s; what follows is done again", path, number + 1, error)
            write_text(path, b"".join(lines[:number]).decode())
            break
    return results
