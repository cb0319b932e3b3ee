"""What pages made by scripts have in common: intervals, the machine, and what a person wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from automix.agents.contest import stats
from automix.agents.runs.rundir import describe_machine
from automix.core.files import write_text

READING = "## What it says"
"""Below this heading of a page stands what a person reads from it: kept, and to be read again."""


def interval(values: np.ndarray) -> str:
    """Write a mean over tasks, (tasks,) or (tasks, trainings), with its 95 % interval over tasks."""
    scores = values.reshape(len(values), -1)
    found = stats.cluster_bootstrap(scores, stats.mean, resamples=4000, seed=0)
    return f"{found.value:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"


def machine() -> str:
    """Write on what, and from which commit, the page was made."""
    about = describe_machine()
    return f"{about['cpu']}, {about['cores']} shared cores, commit {about['git'][:7]}"


def write_page(path: Path, made: str) -> None:
    """Write a page anew, but for what a person has written below ``READING``."""
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    write_text(path, made + (old[old.index(READING) :] if READING in old else ""))
