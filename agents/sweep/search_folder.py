"""What a search keeps in its folder, beside what every sweep has there."""

from __future__ import annotations

from pathlib import Path

from agents.sweep.folder import read_sweep
from agents.sweep.plan import described
from agents.sweep.search_plan import SearchPlan
from automix.errors import ConfigError

RESULT, SUMMARY, SCHEDULE, BEST_WORDS = "result.json", "summary.csv", "schedule.jsonl", "best.yaml"

DECIDING = ("search", "interval", "grace", "reduction_factor", "quantile")
"""Settings of a search that change what comes out, beside its trials."""


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
        known.get(name) == here["sweep"][name] for name in DECIDING
    )
    if there["trials"] != here["trials"] or not same:
        raise ConfigError(
            f"{path} holds another search",
            "give its own words again, another sweep.name, or --overwrite",
        )
