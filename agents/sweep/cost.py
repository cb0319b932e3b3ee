"""What a sweep would do, without doing it: touches no disk, starts no Ray."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from automix.agents.config.settings import RunSettings
from automix.agents.jobs.cost import classifier_epochs, seconds_per_epoch
from automix.agents.parallel.devices import choose_device
from automix.agents.sweep.plan import SweepPlan, check_trials, checked_here, default_path, plan_of
from automix.agents.sweep.ray_executor import at_once_on_this_machine


def described_plan(words: Sequence[str], path: Path | None) -> dict[str, Any]:
    """Return what a sweep would do and how long it would take, about.

    Raises:
        AutomixError: If a combination cannot run, or this machine cannot run a single trial and
            no cluster is named.
    """
    plan = plan_of(words)
    at_once = None if plan.ray.address else at_once_on_this_machine(plan)
    check_trials(plan)
    seconds = _seconds(plan)
    each = sum(seconds) / len(seconds) / 60
    return {
        "sweep_dir": str((path or default_path(plan)).absolute()),
        "trials": len(plan.trials),
        "parameters": ", ".join(plan.keys),
        "cpus_per_trial": plan.settings.cpus_per_trial,
        "gpus_per_trial": plan.settings.gpus_per_trial,
        "ray": plan.ray.address or "a local one, for as long as the sweep runs",
        "at_once": at_once or "as many as fit on the cluster",
        "classifier_epochs": sum(_epochs(trial.settings) for trial in plan.trials),
        "minutes_a_trial": round(each, 1),
        # A cluster is not asked: it may be busy, and a plan starts nothing.
        "minutes_about": round(each * -(-len(seconds) // at_once), 1) if at_once else None,
        "combinations": [str(trial) for trial in plan.trials],
    }


def _seconds(plan: SweepPlan) -> list[float]:
    """Return the length of each trial; one epoch is timed for each kind of training."""
    timed: list[tuple[RunSettings, float]] = []
    found = []
    for trial in plan.trials:
        # Which agent chooses, and by which seed, does not change what an epoch costs.
        alike = replace(trial.settings, seed=0, agent=plan.trials[0].settings.agent)
        each = next((seconds for settings, seconds in timed if settings == alike), None)
        if each is None:
            here = checked_here(alike)
            each = seconds_per_epoch(here, choose_device(here.device))
            timed.append((alike, each))
        found.append(each * _epochs(trial.settings))
    return found


def _epochs(settings: RunSettings) -> int:
    return sum(classifier_epochs(settings, learns=True).values())
