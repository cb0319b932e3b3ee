"""What a search would do, without doing it: touches no disk, starts no Ray."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from automix.agents.jobs.cost import classifier_epochs, seconds_per_epoch
from automix.agents.parallel.devices import choose_device
from automix.agents.sweep.plan import check_trials, checked_here
from automix.agents.sweep.ray_executor import at_once_on_this_machine
from automix.agents.sweep.replay import replay_path, replay_plan_of
from automix.agents.sweep.search_plan import search_name, search_path, search_plan_of


def described_search(words: Sequence[str], path: Path | None) -> dict[str, Any]:
    """Return what a search would do and how long it would take, at most.

    Raises:
        AutomixError: If a trial cannot run, or this machine cannot run a single one and no cluster
            is named.
    """
    replays = search_name(words) == "replay"
    plan = replay_plan_of(words)[0] if replays else search_plan_of(words)
    at_once = None if plan.ray.address else at_once_on_this_machine(plan)
    check_trials(plan)
    here = checked_here(plan.trials[0].settings)
    parts = classifier_epochs(here, learns=True)
    learning, comparing = parts["learning"], sum(parts.values()) - parts["learning"]
    minutes = seconds_per_epoch(here, choose_device(here.device)) / 60
    rounds = -(-len(plan.trials) // at_once) if at_once else 1
    return {
        "sweep_dir": str((path or (replay_path if replays else search_path)(plan)).absolute()),
        "search": plan.settings.search,
        "trials": len(plan.trials),
        "updates": plan.updates,
        "judged_every": plan.interval,
        "parameters": ", ".join(plan.keys),
        "cpus_per_trial": plan.settings.cpus_per_trial,
        "gpus_per_trial": plan.settings.gpus_per_trial,
        "ray": plan.ray.address or "a local one, for as long as the search runs",
        "at_once": at_once or "as many as fit on the cluster",
        "classifier_epochs_at_most": len(plan.trials) * learning + comparing,
        "minutes_at_most": round(minutes * (rounds * learning + comparing), 1) if at_once else None,
        "combinations": [str(trial) for trial in plan.trials],
    }
