"""How the winner of a search has come about: ``schedule.jsonl``, from which it can be replayed.

The first line has the overrides of the run; each further one says from which update on which values
hold. Where the winner has copied another trial, the lines before are the other's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from automix.agents.sweep.ledger import json_lines
from automix.core.errors import DataError
from automix.core.files import short, write_text

FORMAT = 1


@dataclass(frozen=True)
class SearchSegment:
    """Some updates with the same values.

    Attributes:
        update: The values hold after so many updates; the first segment has 0.
        values: Of the searched keys, as text.
        trial: That learned it; empty in a replay.
    """

    update: int
    values: Mapping[str, str]
    trial: str = ""


@dataclass(frozen=True)
class Schedule:
    """All that a replay needs.

    Attributes:
        overrides: Of the run, but for the values.
        updates: Of its whole learning.
        segments: In order.
    """

    overrides: Sequence[str]
    updates: int
    segments: Sequence[SearchSegment]


def write_schedule(path: Path, schedule: Schedule) -> None:
    """Write ``schedule.jsonl``."""
    first = {"format": FORMAT, "updates": schedule.updates, "words": list(schedule.overrides)}
    rest = [
        {"update": one.update, "trial": one.trial, "values": dict(one.values)}
        for one in schedule.segments
    ]
    write_text(path, "".join(json.dumps(line) + "\n" for line in (first, *rest)))


def read_schedule(path: Path) -> Schedule:
    """Read ``schedule.jsonl``.

    Raises:
        DataError: If it is missing or no schedule.
    """
    lines = json_lines(path)
    if not lines:
        raise DataError(f"{path} is no schedule", "give the schedule.jsonl of a search")
    first, *rest = lines
    overrides, updates = first.get("words"), first.get("updates")
    if first.get("format") != FORMAT or not _is_texts(overrides) or not _is_count(updates):
        raise DataError(f"{path}: line 1 does not have format {FORMAT}, words and updates")
    segments = [_segment(path, number, line) for number, line in enumerate(rest, 2)]
    starts = [one.update for one in segments]
    assert isinstance(updates, int)
    if not starts or starts[0] != 0 or starts != sorted(set(starts)) or starts[-1] >= updates:
        raise DataError(f"{path}: updates are {short(starts)}, wanted from 0 on, below {updates}")
    if len({tuple(sorted(one.values)) for one in segments}) > 1:
        raise DataError(f"{path}: its lines do not give values to the same keys")
    return Schedule(overrides, updates, segments)  # type: ignore[arg-type]


def _segment(path: Path, number: int, line: Mapping[str, Any]) -> SearchSegment:
    update, values = line.get("update"), line.get("values")
    whole = isinstance(values, dict) and _is_texts(list(values.values()))
    if not whole or not _is_count(update):
        raise DataError(f"{path}: line {number} does not have update and values")
    return SearchSegment(update, values, str(line.get("trial", "")))  # type: ignore[arg-type]


def _is_texts(found: Any) -> bool:
    return isinstance(found, list) and all(isinstance(one, str) for one in found)


def _is_count(found: Any) -> bool:
    return type(found) is int and found >= 0
