"""Where searches for a schedule train classifiers, on tasks that the agent could have met too.

What is trained is counted: searching at equal compute means as many classifier epochs as the agent
spent on learning, and judging by the agent's reward. The test split is never read here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import groupby
from statistics import mean
from typing import Any

import numpy as np

from automix.agents.config.settings import RaySettings
from automix.agents.parallel.worker import State, Worker
from automix.agents.runs.result_cache import ResultCache, TaskCheckpoint
from automix.data.tasks import TaskSpec
from automix.envs.mix_env import draw_start
from automix.envs.rewards import REWARDS, RewardSettings
from automix.envs.settings import EnvSettings
from automix.envs.worlds import Suite, Training, World
from automix.mixing.actions import MixAction
from automix.policy.schedule import MixSchedule
from automix.training.metrics import EpochMetrics


@dataclass(frozen=True)
class Start:
    """What a training is before anything is decided."""

    spec: TaskSpec
    seed: int
    """Of weights, batches and mixing draws: runs of one start differ in their actions only."""


@dataclass(frozen=True)
class WorldMaker:
    """How to build a world; small, so that it travels to workers, and the world stays there."""

    make: Callable[..., World]
    """Importable by name, such as ``automix.envs.worlds.ImageWorld``."""
    arguments: tuple[Any, ...]
    """Hashable, as frozen settings are."""


@dataclass(frozen=True)
class Shares:
    """How an evaluator's work may be spread; changes results in last digits at most."""

    together: int = 32
    """Trainings that are held in memory at once, by each worker."""
    device: str = "cpu"
    ray: RaySettings = field(default_factory=RaySettings)
    """Where searches that need Ray find it."""


BY_ACCURACY = EnvSettings(reward=RewardSettings(name="final_accuracy"))


class SearchEvaluator:
    """What a search may use, and what it has used.

    Args:
        worlds: Where tasks and training runs come from.
        actions: The agent's choices, each once.
        seed: Of this search: of the tasks that it draws, and of its own draws.
        workers: Who trains.
        shares: How the work is spread.
        env: The agent's interface: when it decides and what it sees; a training is judged by its
            reward for a whole episode.
        on_epochs: Told how many classifier epochs more are spent.
        cache: Of the run, and the name of this search in it; finished work is not done again.
        margin: What a selector must expect to gain to mix at all.

    Attributes:
        actions: The agent's choices.
        budgets: Epochs of one training, of each world.
        budget: The same on average, rounded up: every world is drawn as often as any other.
        rng: Generator of this search.
        epochs: Classifier epochs spent so far.
        passes: Samples sent forward and backward through classifiers so far.
    """

    def __init__(
        self,
        worlds: WorldMaker,
        actions: Sequence[MixAction],
        seed: int,
        workers: Sequence[Worker],
        shares: Shares | None = None,
        env: EnvSettings = BY_ACCURACY,
        on_epochs: Callable[[int], None] = lambda epochs: None,
        cache: tuple[ResultCache, str] | None = None,
        margin: float = 0.0,
    ) -> None:
        self.worlds, self.actions, self.seed = worlds, tuple(actions), seed
        self.rng = np.random.default_rng(seed)
        self.shares = shares or Shares()
        self.workers, self.env, self.margin = workers, env, margin
        self._world = world_of(worlds)
        own = self._world.worlds.values() if isinstance(self._world, Suite) else [self._world]
        self.budgets = [world.budget for world in own]
        self.budget = math.ceil(mean(self.budgets))
        self.epochs = self.passes = 0
        self._on_epochs = on_epochs
        self._cache, self._name = cache or (ResultCache(), "")
        self._played = 0

    def draw(self, count: int) -> list[Start]:
        """Draw starts as the agent's environment does."""
        return [Start(*draw_start(self._world, self.rng)) for _ in range(count)]

    def play(self, starts: Sequence[Start], schedules: Sequence[Sequence[MixAction]]) -> np.ndarray:
        """Train once for every start and schedule.

        Args:
            starts: n of them.
            schedules: k of them, open loop: entry ``int(progress * len(schedule))`` is used.

        Returns:
            (n, k) float64: what each earned, unscaled. With ``final_accuracy`` the validation
            accuracy after the last epoch, 0 where a training diverged.
        """
        pairs = [(start, schedule) for start in starts for schedule in schedules]
        alone = self.play_each([start for start, _ in pairs], [own for _, own in pairs])
        return alone.reshape(len(starts), len(schedules))

    def play_each(
        self, starts: Sequence[Start], schedules: Sequence[Sequence[MixAction]]
    ) -> np.ndarray:
        """Train once for every pair of a start and its own schedule; return (n,) as ``play`` does.

        What has equally many images is trained together, whichever start it belongs to: a few
        training runs at a time are two to three times slower.
        """
        earned = np.zeros(len(starts))
        reward = self.env.reward.name
        played = self.share(
            play_block, starts, lambda block: ([tuple(schedules[i]) for i in block], reward)
        )
        for block, scores in played:
            earned[block] = scores
        return earned

    def share(
        self,
        function: Callable[..., tuple[Any, int]],
        starts: Sequence[Start],
        arguments: Callable[[list[int]], tuple[Any, ...]],
        trainings: int = 1,
    ) -> list[tuple[list[int], Any]]:
        """Share starts out to the workers in blocks of one world and size; count what that costs.

        Args:
            function: Called as ``function(state, worlds, starts, *arguments, checkpoint)``; returns
                a result that JSON can say, and samples sent forward and backward.
            starts: All of them.
            arguments: The rest, for the positions of a block.
            trainings: Of each start.

        Returns:
            The positions of each block, and its result.
        """
        blocks = self._blocks([start.spec for start in starts], trainings)
        items = [(self.worlds, [starts[i] for i in block], *arguments(block)) for block in blocks]
        costs = [trainings * sum(self.epochs_of(starts[i].spec) for i in block) for block in blocks]
        # Told as they end; which one it was does not matter to the sum.
        told = iter(costs)
        played = self._cache.map(
            f"{self._name}/{self._played}",
            self.workers,
            function,
            items,
            lambda: self._on_epochs(next(told)),
        )
        self._played += 1
        self.epochs += sum(costs)
        self.passes += sum(passes for _, passes in played)
        return [(block, result) for block, (result, _) in zip(blocks, played, strict=True)]

    def epochs_of(self, spec: TaskSpec) -> int:
        """Return the epochs of one training of a task."""
        return self._world.facts(spec).budget

    def count(self, epochs: int, passes: int) -> None:
        """Add to what is spent: for training runs that ran elsewhere."""
        self.epochs += epochs
        self.passes += passes
        self._on_epochs(epochs)

    def _blocks(self, specs: Sequence[TaskSpec], trainings: int = 1) -> list[list[int]]:
        """Return positions that train together, those that take longest first."""
        sizes = [self._world.facts(spec).train_size for spec in specs]
        order = sorted(range(len(specs)), key=lambda i: (-sizes[i], specs[i].world))
        blocks = []
        for _, same in groupby(order, key=lambda i: (sizes[i], specs[i].world)):
            group = list(same)
            # In equal parts: a small rest would be slow.
            parts = -(-len(group) // max(1, self.shares.together // trainings))
            blocks += [part.tolist() for part in np.array_split(group, parts)]
        return blocks


def play_block(
    state: State,
    worlds: WorldMaker,
    starts: Sequence[Start],
    schedules: Sequence[Sequence[MixAction]],
    reward: str,
    checkpoint: TaskCheckpoint = TaskCheckpoint(),  # noqa: B008 (frozen)
) -> tuple[list[float], int]:
    """Train one classifier for each start and schedule, side by side; importable by name.

    Returns:
        What each earned, and samples sent forward and backward.
    """
    world = world_of(worlds)
    training = world.start([start.spec for start in starts])
    begun, saver = checkpoint.load(), checkpoint.saver()
    if begun:
        training.load_state_dict(begun["training"])
        first, last = ([EpochMetrics(**own) for own in begun[key]] for key in ("first", "last"))
        passes = begun["passes"]
    else:
        first = last = training.reset([start.seed for start in starts])
        passes = sum(r.forward_passes + r.backward_passes for r in first)
    courses = [MixSchedule(schedule) for schedule in schedules]
    facts = world.facts(starts[0].spec)
    orders = [
        [course.at(epoch / facts.budget) for course in courses] for epoch in range(facts.budget)
    ]
    # Nobody looks until the end, so epochs of equal actions need one measurement together.
    for actions, group in groupby(orders[last[0].epoch :]):
        last = training.run_epoch(actions, len(list(group)))
        passes += sum(r.forward_passes + r.backward_passes for r in last)
        saver.save_if_due(partial(_state_dict, training, first, last, passes))
    # Rewards for a gain add up to the gain of the whole episode.
    paid = REWARDS[reward]
    return [
        paid(before, after, True, facts.num_classes)
        for before, after in zip(first, last, strict=True)
    ], passes


def _state_dict(
    training: Training, first: list[EpochMetrics], last: list[EpochMetrics], passes: int
) -> dict[str, Any]:
    records = {"first": [*map(vars, first)], "last": [*map(vars, last)]}
    return {"training": training.state_dict(), "passes": passes, **records}


@lru_cache(maxsize=1)
def world_of(worlds: WorldMaker) -> World:
    """Return the world of this process; building it reads the images."""
    return worlds.make(*worlds.arguments)
