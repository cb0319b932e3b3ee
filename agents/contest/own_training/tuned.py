"""The recipe tuned on the task, without mixing: what mixing must still be worth afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

from automix.agents.contest.own_training import SETTLING, Settled, SettlingInfo
from automix.data.tasks import TaskSpec
from automix.envs.worlds import ImageWorld
from automix.mixing.actions import PLAIN, MixAction
from automix.training.settings import TrainerSettings

LEARNING_RATES = (1.0, 0.3, 3.0)
"""Times the recipe's own."""
WEIGHT_DECAYS = (1.0, 10.0)
"""Times the recipe's own."""
SMALLEST_DECAY = 5e-5
"""Stands for a recipe's own where that is smaller, so that ten times as much is something."""

TUNING = len(LEARNING_RATES) * len(WEIGHT_DECAYS)


def recipes(trainer: TrainerSettings) -> list[TrainerSettings]:
    """Return the recipes that are tried, the one given first."""
    decays = [
        trainer.weight_decay if times == 1 else times * max(trainer.weight_decay, SMALLEST_DECAY)
        for times in WEIGHT_DECAYS
    ]
    rates = [trainer.lr * times for times in LEARNING_RATES]
    return [replace(trainer, lr=rate, weight_decay=decay) for rate, decay in product(rates, decays)]


@SETTLING.register("tuned_none", SettlingInfo(trainings=lambda choices: TUNING))
def tuned_none(
    world: ImageWorld, spec: TaskSpec, seed: int, actions: Sequence[MixAction]
) -> Settled:
    """No mixing, with the best of six learning rates and weight decays, by validation accuracy.

    The task is trained once with each, all from one seed.
    """
    tried, passes = [], 0
    for trainer in recipes(world.trainer):
        other = ImageWorld(world.family.settings, trainer, world.device, world.name)
        training = other.start([spec])
        records = [*training.reset([seed]), *training.run_epoch([PLAIN], epochs=trainer.epochs)]
        passes += sum(record.forward_passes + record.backward_passes for record in records)
        tried.append((0.0 if records[-1].diverged else records[-1].val_accuracy, trainer))
    best = max(tried, key=lambda one: one[0])[1]
    recipe = (("lr", best.lr), ("weight_decay", best.weight_decay))
    return Settled(action=PLAIN, recipe=recipe, epochs=TUNING * world.budget, passes=passes)


@SETTLING.register("tuned_agent", SettlingInfo(asks_policy=True, shares="tuned_none"))
def tuned_agent(
    world: ImageWorld, spec: TaskSpec, seed: int, actions: Sequence[MixAction]
) -> Settled:
    """The agent, on the recipe of ``tuned_none``: is mixing worth anything beside tuning?"""
    return tuned_none(world, spec, seed, actions)
