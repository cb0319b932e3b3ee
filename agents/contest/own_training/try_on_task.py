"""What a careful person does: try every choice on the task itself, and keep the best."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from automix.agents.contest.controls.evaluator import SearchEvaluator, WorldMaker
from automix.agents.contest.controls.successive_halving import rounds, successive_halving
from automix.agents.contest.own_training import SETTLING, Settled, SettlingInfo
from automix.agents.parallel.worker import InlineWorker
from automix.data.tasks import TaskSpec
from automix.envs.worlds import ImageWorld
from automix.mixing.actions import MixAction
from automix.policy.observations import TaskFacts
from automix.training.population import Population


class OneTask:
    """A world in which every task is the same one.

    Args:
        world: Of the task.
        spec: The task.
    """

    def __init__(self, world: ImageWorld, spec: TaskSpec) -> None:
        self._world, self._spec = world, spec
        self.budget = world.budget

    def draw(self, rng: np.random.Generator) -> TaskSpec:
        """Return the task."""
        return self._spec

    def facts(self, spec: TaskSpec) -> TaskFacts:
        """Return what is known of it."""
        return self._world.facts(spec)

    def check(self, actions: Sequence[MixAction]) -> None:
        """Refuse actions that the world cannot play."""
        self._world.check(actions)

    def start(self, specs: Sequence[TaskSpec]) -> Population:
        """Set up training runs of it."""
        return self._world.start(specs)


@SETTLING.register("try_on_task", SettlingInfo(trainings=lambda choices: choices * rounds(choices)))
def try_on_task(
    world: ImageWorld, spec: TaskSpec, seed: int, actions: Sequence[MixAction]
) -> Settled:
    """Successive halving on the task itself: whole training runs, judged by validation accuracy.

    Every choice is trained once, then the better half more often, until one is left. The control of
    that name does the same on many tasks; here each further training differs in its seed only.
    """
    maker = WorldMaker(OneTask, (world, spec))
    evaluator = SearchEvaluator(maker, actions, seed, [InlineWorker()])
    trainings = len(actions) * rounds(len(actions))
    found = successive_halving(evaluator, trainings * world.budget)
    action, passes = found.schedule[0], found.passes
    return Settled(action=action, epochs=found.classifier_epochs, passes=passes)
