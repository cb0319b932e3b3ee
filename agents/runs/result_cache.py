"""What a run has finished, piece by piece, so that a resumed one does it only once.

Pieces of work are functions of the settings alone, so that a result on record is as good as one
that is worked out again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from automix.agents.parallel.pool import map_in_order
from automix.agents.parallel.worker import Worker
from automix.agents.runs.task_checkpoint import TaskCheckpoint
from automix.core.files import append_line, write_text

T = TypeVar("T")

log = logging.getLogger("automix")


class ResultCache:
    """JSON lines of finished pieces of work, each under a name.

    Args:
        path: A file, which need not exist; None records nothing.
        share: As ``checkpoint.share``, for the pieces that are under way.
    """

    def __init__(self, path: Path | None = None, share: float = 0.02) -> None:
        self._path, self._share = path, share
        self._known = _read(path) if path and path.exists() else {}

    def known(self, name: str) -> Any | None:
        """Return the result of a piece of work, None if it is not on record."""
        return self._known.get(name)

    def note(self, name: str, result: Any) -> None:
        """Record the result of a piece of work; JSON must be able to say it."""
        if self._path is None:
            return
        append_line(self._path, json.dumps({"name": name, "result": result}))
        self._known[name] = result
        halfway = self.halfway(name).path
        if halfway:
            halfway.unlink(missing_ok=True)

    def halfway(self, name: str) -> TaskCheckpoint:
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
            workers: Who work.
            function: Called as ``function(state, *item, halfway)``.
            items: Of work; the same ones in the same order in a resumed run.
            on_done: Called once for each.
        """
        names = [f"{what}/{number}" for number in range(len(items))]
        left = [number for number, name in enumerate(names) if name not in self._known]
        for _ in range(len(items) - len(left)):
            on_done()

        def finished(place: int, result: T) -> None:
            self.note(names[left[place]], result)
            on_done()

        todo = [(*items[number], self.halfway(names[number])) for number in left]
        fresh = map_in_order(workers, function, todo, finished)
        results = dict(zip(left, fresh, strict=True))
        return [
            results[number] if number in results else self._known[name]
            for number, name in enumerate(names)
        ]


def _read(path: Path) -> dict[str, Any]:
    """Read what is whole; what a kill cut off is removed from the file."""
    lines = path.read_bytes().splitlines(keepends=True)
    known: dict[str, Any] = {}
    for number, line in enumerate(lines):
        try:
            if not line.endswith(b"\n"):
                raise ValueError("it is cut off")
            record = json.loads(line)
            known[record["name"]] = record["result"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            log.warning("%s, line %d: %s; what follows is done again", path, number + 1, error)
            write_text(path, b"".join(lines[:number]).decode())
            break
    return known
