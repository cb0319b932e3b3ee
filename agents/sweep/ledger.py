"""What happened in a sweep, one JSON line each, and what that makes of every trial.

Lines are only ever appended, by the process that drives the sweep. A grid's trial has finished if
its own directory says so; the ledger has how it came about, and what failed.
"""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from typing import Any, Literal

from automix.core.files import append_line, read_bytes

Event = Literal[
    "planned", "started", "retried", "finished", "failed", "interrupted", "stopped", "copied"
]
"""The last two are of searches: a trial was too weak to go on, or has copied a better one."""

TAIL_BYTES = 2**16
"""Longer than any line."""


class Ledger:
    """Appends to ``ledger.jsonl`` and reads it.

    Args:
        path: The file; made with the first line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, event: Event, trial: str, **facts: Any) -> dict[str, Any]:
        """Append what happened to a trial, and return the record."""
        record = {"event": event, "trial": trial, "time": round(time.time(), 3), **facts}
        append_line(self.path, json.dumps(record, allow_nan=False))
        return record

    def mend(self) -> None:
        """End a last line that was torn by a kill, so that the next one stands alone.

        Raises:
            DataError: If the file cannot be read.
        """
        there = self.path.exists()
        torn = there and read_bytes(self.path, math.inf)[-1:] not in (b"", b"\n")
        if torn:
            append_line(self.path, "")

    def records(self) -> list[dict[str, Any]]:
        """Return all records in order.

        Raises:
            DataError: If the file cannot be read.
        """
        return [line for line in json_lines(self.path) if {"event", "trial"} <= set(line)]

    def last(self) -> dict[str, dict[str, Any]]:
        """Return the last record of each trial."""
        return {record["trial"]: record for record in self.records()}


def json_lines(path: Path) -> list[dict[str, Any]]:
    """Return the records of a file that may end in a line torn by a kill: that one is left out.

    Raises:
        DataError: If the file is there and cannot be read.
    """
    if not path.exists():
        return []
    text = read_bytes(path, math.inf).decode(errors="replace")
    found = (_parsed(line) for line in text.split("\n")[:-1])
    return [record for record in found if isinstance(record, dict)]


def last_line(path: Path) -> dict[str, Any]:
    """Return the last whole record of a file that grows; empty if there is none yet."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - TAIL_BYTES))
            lines = file.read().decode("utf-8", errors="replace").split("\n")[:-1]
    except OSError:
        return {}
    record = _parsed(lines[-1]) if lines else None
    return record if isinstance(record, dict) else {}


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
