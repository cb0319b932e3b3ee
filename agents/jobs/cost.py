"""What a run costs, in classifier epochs and in seconds, before it starts."""

from __future__ import annotations

import time
from statistics import mean

import numpy as np

from automix.agents.config.settings import RunSettings
from automix.agents.config.worlds import samples, validation, worlds_of
from automix.agents.contest.compare import matches_of
from automix.agents.contest.contestants import contestants_of
from automix.agents.contest.own_training import SETTLING
from automix.agents.contest.run_controls import search_epochs, searching
from automix.agents.learning.algorithms import updates_of
from automix.agents.learning.export import learning_cost
from automix.agents.parallel.devices import stacked_groups, worker_count
from automix.envs.codec import ActionCodec
from automix.envs.worlds import build_world
from automix.policy.policy import MixPolicy
from automix.training.population import Population


def classifier_epochs(
    settings: RunSettings, learns: bool, policy: MixPolicy | None = None
) -> dict[str, int]:
    """Return the classifier epochs of each part of a run.

    Args:
        settings: Of the run.
        learns: Whether the agent learns in it.
        policy: That is given, if any; what controls may spend depends on its cost.
    """
    agent = settings.agent
    budgets = {world.name: world.trainer.epochs for world in worlds_of(settings)}
    choices = ActionCodec(settings.env.actions).choices
    contestants = contestants_of(settings.compare.contestants, choices)
    matches = matches_of(settings)
    played = sum(match.trainings * budgets[match.spec.world] for match in matches)
    updates = updates_of(agent, settings.decisions) if learns else 0
    episodes = updates * agent.groups * agent.group_size
    fixed = sum(contestant.kind == "fixed" for contestant in contestants)
    validating = fixed * sum(budgets[spec.world] for spec in validation(settings))
    # Each world is as likely as any other.
    learned = round(episodes * mean(budgets.values()))
    learning = learned or learning_cost(policy)[0]
    searches = search_epochs(settings, learning) * len(searching(settings))
    epochs = {"learning": learned, "comparing": len(contestants) * played}
    epochs |= {"validating": validating} if validating else {}
    epochs |= {"searching": searches} if searches else {}
    names = [contestant.name for contestant in contestants if contestant.kind == "settles"]
    done = {SETTLING.info(name).shares or name for name in names}
    settling = sum(SETTLING.info(name).trainings(len(choices)) for name in done)
    own = settling * sum(budgets[match.spec.world] for match in matches)
    epochs |= {"settling": own} if own else {}
    return epochs


def seconds_per_epoch(settings: RunSettings, device: str) -> float:
    """Time a few classifier epochs of each kind of held-out task; return seconds for one.

    Divided by the number of worker processes, so that a run's epochs times this is about its
    length, if nothing else keeps the cores busy.
    """
    world = build_world(worlds_of(settings), device)
    specs = samples(settings)
    members = settings.agent.group_size * stacked_groups(settings, device)
    times = [_epoch_seconds(world.start([spec] * members), settings) for spec in specs]
    # Of a suite, worlds with larger budgets have more of the epochs.
    second = np.average(times, weights=[world.facts(spec).budget for spec in specs])
    return float(second) / members / worker_count(settings, device)


def _epoch_seconds(population: Population, settings: RunSettings) -> float:
    """Time one epoch of a population that takes all actions."""
    choices = ActionCodec(settings.env.actions).choices
    actions = [choices[member % len(choices)] for member in range(population.members)]
    population.reset([0] * population.members)
    start = time.perf_counter()
    population.run_epoch(actions)
    if population.settings.epochs > 1:
        # The first epoch paid for what is set up once.
        start = time.perf_counter()
        population.run_epoch(actions)
    return time.perf_counter() - start
