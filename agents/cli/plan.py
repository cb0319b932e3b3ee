"""What a run would do, without doing it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from agents.cli.options import print_json
from agents.contestants import contestants_of
from agents.devices import worker_count
from agents.jobs import seconds_per_epoch
from agents.rundir import plain
from agents.sb3 import updates_of
from agents.settings import RunSettings, held_out_specs
from envs.codec import ActionCodec


def print_plan(settings: RunSettings, path: Path, device: str, as_json: bool, learns: bool) -> None:
    """Print what would be done and what it costs in classifier epochs and minutes."""
    budget, agent = settings.trainer.epochs, settings.agent
    menu = ActionCodec(settings.env.actions).choices
    contestants = contestants_of(settings.compare.contestants, menu)
    kinds = held_out_specs(settings.compare, settings.task)
    trials = len(contestants) * sum(len(kind) for kind in kinds)
    updates = updates_of(agent, budget) if learns else 0
    episodes = updates * agent.groups * agent.group_size
    plan = {
        "run_dir": str(path.absolute()),
        "device": device,
        "workers": worker_count(settings, device),
        "actions": [str(action) for action in menu],
        "updates": updates,
        "episodes": episodes,
        "contestants": [contestant.name for contestant in contestants],
        "held_out_tasks": [kind[0].kind for kind in kinds],
        "trials": trials,
        "classifier_epochs": {"learning": episodes * budget, "comparing": trials * budget},
        "minutes_about": round(
            seconds_per_epoch(settings, device) * (episodes + trials) * budget / 60, 1
        ),
    }
    if as_json:
        print_json({"plan": plan, "config": plain(asdict(settings))})
        return
    for name, value in plan.items():
        text = ", ".join(value) if isinstance(value, list) else value
        click.echo(f"{name:18s} {text}")
