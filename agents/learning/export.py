"""Write what was learned in files that need neither the agent nor its library."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import automix
from automix.agents.config.settings import RunSettings
from automix.agents.config.worlds import worlds_of
from automix.agents.learning.algorithms import AGENTS
from automix.agents.learning.policy_nets import of_plain_observations
from automix.agents.learning.training import Learned
from automix.core.errors import ConfigError, DataError
from automix.core.files import read_text, write_atomically, write_bytes
from automix.envs.codec import ActionCodec
from automix.envs.worlds import WorldSettings
from automix.policy.formats import FORMATS
from automix.policy.observations import Observer
from automix.policy.policy import MixPolicy, PolicyForm, load_policy
from automix.policy.schedule import changed_settings, load_schedule
from automix.policy.shipped import policy_folder

FILES = ("policy.json", "policy.safetensors", "schedule.yaml")
LONG = ("worlds", "observed")
"""What ``policy.json`` alone tells of a policy's origin."""

RULE_FILES = ("rule.json", "rule.txt")
"""What the policy does, in a few lines; written after the comparison."""


def policy_of(learned: Learned, settings: RunSettings) -> MixPolicy:
    """Take the policy out of an agent; what it cost to learn goes with it."""
    codec = ActionCodec(settings.env.actions)
    observer = Observer(settings.env.observations, codec.settings)
    actions = settings.env.actions
    form = PolicyForm(
        observations=list(observer.names),
        observation_sizes=list(observer.sizes),
        methods=list(actions.methods),
        ratios=list(actions.ratios),
        saliency=list(actions.saliency),
        space=actions.space,
        choices=[str(action) for action in codec.choices],
        epochs_per_action=settings.env.epochs_per_action,
        decisions=settings.env.decisions,
    )
    take = AGENTS.info(settings.agent.name).net
    cost = {"classifier_epochs": learned.classifier_epochs, "passes": learned.passes}
    net = of_plain_observations(take(learned.agent), learned.agent)
    origin = about(settings) | {"learning": cost}
    if learned.ranges:
        origin["observed"] = learned.ranges.by_name(observer.names, observer.sizes)
    return MixPolicy(form, net, origin)


def learning_cost(policy: MixPolicy | None) -> tuple[int, int]:
    """Return classifier epochs and passes that learning a policy cost, (0, 0) if unknown."""
    cost = policy.about.get("learning") if policy else None
    known = cost if isinstance(cost, dict) else {}
    epochs, passes = (known.get(name) for name in ("classifier_epochs", "passes"))
    return (epochs if isinstance(epochs, int) else 0, passes if isinstance(passes, int) else 0)


def about(settings: RunSettings) -> dict[str, Any]:
    """Return where a policy comes from; of a suite, what each of its worlds is."""
    worlds = [facts_of(world) for world in worlds_of(settings)]
    origin: dict[str, Any] = {"worlds": worlds} if settings.worlds.suite else worlds[0]
    origin |= {"agent": settings.agent.name, "seed": settings.seed}
    if mix := changed_settings(settings.trainer.mix):
        origin["mix"] = mix
    if settings.policy:
        origin["started_from"] = load_policy(settings.policy).summary
    return {"automix": automix.__version__} | origin


def facts_of(world: WorldSettings) -> dict[str, Any]:
    """Return what a policy and its reader are told of a world."""
    task, trainer = world.task, world.trainer
    # Sets of files have the name of their reader in common, so their folder's is added.
    place = f" ({Path(task.root).name})" if task.root else ""
    return ({"name": world.name} if world.name else {}) | {
        "dataset": task.dataset + place,
        "train_sizes": list(task.train_sizes),
        "label_noise": list(task.label_noise),
        "model": trainer.model,
        "budget": trainer.epochs,
    }


def copy_export(run: Path, out: Path, formats: Sequence[str] = ()) -> list[Path]:
    """Check a run's export and copy it.

    Args:
        run: A run directory, its ``export`` folder, or the name of a policy that comes along.
        out: The folder to write.
        formats: In which to write the policy as well: names in ``automix.policy.formats.FORMATS``.

    Returns:
        The files written.

    Raises:
        DataError: If there is no export, or it is damaged.
        MissingExtraError: If a format needs a package that is not installed.
    """
    try:
        source = policy_folder(run)
    except ConfigError as error:
        raise DataError(f"{run} holds no exported policy: {error.message}", error.hint) from None
    if not (source / FILES[0]).is_file():
        raise DataError(
            f"{run} holds no exported policy ({FILES[0]})",
            "give the directory of a finished `python run.py train`",
        )
    policy = load_policy(source)
    load_schedule(source)
    about = read_text(source / FILES[0])
    made = {f"policy.{name}": FORMATS[name](policy, about) for name in formats}
    names = [*FILES, *(name for name in RULE_FILES if (source / name).is_file())]
    for name in names:
        write_atomically(out / name, partial(shutil.copyfile, source / name))
    for name, content in made.items():
        write_bytes(out / name, content)
    return [out / name for name in (*names, *made)]
