"""The run that faults befall, and what it comes to where none does."""

from __future__ import annotations

import json
from pathlib import Path

from tests.agents import tiny_run

WORDS = (
    *tiny_run.WORDS,
    "compare.contestants=[agent,none]",
    "compare.seeds=1",
    "checkpoint.share=1",
)
"""A checkpoint after every epoch, and little that comes after learning."""


def status(run: Path) -> dict[str, object]:
    """Return what a run says of itself."""
    return dict(json.loads((run / "status.json").read_text(encoding="utf-8")))


def warnings(run: Path) -> list[str]:
    """Return the lines of a run's log that warn."""
    lines = (run / "log.txt").read_text(encoding="utf-8").splitlines()
    return [line.partition(" WARNING ")[2] for line in lines if " WARNING " in line]
