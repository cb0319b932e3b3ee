"""Write what was learned in files that need neither the agent nor its library."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import automix
from automix.agents.config.settings import RunSettings
from automix.agents.learning.algorithms import AGENTS
from automix.agents.learning.policy_nets import of_plain_observations
from automix.agents.learning.training import Learned
from automix.core.errors import ConfigError, DataError
from automix.core.files import write_atomically
from automix.envs.codec import ActionCodec
from automix.envs.observations import Observer
from automix.policy.policy import MixPolicy, PolicyForm, load_policy
from automix.policy.schedule import load_schedule
from automix.policy.shipped import policy_folder

FILES = ("policy.json", "policy.safetensors", "schedule.yaml")
RULE_FILES = ("rule.json", "rule.txt")
"""What the policy does, in a few lines; written after the comparison."""


def policy_of(learned: Learned, settings: RunSettings) -> MixPolicy:
    """Take the policy out of an agent; what it cost to learn goes with it."""
    codec = ActionCodec(settings.env.actions)
    observer = Observer(settings.env.observations, codec)
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
    return MixPolicy(form, net, about(settings) | {"learning": cost})


def learning_cost(policy: MixPolicy | None) -> tuple[int, int]:
    """Return classifier epochs and passes that learning a policy cost, (0, 0) if unknown."""
    cost = policy.about.get("learning") if policy else None
    known = cost if isinstance(cost, dict) else {}
    epochs, passes = (known.get(name) for name in ("classifier_epochs", "passes"))
    return (epochs if isinstance(epochs, int) else 0, passes if isinstance(passes, int) else 0)


def about(settings: RunSettings) -> dict[str, Any]:
    """Return where a policy comes from."""
    return {
        "automix": automix.__version__,
        "dataset": settings.task.dataset,
        "train_sizes": list(settings.task.train_sizes),
        "label_noise": list(settings.task.label_noise),
        "model": settings.trainer.model,
        "budget": settings.trainer.epochs,
        "agent": settings.agent.name,
        "seed": settings.seed,
    }


def copy_export(run: Path, out: Path) -> list[Path]:
    """Check a run's export and copy it.

    Args:
        run: A run directory, its ``export`` folder, or the name of a policy that comes along.
        out: The folder to write.

    Raises:
        DataError: If there is no export, or it is damaged.
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
    load_policy(source)
    load_schedule(source)
    names = [*FILES, *(name for name in RULE_FILES if (source / name).is_file())]
    for name in names:
        write_atomically(out / name, partial(shutil.copyfile, source / name))
    return [out / name for name in names]
