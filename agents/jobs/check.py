"""From settings as they were given to settings that a run can start with, before it writes."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from automix.agents.config.settings import RunSettings
from automix.agents.config.worlds import compared_worlds, present, samples, worlds_of
from automix.agents.contest.compare import env_of
from automix.agents.contest.contestants import contestants_of
from automix.agents.contest.own_training import asks_policy
from automix.agents.contest.run_controls import check_controls, search_epochs
from automix.agents.jobs.limits import check_memory
from automix.agents.learning.algorithms import check_agent, updates_of
from automix.agents.learning.export import learning_cost
from automix.agents.learning.warm_start import going_on_from
from automix.agents.parallel.devices import choose_device, stacked_groups
from automix.agents.parallel.machine import use_threads
from automix.core.errors import ConfigError
from automix.core.extras import require
from automix.data.tasks import TaskFamily
from automix.envs.codec import ALL, ActionCodec
from automix.envs.groups import EpisodeGroup
from automix.envs.vocabulary import expanded as expanded_actions
from automix.envs.worlds import ImageWorld, Suite, build_world, of_world
from automix.policy.policy import MixPolicy, load_policy
from automix.policy.shipped import DEFAULT

log = logging.getLogger("automix")


def check(settings: RunSettings, learns: bool) -> tuple[RunSettings, str]:
    """Check what can be known before anything is written.

    Args:
        settings: Of the run.
        learns: Whether the agent learns in it, or acts by a policy that is given.

    Returns:
        The settings with the actions that are really taken, each by its name, and the device.

    Raises:
        AutomixError: If the images, the splits, the names or the device cannot be used.
    """
    require("report")  # now, and not after hours of learning
    if settings.backend == "ray":
        require("ray", hint="or use backend=local")
    settings = expanded(present(settings))
    check_memory(settings, learns)
    if learns:
        settings = going_on(settings)
        _check_learner(settings)
    else:
        policy = given_policy(settings)
        settings = with_actions_of(policy, settings)
        search_epochs(settings, learning_cost(policy)[0])
    device = choose_device(settings.device)
    stacked_groups(settings, device)
    if (threads := use_threads(settings.threads)) < settings.threads:
        log.warning("threads is %d, this machine uses its %d cores", settings.threads, threads)
    _check_training_runs(settings, build_world(worlds_of(settings), device))
    check_controls(settings, device)
    return settings, device


def tell_images(settings: RunSettings) -> list[dict[str, Any]]:
    """Log what each image set of a run holds and what to know of it; return it for its files."""
    tasks = {world.task.source: world.task for world in worlds_of(settings)}
    return [TaskFamily(task).tell() for task in tasks.values()]


def located(settings: RunSettings) -> RunSettings:
    """Name the images by their whole path, so that the run can go on from any folder."""
    root = settings.task.root
    if not root:
        return settings
    return replace(settings, task=replace(settings.task, root=str(Path(root).absolute())))


def expanded(settings: RunSettings) -> RunSettings:
    """Name what the word ``all`` stands for among the actions, so that its policy does too.

    Raises:
        AutomixError: If the images or the classifier cannot be used.
    """
    if ALL not in (*settings.env.actions.methods, *settings.env.actions.saliency):
        return settings
    # The actions do not depend on the device, which may be that of another machine.
    world = build_world(worlds_of(settings))
    actions = expanded_actions(settings.env.actions, world.check)
    return replace(settings, env=replace(settings.env, actions=actions))


def going_on(settings: RunSettings) -> RunSettings:
    """Let learning go on from the policy that the settings name, if they do: with its interface.

    Raises:
        AutomixError: If there is no such policy, or the agent cannot go on from it.
    """
    policy = given_policy(settings)
    return going_on_from(policy, env_of(policy, settings), settings) if policy else settings


def given_policy(settings: RunSettings) -> MixPolicy | None:
    """Read the policy that the settings name, if they do.

    Raises:
        AutomixError: If there is none of that name, or it cannot be read.
    """
    return load_policy(settings.policy) if settings.policy else None


def with_actions_of(policy: MixPolicy | None, settings: RunSettings) -> RunSettings:
    """Return the settings with the actions that a policy was learned with, for all contestants.

    Raises:
        AutomixError: As ``env_of`` does.
    """
    env = env_of(policy, settings)
    for world in compared_worlds(settings):
        with of_world(world.name):
            env.starts(world.trainer.epochs)
    return replace(settings, env=replace(settings.env, actions=env.actions))


def with_policy(settings: RunSettings, named: bool) -> RunSettings:
    """Let the policy that comes along play ``agent`` where none is given.

    Args:
        settings: Of a comparison.
        named: Whether the user named the contestants. If not, and the policy cannot play here,
            ``agent`` is left out with a warning.

    Raises:
        AutomixError: If an image set cannot be used.
    """
    names = settings.compare.contestants
    if settings.policy or not any(map(asks_policy, names)):
        return settings
    own = replace(settings, policy=DEFAULT)
    if named:
        return own
    try:
        with_actions_of(given_policy(own), own)
    except ConfigError as error:
        log.warning("agent is left out: %s", error.message)
        rest = tuple(name for name in names if not asks_policy(name))
        return replace(settings, compare=replace(settings.compare, contestants=rest))
    return own


def _check_learner(settings: RunSettings) -> None:
    if "agent" not in settings.compare.contestants:
        raise ConfigError("compare.contestants lacks 'agent'", "train compares what it has learned")
    check_agent(settings.agent, settings.env.actions.space)
    updates_of(settings.agent, settings.decisions)


def _check_training_runs(settings: RunSettings, world: ImageWorld | Suite) -> None:
    """Check the images, the splits, and that classifiers can be trained as all contestants do."""
    actions = ActionCodec(settings.env.actions).choices
    contestants = contestants_of(settings.compare.contestants, actions)
    EpisodeGroup(world, settings.env, settings.agent.group_size)
    world.check([action for one in contestants if (action := one.fixed)])
    specs = samples(settings)
    for name in dict.fromkeys(spec.world for spec in specs):
        own = [spec for spec in specs if spec.world == name]
        with of_world(name):
            for spec in own:
                world.task(spec)
            # Two untrained classifiers tell of a model, optimizer or scheduler that does not fit.
            world.start([own[0]] * 2).reset([0, 0])
