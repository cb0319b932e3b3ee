"""The rules, once: k trainings of one task, an action each per epoch, observations and rewards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
from gymnasium import spaces

from automix.core.errors import ConfigError
from automix.data.tasks import FamilySettings, TaskFamily, TaskSpec
from automix.envs.codec import ActionCodec, ActionSettings
from automix.envs.forking import Fork, draw_fork
from automix.envs.observations import DEFAULT_OBSERVATIONS, ObservationInputs, Observer
from automix.envs.rewards import REWARDS, RewardSettings
from automix.envs.snapshots import SETUP, Setup, Snapshot, check_setup, not_begun
from automix.envs.vocabulary import expanded
from automix.mixing.actions import MixAction
from automix.training.metrics import EpochMetrics
from automix.training.population import Population
from automix.training.requirements import check_playable
from automix.training.settings import TrainerSettings


@dataclass(frozen=True, kw_only=True)
class EnvSettings:
    """The interface between a policy and a training."""

    actions: ActionSettings = field(default_factory=ActionSettings)
    observations: Sequence[str] = DEFAULT_OBSERVATIONS
    reward: RewardSettings = field(default_factory=RewardSettings)
    epochs_per_action: int = 1
    """Epochs that each action is played for; the last of an episode may be cut short. Above 1 there
    are fewer decisions, each with more effect, and fewer measurements to pay for."""
    fork: bool = False
    """Whether every group goes on from one of its members' states once an episode, at an action
    that is drawn (``automix.envs.forking``). The vectorised form only."""

    def __post_init__(self) -> None:
        if self.epochs_per_action < 1:
            raise ConfigError(
                f"env.epochs_per_action is {self.epochs_per_action}, wanted 1 or more"
            )

    def steps(self, budget: int) -> int:
        """Return how many actions an episode of so many epochs takes."""
        return -(-budget // self.epochs_per_action)


class Training(Protocol):
    """k trainings side by side; a ``Population`` is one, the surrogate another."""

    def reset(self, seeds: Sequence[int]) -> list[EpochMetrics]:
        """Start afresh, each from its seed; equal seeds and tasks differ in their actions only."""
        ...

    def run_epoch(self, actions: Sequence[MixAction], epochs: int = 1) -> list[EpochMetrics]:
        """Play one action each, for one epoch or some."""
        ...

    def fork(self, donors: Sequence[int]) -> None:
        """Let every member go on from the state of its donor, which may be itself."""
        ...

    def state_dict(self) -> Snapshot:
        """Return a copy of everything that the next epoch depends on."""
        ...

    def load_state_dict(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot of such trainings, whatever was played here; it is copied.

        Raises:
            ConfigError: If it is of other ones.
        """
        ...


class World(Protocol):
    """Where tasks and trainings come from."""

    @property
    def budget(self) -> int:
        """Epochs of one training."""
        ...

    @property
    def num_classes(self) -> int:
        """Classes of every task."""
        ...

    def draw(self, rng: np.random.Generator) -> TaskSpec:
        """Draw a task."""
        ...

    def train_size(self, spec: TaskSpec) -> int:
        """Return the number of training images of a task."""
        ...

    def check(self, actions: Sequence[MixAction]) -> None:
        """Refuse actions that its trainings cannot play, by a ``ConfigError``."""
        ...

    def start(self, specs: Sequence[TaskSpec]) -> Training:
        """Set up a training of each task; members with equal specs share theirs."""
        ...


class ImageWorld:
    """Real trainings on real images.

    Args:
        family: The tasks.
        trainer: How classifiers are trained.
        device: Where.
    """

    def __init__(
        self, family: FamilySettings, trainer: TrainerSettings, device: str = "cpu"
    ) -> None:
        self.family = TaskFamily(family)
        self.trainer, self.device = trainer, device

    @property
    def budget(self) -> int:
        """Epochs of one training."""
        return self.trainer.epochs

    @property
    def num_classes(self) -> int:
        """Classes of the image set."""
        return self.family.images.num_classes

    def draw(self, rng: np.random.Generator) -> TaskSpec:
        """Draw a task of the family."""
        return self.family.draw(rng)

    def train_size(self, spec: TaskSpec) -> int:
        """Return the number of training images of a task."""
        return self.family.train_size(spec)

    def check(self, actions: Sequence[MixAction]) -> None:
        """Refuse actions that the trainer's settings do not fit."""
        device = torch.device(self.device)
        for action in actions:
            check_playable(action, self.trainer, self.num_classes, self.family.images.shape, device)

    def start(self, specs: Sequence[TaskSpec]) -> Population:
        """Set up a training of each task."""
        tasks = {spec: self.family.task(spec) for spec in dict.fromkeys(specs)}
        return Population([tasks[spec] for spec in specs], self.trainer, self.device)


@dataclass(frozen=True)
class StepResult:
    """What k policies are told after an epoch."""

    observations: np.ndarray
    """(k, d) float32."""
    rewards: np.ndarray
    """(k,) float64, scaled and relative to the baseline."""
    finished: bool
    """Whether the budget is spent."""
    played: list[MixAction]
    metrics: list[EpochMetrics]
    truncated: np.ndarray
    """(k,) bool: whose episode ended here because its group forked."""
    next_observations: np.ndarray
    """(k, d) float32: what the next actions answer; after a fork, of the donor's training."""


class EpisodeGroup:
    """One group of episodes that share task, initial weights, batch order and mixing draws.

    Args:
        world: Where trainings come from.
        settings: Actions, observations, reward.
        members: Episodes in the group; a reference baseline plays one more behind the scenes.

    A training that diverges earns the penalty once and rests: its further rewards are 0.

    Raises:
        ConfigError: If the baseline needs more members, or the world's trainings cannot play what
            is on the menu.
    """

    def __init__(self, world: World, settings: EnvSettings, members: int) -> None:
        if settings.reward.baseline == "group" and members < 2:
            raise ConfigError(
                "env.reward.baseline is 'group', which needs 2 episodes side by side, got 1",
                "use the vectorised form with group_size of 2 or more, or another baseline",
            )
        self.world, self.members = world, members
        self.settings = settings = playable(settings, world)
        self.codec = ActionCodec(settings.actions)
        self.observer = Observer(settings.observations, self.codec)
        self._reward = REWARDS[settings.reward.name]
        self._reference = MixAction.parse(settings.reward.reference)
        self._hidden = int(settings.reward.baseline == "reference")
        world.check([*self.codec.choices, *[self._reference] * self._hidden])
        self.spec: TaskSpec | None = None
        self.training: Training | None = None

    @property
    def histories(self) -> list[list[EpochMetrics]]:
        """What each member's epochs showed, from epoch 0 on."""
        return self._history[: self.members]

    @property
    def action_space(self) -> spaces.Space[np.ndarray]:
        """Of one member."""
        return self.codec.space  # type: ignore[return-value]

    @property
    def observation_space(self) -> spaces.Box:
        """Of one member."""
        return self.observer.space

    @property
    def trainings(self) -> int:
        """How many trainings the group needs, the hidden one included."""
        return self.members + self._hidden

    def reset(self, spec: TaskSpec, seed: int) -> np.ndarray:
        """Start the trainings of a task; return the first observations, (k, d)."""
        self.training = self.world.start([spec] * self.trainings)
        return self.opened(spec, self.training.reset([seed] * self.trainings))

    def play(self, actions: Sequence[MixAction], epochs: int | None = None) -> StepResult:
        """Train every member under its action, for as many epochs as one is played or as given."""
        if self.training is None:
            raise not_begun("step")
        records = self.training.run_epoch(self.orders(actions), epochs or self.due)
        return self.told(actions, records)

    # What a table of several groups, which train together, plays with each of them:

    def opened(self, spec: TaskSpec, metrics: Sequence[EpochMetrics]) -> np.ndarray:
        """Take the records of untrained classifiers; return the first observations, (k, d)."""
        self.spec, self._train_size = spec, self.world.train_size(spec)
        self._history = [[record] for record in metrics]
        self.plays: list[list[str]] = [[] for _ in range(self.members)]
        self._last: list[MixAction | None] = [None] * self.members
        return self._observe()

    @property
    def due(self) -> int:
        """How many epochs the next action is played for."""
        left = self.world.budget - self._history[0][-1].epoch
        return min(self.settings.epochs_per_action, left)

    def orders(self, actions: Sequence[MixAction]) -> list[MixAction]:
        """Return what each training is to play, the hidden one included."""
        return [*actions, *[self._reference] * self._hidden]

    def told(self, actions: Sequence[MixAction], metrics: Sequence[EpochMetrics]) -> StepResult:
        """Take the records of an epoch that was trained under these actions."""
        played = [action.resolved() for action in actions]
        resting = np.array([h[-1].diverged for h in self._history])
        epochs = metrics[0].epoch - self._history[0][-1].epoch
        for history, record in zip(self._history, metrics, strict=True):
            history.append(record)
        self._last = list(played)
        for plays, action in zip(self.plays, played, strict=True):
            plays += [str(action)] * epochs
        finished = metrics[0].epoch >= self.world.budget
        observations = self._observe()
        return StepResult(
            observations=observations,
            truncated=np.zeros(self.members, dtype=bool),
            next_observations=observations,
            rewards=self._rewards(finished, resting),
            finished=finished,
            played=played,
            metrics=list(metrics[: self.members]),
        )

    def forked(self, turn: StepResult, donor: int) -> StepResult:
        """Let all members go on as the donor does; return what they are told of it."""
        everyone = range(self.members)
        self._history[: self.members] = [list(self._history[donor]) for _ in everyone]
        self.plays = [list(self.plays[donor]) for _ in everyone]
        self._last = [self._last[donor]] * self.members
        others = np.arange(self.members) != donor
        return replace(turn, truncated=others, next_observations=self._observe())

    # Going on elsewhere --------------------------------------------------------------------------

    @property
    def setup(self) -> Setup:
        """What a game must be like to go on from a snapshot of this one."""
        return {
            "form": "one group",
            "members": self.members,
            "trainings": self.trainings,
            "budget": self.world.budget,
            "epochs_per_action": self.settings.epochs_per_action,
        }

    def state_dict(self) -> Snapshot:
        """Return a copy of everything that the next turn depends on, the trainings included.

        Raises:
            ConfigError: Before ``reset``.
        """
        if self.training is None:
            raise not_begun("snapshot")
        training = self.training.state_dict()
        return {SETUP: self.setup, "game": self.episode_state(), "training": training}

    def load_state_dict(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot of a game of the same world and settings, begun here or not.

        Raises:
            ConfigError: If it is of another; this game is then as it was.
        """
        check_setup(snapshot, self.setup)
        training = self.world.start([spec_of(snapshot["game"])] * self.trainings)
        training.load_state_dict(snapshot["training"])
        self.training = training
        self.load_episode_state(snapshot["game"])

    def episode_state(self) -> dict[str, Any]:
        """Return a copy of what the game itself remembers, without its trainings.

        Raises:
            ConfigError: Before ``reset``.
        """
        if self.spec is None:
            raise not_begun("snapshot")
        return {
            "spec": asdict(self.spec),
            "histories": [[dict(vars(record)) for record in h] for h in self._history],
            "plays": [list(plays) for plays in self.plays],
            # Part by part: the text of an action rounds its ratio.
            "last": [None if action is None else dict(vars(action)) for action in self._last],
        }

    def load_episode_state(self, state: dict[str, Any]) -> None:
        """Remember what a game of the same settings did, as its ``episode_state`` tells."""
        self.spec = spec_of(state)
        self._train_size = self.world.train_size(self.spec)
        self._history = [[EpochMetrics(**record) for record in h] for h in state["histories"]]
        self.plays = [list(plays) for plays in state["plays"]]
        self._last = [None if parts is None else MixAction(**parts) for parts in state["last"]]

    def _rewards(self, finished: bool, resting: np.ndarray) -> np.ndarray:
        settings = self.settings.reward
        raw = np.array(
            [self._reward(h[-2], h[-1], finished, self.world.num_classes) for h in self._history]
        )
        diverged = np.array([h[-1].diverged for h in self._history])
        sound = ~diverged
        baseline = 0.0
        if settings.baseline == "group" and sound.any():
            # A diverged member would move the baseline of all others: it is left out.
            baseline = float(raw[sound].mean())
        elif settings.baseline == "reference" and sound[-1]:
            baseline = float(raw[-1])
        rewards = np.where(diverged, -settings.divergence_penalty, raw - baseline)
        return (settings.scale * np.where(resting, 0.0, rewards))[: self.members]

    def _observe(self) -> np.ndarray:
        return self.observer.all(
            [
                ObservationInputs(
                    history=self._seen(self._history[m]),
                    last_action=self._last[m],
                    budget=self.world.budget,
                    train_size=self._train_size,
                    num_classes=self.world.num_classes,
                    codec=self.codec,
                )
                for m in range(self.members)
            ]
        )

    def _seen(self, history: Sequence[EpochMetrics]) -> Sequence[EpochMetrics]:
        """Leave out what lies between two actions: who plays epoch by epoch sees no more."""
        every = self.settings.epochs_per_action
        if every == 1:
            return history
        return [record for record in history[:-1] if record.epoch % every == 0] + [history[-1]]


def spec_of(state: dict[str, Any]) -> TaskSpec:
    """Return the task that a game's state tells of."""
    return TaskSpec(**state["spec"])


def playable(settings: EnvSettings, world: World) -> EnvSettings:
    """Spell out what the word ``all`` stands for in a world (``automix.envs.vocabulary``)."""
    return replace(settings, actions=expanded(settings.actions, world.check))


class StackedGroups:
    """Several games that train together, so that their classifiers can share stacks.

    Args:
        world: Where trainings come from.
        settings: Actions, observations, reward.
        members: Episodes of each game.
        games: How many.
    """

    def __init__(self, world: World, settings: EnvSettings, members: int, games: int) -> None:
        self.world, settings = world, playable(settings, world)
        self.games = [EpisodeGroup(world, settings, members) for _ in range(games)]
        self._training: Training | None = None
        self._forks: list[Fork | None] = []

    @property
    def training(self) -> Training | None:
        """The trainings of all games, after ``reset``."""
        return self._training

    def reset(self, specs: Sequence[TaskSpec], seeds: Sequence[int]) -> np.ndarray:
        """Start a task in each game; return the first observations, (games * k, d)."""
        size = self.games[0].trainings
        self._training = self.world.start([spec for spec in specs for _ in range(size)])
        records = self._by_game(self._training.reset([s for s in seeds for _ in range(size)]))
        self._forks = [self._draw_fork(seed) for seed in seeds]
        opened = zip(self.games, specs, records, strict=True)
        return np.concatenate([game.opened(spec, own) for game, spec, own in opened])

    def play(self, actions: Sequence[MixAction], epochs: int | None = None) -> list[StepResult]:
        """Train every member of every game under its action, as ``EpisodeGroup.play`` does."""
        if self._training is None:
            raise not_begun("step")
        k = self.games[0].members
        dealt = [list(actions[start : start + k]) for start in range(0, len(actions), k)]
        orders = [game.orders(own) for game, own in zip(self.games, dealt, strict=True)]
        ordered = [action for own in orders for action in own]
        records = self._by_game(self._training.run_epoch(ordered, epochs or self.games[0].due))
        turns = [g.told(a, r) for g, a, r in zip(self.games, dealt, records, strict=True)]
        return self._forked(turns)

    @property
    def setup(self) -> Setup:
        """What a table must be like to go on from a snapshot of this one."""
        first, games = self.games[0], len(self.games)
        return {**first.setup, "form": "groups", "groups": games, "fork": first.settings.fork}

    def state_dict(self) -> Snapshot:
        """Return a copy of everything that the next turns depend on, the trainings included.

        Raises:
            ConfigError: Before ``reset``.
        """
        if self._training is None:
            raise not_begun("snapshot")
        return {
            SETUP: self.setup,
            "games": [game.episode_state() for game in self.games],
            "forks": [None if fork is None else asdict(fork) for fork in self._forks],
            "training": self._training.state_dict(),
        }

    def load_state_dict(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot of a table of the same world and settings, as one group does."""
        check_setup(snapshot, self.setup)
        states, size = snapshot["games"], self.games[0].trainings
        training = self.world.start([spec_of(state) for state in states for _ in range(size)])
        training.load_state_dict(snapshot["training"])
        self._training = training
        self._forks = [None if fork is None else Fork(**fork) for fork in snapshot["forks"]]
        for game, state in zip(self.games, states, strict=True):
            game.load_episode_state(state)

    def _draw_fork(self, seed: int) -> Fork | None:
        game, settings = self.games[0], self.games[0].settings
        if not settings.fork:
            return None
        return draw_fork(seed, self.world.budget, settings.epochs_per_action, game.members)

    def _forked(self, turns: Sequence[StepResult]) -> list[StepResult]:
        """Fork the games whose turn it is; one whose donor has diverged goes on as it was."""
        size, told = self.games[0].trainings, list(turns)
        donors = list(range(size * len(turns)))
        for number, (game, fork, turn) in enumerate(
            zip(self.games, self._forks, turns, strict=True)
        ):
            if fork is None or turn.metrics[0].epoch != fork.epoch:
                continue
            if turn.metrics[fork.donor].diverged:
                continue
            first = number * size
            donors[first : first + game.members] = [first + fork.donor] * game.members
            told[number] = game.forked(turn, fork.donor)
        if self._training is not None and donors != list(range(len(donors))):
            self._training.fork(donors)
        return told

    def _by_game(self, records: Sequence[EpochMetrics]) -> list[Sequence[EpochMetrics]]:
        size = self.games[0].trainings
        return [records[start : start + size] for start in range(0, len(records), size)]
