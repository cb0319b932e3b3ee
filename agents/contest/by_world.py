"""A comparison on a suite, world by world: where the agent helps, and where it does harm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from automix.agents.config.settings import RunSettings
from automix.agents.contest import stats

HARM = 0.005
"""The agent does harm where it is further below no mixing than this, its interval below zero."""

FEWEST = 12
"""Paired training runs from which that is said of a world."""


def world_rows(
    tables: Mapping[str, Mapping[str, np.ndarray]], best: str | None, settings: RunSettings
) -> list[dict[str, Any]]:
    """Return a row a world.

    Args:
        tables: By world and contestant, scores (tasks or kinds, training runs).
        best: The fixed choice that was picked for all worlds.
        settings: Of the run.

    Returns:
        Of each its ``tasks``, paired training runs ``n``, the mean scores of ``none``,
        ``best_fixed`` and ``agent``, the agent minus none with interval, and whether it does harm;
        None where it cannot be said.
    """
    rows = []
    for world, own in tables.items():
        first = next(iter(own.values()))
        means = {name: float(scores.mean()) for name, scores in own.items()}
        minus = None
        if "agent" in own and "none" in own:
            minus = _interval(own["agent"] - own["none"], settings)
        rows.append(
            {
                "world": world,
                "tasks": len(first) if settings.compare.draws else int(first.size),
                "n": int(first.size),
                "none": means.get("none"),
                "best_fixed": means.get(best or ""),
                "agent": means.get("agent"),
                "agent_minus_none": minus,
                "harmed": _harmed(minus) if minus and first.size >= FEWEST else None,
            }
        )
    return rows


def over_worlds(
    tables: Mapping[str, Mapping[str, np.ndarray]], settings: RunSettings
) -> dict[str, Any]:
    """Return the agent minus each other, worlds resampled and each counted once; {} without."""
    first = next(iter(tables.values()))
    if "agent" not in first or len(tables) < 2:
        return {}
    found = {}
    for name in first:
        if name != "agent":
            each = np.array([[float((own["agent"] - own[name]).mean()) for own in tables.values()]])
            found[name] = _interval(each, settings)
    return found


def harm_line(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say in which worlds the agent does harm; nothing where it cannot be said of any."""
    known = [row for row in rows if row["harmed"] is not None]
    if not known:
        return ""
    harmed = [row["world"] for row in known if row["harmed"]]
    names = f": {'; '.join(harmed)}" if harmed else ""
    few = len(rows) - len(known)
    rest = f"; {few} with fewer training runs are not judged" if few else ""
    return (
        f"Harm (agent below none by more than {100 * HARM:g} points, interval below zero, "
        f"n >= {FEWEST}) in {len(harmed)} of {len(known)} worlds{names}{rest}."
    )


def _interval(scores: np.ndarray, settings: RunSettings) -> dict[str, Any]:
    """Return the mean with its interval over tasks; over training runs where there is one task."""
    interval = stats.bootstrap(
        scores,
        stats.mean,
        whole_tasks=settings.compare.draws > 0 and len(scores) > 1,
        resamples=settings.compare.resamples,
        seed=settings.seed,
    )
    return {"mean": interval.value, "ci95": interval.bounds}


def _harmed(minus: Mapping[str, Any]) -> bool:
    return bool(minus["mean"] < -HARM and minus["ci95"][1] < 0)
