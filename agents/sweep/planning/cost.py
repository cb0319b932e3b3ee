"""What a sweep would do, without doing it: touches no disk, starts no Ray."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from automix.agents.config.settings import RunSettings
from automix.agents.jobs.cost import classifier_epochs, seconds_per_epoch
from automix.agents.parallel.devices import choose_device
from automix.agents.sweep.planning.plan import (
    SweepPlan,
    at_once_here,
    check_trials,
    checked_here,
    default_path,
    hash_of,
    plan_of,
)


def described_plan(overrides: Sequence[str], path: Path | None) -> dict[str, Any]:
    """Return what a sweep would do and how long it would take: about, or at most in a search.

    Raises:
        AutomixError: If a trial cannot run, or this machine cannot run a single one and no cluster
            is named.
    """
    plan = plan_of(overrides)
    # A cluster is not asked: it may be busy, and a plan starts nothing.
    at_once = None if plan.ray.address else at_once_here(plan)
    check_trials(plan)
    return {
        "sweep_dir": str((path or default_path(plan)).absolute()),
        "trials": len(plan.trials),
        "parameters": ", ".join(plan.keys),
        "cpus_per_trial": plan.settings.cpus_per_trial,
        "gpus_per_trial": plan.settings.gpus_per_trial,
        "ray": plan.ray.address or "a local one, for as long as the sweep runs",
        "at_once": at_once or "as many as fit on the cluster",
        **(_of_search if plan.settings.searches else _of_grid)(plan, at_once),
        "combinations": [str(trial) for trial in plan.trials],
    }


def _of_grid(plan: SweepPlan, at_once: int | None) -> dict[str, Any]:
    """Return what trials cost that all learn to the end and are all compared."""
    seconds: dict[str, float] = {}
    epochs, minutes = 0, 0.0
    for trial in plan.trials:
        # Which agent chooses, and by which seed, does not change what an epoch costs.
        alike = replace(trial.settings, seed=0, agent=plan.trials[0].settings.agent)
        key = hash_of(alike)
        if key not in seconds:
            seconds[key] = _seconds(alike)
        own = sum(classifier_epochs(trial.settings, learns=True).values())
        epochs, minutes = epochs + own, minutes + own * seconds[key] / 60
    each, trials = minutes / len(plan.trials), len(plan.trials)
    return {
        "classifier_epochs": epochs,
        "minutes_a_trial": round(each, 1),
        "minutes_about": round(each * -(-trials // at_once), 1) if at_once else None,
    }


def _of_search(plan: SweepPlan, at_once: int | None) -> dict[str, Any]:
    """Return what it costs if no trial ends early; the winner alone is compared."""
    settings, trials = plan.trials[0].settings, len(plan.trials)
    parts = classifier_epochs(settings, learns=True)
    learning, comparing = parts["learning"], sum(parts.values()) - parts["learning"]
    rounds = -(-trials // at_once) if at_once else 1
    minutes = _seconds(settings) * (rounds * learning + comparing) / 60
    return {
        "search": plan.settings.search,
        "updates": plan.updates,
        "judged_every": plan.interval,
        "classifier_epochs_at_most": trials * learning + comparing,
        "minutes_at_most": round(minutes, 1) if at_once else None,
    }


def _seconds(settings: RunSettings) -> float:
    """Time an epoch as this machine trains it."""
    here = checked_here(settings)
    return seconds_per_epoch(here, choose_device(here.device))
