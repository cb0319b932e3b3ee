"""Searches: weak trials end early (asha) or copy strong ones (pbt, pb2), and the winner is a run.

``slices`` learn, ``trial`` holds a trial, ``ray_tune`` decides, ``winner`` makes a run of the best.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from automix.agents.sweep.folder import SweepDirectory
from automix.agents.sweep.planning.plan import SweepPlan
from automix.agents.sweep.runners.ray_tune import STORAGE, on_tune
from automix.agents.sweep.runners.trial import Place
from automix.agents.sweep.runners.winner import Finish, crowned
from automix.agents.sweep.watch import SearchWatch, watching

Run = Callable[[SweepPlan, Place, SearchWatch], None]
"""Runs all trials to their ends."""

Tuners = Callable[[SweepPlan], AbstractContextManager[tuple[Run, Finish]]]
"""Has, while the block runs, what runs the trials and what makes a run of the winner."""


def run_search(
    plan: SweepPlan, directory: SweepDirectory, *, tuners: Tuners = on_tune
) -> dict[str, Any] | None:
    """Run every trial until it is stopped or has learned all, and make a run of the best.

    Args:
        plan: Of the search.
        directory: Of the search.
        tuners: Where trials run.

    Returns:
        The best trial, as ``crowned`` does.
    """
    for leftover in directory.path.glob(f"{STORAGE}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    watch, last = SearchWatch(plan, directory), directory.ledger.last()
    stopped = frozenset(name for name, record in last.items() if record["event"] == "stopped")
    place = Place(plan, directory.path, Path.cwd(), secrets.token_hex(8), stopped)
    with tuners(plan) as (run, finish):
        if not watch.all_over:
            with watching(watch):
                run(plan, place, watch)
        return crowned(plan, directory, finish)
