"""What a run would do, without doing it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from automix.agents.cli.options import print_json
from automix.agents.config.settings import RunSettings
from automix.agents.contest.compare import matches_of
from automix.agents.contest.contestants import contestants_of
from automix.agents.jobs.check import given_policy, tell_images
from automix.agents.jobs.cost import classifier_epochs, seconds_per_epoch
from automix.agents.learning.algorithms import updates_of
from automix.agents.parallel.devices import worker_count
from automix.agents.runs.rundir import plain
from automix.envs.codec import ActionCodec


def print_plan(settings: RunSettings, path: Path, device: str, as_json: bool, learns: bool) -> None:
    """Print what would be done and what it costs in classifier epochs and minutes."""
    images = tell_images(settings)
    agent = settings.agent
    policy = None if learns else given_policy(settings)
    actions = ActionCodec(settings.env.actions).choices
    contestants = contestants_of(settings.compare.contestants, actions)
    matches = matches_of(settings)
    trials = len(contestants) * sum(match.trainings for match in matches)
    updates = updates_of(agent, settings.decisions) if learns else 0
    episodes = updates * agent.groups * agent.group_size
    epochs = classifier_epochs(settings, learns, policy)
    plan = {
        "run_dir": str(path.absolute()),
        "device": device,
        "workers": worker_count(settings, device),
        "actions": [str(action) for action in actions],
        "updates": updates,
        "episodes": episodes,
        "contestants": [contestant.name for contestant in contestants],
        "held_out_tasks": list(dict.fromkeys(m.spec.world or m.spec.kind for m in matches)),
        "trials": trials,
        "classifier_epochs": epochs,
        "minutes_about": round(seconds_per_epoch(settings, device) * sum(epochs.values()) / 60, 1),
    }
    if as_json:
        print_json({"plan": plan | {"images": images}, "config": plain(asdict(settings))})
        return
    for name, value in plan.items():
        text = ", ".join(value) if isinstance(value, list) else value
        click.echo(f"{name:18s} {text}")
