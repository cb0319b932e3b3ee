"""What a search keeps in its folder, beside what every sweep has there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from automix.agents.runs.rundir import announce
from automix.agents.sweep.folder import SweepDirectory, open_sweep, read_sweep
from automix.agents.sweep.plan import check_trials, described
from automix.agents.sweep.search_plan import SearchPlan
from automix.agents.sweep.search_settings import SearchSettings
from automix.core.errors import ConfigError
from automix.core.files import read_json
from automix.core.settings import names_that_affect

log = logging.getLogger("automix")

RESULT, SUMMARY, SCHEDULE, BEST_WORDS = "result.json", "summary.csv", "schedule.jsonl", "best.yaml"


@contextmanager
def open_search(path: Path, plan: SearchPlan, overwrite: bool) -> Iterator[SweepDirectory]:
    """Have the folder of this search, old or new, to oneself.

    Raises:
        ConfigError: If it holds something else, or its trials cannot be.
    """
    if not overwrite:
        refuse_another(path, plan)
    check_trials(plan)
    with open_sweep(path, plan, overwrite) as directory:
        yield directory


def result_of(directory: SweepDirectory, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the search's result: the one that is there, or a new one."""
    path = directory.path
    if (path / RESULT).is_file():
        log.info("%s is finished", path)
        return dict(read_json(path / RESULT))
    announce(path, f"python run.py resume {path}   (goes on, however this ends)")
    return make()


def refuse_another(path: Path, plan: SearchPlan) -> None:
    """Refuse to go on with a search as if it were another.

    Raises:
        ConfigError: If the folder holds a search of other trials, or one that decides otherwise.
    """
    if not (path / "sweep.yaml").is_file():
        return
    there, here = read_sweep(path), described(plan)
    known = there.get("sweep")
    same = isinstance(known, dict) and all(
        known.get(name) == here["sweep"][name]
        for name in names_that_affect(SearchSettings, "result")
        if name != "trials"  # they are compared themselves
    )
    if there["trials"] != here["trials"] or not same:
        raise ConfigError(
            f"{path} holds another search",
            "give its own words again, another sweep.name, or --overwrite",
        )
