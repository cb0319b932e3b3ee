"""The rules: groups of episodes that train together, an action each per epoch.

An ``EpisodeGroup`` turns what its members' training runs showed into observations and rewards.
``StackedGroups`` hold the training runs of one group or more, and saves and loads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from gymnasium import spaces

from automix.core.errors import ConfigError
from automix.core.seeding import generator
from automix.core.settings import Range
from automix.data.tasks import TaskSpec
from automix.envs.codec import ActionCodec
from automix.envs.rewards import REWARDS
from automix.envs.settings import EnvSettings
from automix.envs.vocabulary import expanded
from automix.envs.worlds import Training, World, of_world
from automix.mixing.actions import MixAction
from automix.policy.observations import ObservationInputs, Observer
from automix.training.metrics import EpochMetrics

SETUP = "setup"
"""Where a state says what it is of."""


@dataclass(frozen=True)
class StepResult:
    """What an epoch showed and earned, for the k members of a group."""

    observations: np.ndarray
    """(k, d) float32."""
    rewards: np.ndarray
    """(k,) float64, scaled and relative to the baseline."""
    epochs: int
    """How many the actions were played for."""
    finished: bool
    """Whether the budget is spent."""
    played: list[MixAction]
    metrics: list[EpochMetrics]
    truncated: np.ndarray
    """(k,) bool: episodes that ended here because their group forked."""
    next_observations: np.ndarray
    """(k, d) float32: what the next actions answer; after a fork, of the donor's training run."""


@dataclass(frozen=True)
class Fork:
    """Where one group forks in one episode: all members go on from the state of the donor.

    Until there each has had a path of its own; from there on they differ by their later actions
    only, so that their returns compare actions taken from one state. The episodes of all but the
    donor end at the fork, truncated, and new ones begin.
    """

    epoch: int
    """After how many epochs."""
    donor: int
    """The member that all go on from."""

    @classmethod
    def draw(cls, seed: int, starts: Sequence[int], members: int) -> Fork | None:
        """Draw an action to fork before, and the donor; None if an episode has one action only.

        Args:
            seed: Of the group's training runs.
            starts: Epochs done when each action is chosen.
            members: Episodes of the group.
        """
        places = starts[1:]
        if not places:
            return None
        rng = generator(seed, "fork")
        return cls(int(rng.choice(places)), int(rng.integers(members)))


class EpisodeGroup:
    """The episodes of one group, which share task, initial weights, batch order and mixing draws.

    Args:
        world: Where the training runs come from.
        settings: Actions (without ``all``), observations, reward.
        members: Episodes in the group; a reference baseline adds one behind the scenes.

    A training run that diverges earns the penalty once and rests: its further rewards are 0.

    Raises:
        ConfigError: If the baseline needs more members, or the world's training runs cannot play
            one of the actions.
    """

    def __init__(self, world: World, settings: EnvSettings, members: int) -> None:
        if settings.reward.baseline == "group" and members < 2:
            raise ConfigError(
                "env.reward.baseline is 'group', which needs 2 episodes side by side, got 1",
                "use the vectorised form with group_size of 2 or more, or another baseline",
            )
        self.world, self.settings, self.members = world, settings, members
        self.codec = ActionCodec(settings.actions)
        self.observer = Observer(settings.observations, settings.actions)
        self._reward = REWARDS[settings.reward.name]
        hidden = settings.reward.plays_reference
        self._hidden = [MixAction.parse(settings.reward.reference)] if hidden else []
        world.check([*self.codec.choices, *self._hidden])
        self.spec: TaskSpec | None = None

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
        low, high = self.observer.low, self.observer.high
        return spaces.Box(low, high, dtype=np.float32)

    @property
    def trainings(self) -> int:
        """How many training runs the group needs, the hidden one included."""
        return self.members + len(self._hidden)

    @property
    def due(self) -> int:
        """How many epochs the next action is played for."""
        done = self._history[0][-1].epoch
        later = (start for start in [*self.starts, self.facts.budget] if start > done)
        return next(later, done) - done

    def reset(self, spec: TaskSpec, metrics: Sequence[EpochMetrics]) -> np.ndarray:
        """Begin a task with the records of untrained classifiers.

        Returns:
            The first observations, (k, d).
        """
        self._take(spec)
        self._history = [[record] for record in metrics]
        self.mixes: list[list[str]] = [[] for _ in range(self.members)]
        self._last: list[MixAction | None] = [None] * self.members
        return self._observe()

    def _take(self, spec: TaskSpec) -> None:
        self.spec, self.facts = spec, self.world.facts(spec)
        with of_world(spec.world):
            self.starts = self.settings.starts(self.facts.budget)

    def with_reference(self, actions: Sequence[MixAction]) -> list[MixAction]:
        """Return the action of each training run, the hidden one included."""
        return [*actions, *self._hidden]

    def step(self, actions: Sequence[MixAction], metrics: Sequence[EpochMetrics]) -> StepResult:
        """Take the records of what was trained under these actions."""
        resting = np.array([h[-1].diverged for h in self._history])
        for history, record in zip(self._history, metrics, strict=True):
            history.append(record)
        self._last = list(actions)
        epochs = metrics[0].epoch - self._history[0][-2].epoch
        self.note(actions, metrics[0].epoch - len(self.mixes[0]))
        finished = metrics[0].epoch >= self.facts.budget
        observations = self._observe()
        return StepResult(
            observations=observations,
            truncated=np.zeros(self.members, dtype=bool),
            next_observations=observations,
            rewards=self._rewards(finished, resting),
            epochs=epochs,
            finished=finished,
            played=list(actions),
            metrics=list(metrics[: self.members]),
        )

    def note(self, actions: Sequence[MixAction], epochs: int) -> None:
        """Note what was played for some epochs."""
        for mixes, action in zip(self.mixes, actions, strict=True):
            mixes += [str(action)] * epochs

    def fork(self, result: StepResult, donor: int) -> StepResult:
        """Let all members go on as the donor does; return the step with what it then shows."""
        self._history[: self.members] = [list(self._history[donor]) for _ in range(self.members)]
        self.mixes = [list(self.mixes[donor]) for _ in range(self.members)]
        self._last = [self._last[donor]] * self.members
        others = np.arange(self.members) != donor
        return replace(result, truncated=others, next_observations=self._observe())

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of what the group remembers, without its training runs."""
        assert self.spec is not None
        return {
            "spec": asdict(self.spec),
            "histories": [[dict(vars(record)) for record in h] for h in self._history],
            "plays": [list(mixes) for mixes in self.mixes],
            # Part by part: the text of an action rounds its ratio.
            "last": [None if action is None else dict(vars(action)) for action in self._last],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Remember what a group of the same settings did."""
        self._take(TaskSpec(**state["spec"]))
        self._history = [[EpochMetrics(**record) for record in h] for h in state["histories"]]
        self.mixes = [list(mixes) for mixes in state["plays"]]
        self._last = [None if parts is None else MixAction(**parts) for parts in state["last"]]

    def _rewards(self, finished: bool, resting: np.ndarray) -> np.ndarray:
        settings = self.settings.reward
        raw = np.array(
            [self._reward(h[-2], h[-1], finished, self.facts.num_classes) for h in self._history]
        )
        diverged = np.array([h[-1].diverged for h in self._history])
        rewards = np.where(
            diverged, -settings.divergence_penalty, settings.relative(raw, ~diverged)
        )
        return (settings.scale * np.where(resting, 0.0, rewards))[: self.members]

    def _observe(self) -> np.ndarray:
        return self.observer.all(
            [
                ObservationInputs(
                    history=self._seen(history),
                    last_action=last,
                    facts=self.facts,
                    vocabulary=self.settings.actions,
                )
                for history, last in zip(self.histories, self._last, strict=True)
            ]
        )

    def _seen(self, history: Sequence[EpochMetrics]) -> Sequence[EpochMetrics]:
        """Leave out what lies between two actions: a policy asked every epoch sees no more."""
        if len(self.starts) == self.facts.budget:
            return history
        starts = set(self.starts)
        return [record for record in history[:-1] if record.epoch in starts] + [history[-1]]


_Stack = tuple[list[int], Training]
"""The groups of one world, and their training runs."""


class StackedGroups:
    """Groups that train together, so that their classifiers can share stacks.

    Those of different worlds train side by side for different numbers of epochs; all have equally
    many actions.

    Args:
        world: Where the training runs come from.
        settings: Actions, observations, reward; ``all`` among the actions is expanded here.
        members: Episodes of each group.
        groups: How many.

    Raises:
        ConfigError: As ``EpisodeGroup``.
    """

    def __init__(self, world: World, settings: EnvSettings, members: int, groups: int = 1) -> None:
        for name, count in {"group_size": members, "groups": groups}.items():
            Range(least=1, whole=True).check(name, count)
        settings = replace(settings, actions=expanded(settings.actions, world.check))
        self.world, self.settings = world, settings
        self.groups = [EpisodeGroup(world, settings, members) for _ in range(groups)]
        self._stacks: list[_Stack] = []
        self._forks: list[Fork | None] = []

    @property
    def training(self) -> Training:
        """The training runs of all groups, where they are of one world.

        Raises:
            ConfigError: Before ``reset``.
        """
        ((_, training),) = self._begun()
        return training

    @property
    def over(self) -> bool:
        """Whether the budget is spent; a step is then an error.

        Raises:
            ConfigError: Before ``reset``.
        """
        return bool(self._begun()) and self.groups[0].due < 1

    def reset(self, specs: Sequence[TaskSpec], seeds: Sequence[int]) -> np.ndarray:
        """Start a task in each group; return the first observations, (groups * k, d)."""
        size = self.groups[0].trainings
        self._stacks = self._start(specs)
        begun: dict[int, np.ndarray] = {}
        for places, training in self._stacks:
            records = self._by_group(
                training.reset([seeds[g] for g in places for _ in range(size)])
            )
            for g, own in zip(places, records, strict=True):
                begun[g] = self.groups[g].reset(specs[g], own)
        drawn = zip(self.groups, seeds, strict=True)
        self._forks = [self._draw_fork(group, seed) for group, seed in drawn]
        return np.concatenate([begun[g] for g in range(len(self.groups))])

    def _begun(self) -> list[_Stack]:
        if not self._stacks:
            raise ConfigError("the environment was asked before reset", "call env.reset() first")
        return self._stacks

    def _start(self, specs: Sequence[TaskSpec]) -> list[_Stack]:
        """Set up the training runs, those of one world together."""
        size, stacks = self.groups[0].trainings, []
        for name in dict.fromkeys(spec.world for spec in specs):
            places = [g for g, spec in enumerate(specs) if spec.world == name]
            runs = [specs[g] for g in places for _ in range(size)]
            stacks.append((places, self.world.start(runs)))
        return stacks

    def step(self, actions: Sequence[MixAction], epochs: int | None = None) -> list[StepResult]:
        """Train every member of every group under its action.

        Args:
            actions: One for each member, group after group.
            epochs: For how long; default as long as an action is played.

        Returns:
            One result for each group.

        Raises:
            ConfigError: Before ``reset``, after the last epoch, or with another number of actions.
        """
        if self.over:
            raise after_the_end()
        stacks, chosen = self._begun(), self._of_groups(actions)
        results: dict[int, StepResult] = {}
        for places, training in stacks:
            every = [a for g in places for a in self.groups[g].with_reference(chosen[g])]
            due = epochs or self.groups[places[0]].due
            records = self._by_group(training.run_epoch(every, due))
            for g, own in zip(places, records, strict=True):
                results[g] = self.groups[g].step(chosen[g], own)
        return self._forked([results[g] for g in range(len(self.groups))])

    def train_epoch(self, actions: Sequence[MixAction]) -> None:
        """Train every member for one epoch, whose measuring is left to the next step.

        Raises:
            ConfigError: Before ``reset``.
        """
        chosen = self._of_groups(actions)
        for places, training in self._begun():
            every = [a for g in places for a in self.groups[g].with_reference(chosen[g])]
            training.train_epoch(every)
            for g in places:
                self.groups[g].note(chosen[g], 1)

    def _of_groups(self, actions: Sequence[MixAction]) -> list[Sequence[MixAction]]:
        k = self.groups[0].members
        if len(actions) != k * len(self.groups):
            raise ConfigError(f"got {len(actions)} actions, wanted {k * len(self.groups)}")
        return [actions[start : start + k] for start in range(0, len(actions), k)]

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of everything that the next steps depend on, the training runs included.

        Raises:
            ConfigError: Before ``reset``.
        """
        trainings = [training.state_dict() for _, training in self._begun()]
        return {
            SETUP: self._setup,
            "games": [group.state_dict() for group in self.groups],
            "forks": [None if fork is None else asdict(fork) for fork in self._forks],
            "trainings": trainings,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state of the same world and settings, begun here or not.

        Raises:
            ConfigError: If it is of others; these groups are then as they were.
        """
        check_setup(state, self._setup)
        groups = state["games"]
        stacks = self._start([TaskSpec(**own["spec"]) for own in groups])
        for (_, training), own in zip(stacks, state["trainings"], strict=True):
            training.load_state_dict(own)
        self._stacks = stacks
        self._forks = [None if fork is None else Fork(**fork) for fork in state["forks"]]
        for group, own in zip(self.groups, groups, strict=True):
            group.load_state_dict(own)

    @property
    def _setup(self) -> dict[str, str | int]:
        """What groups must have in common to go on from each other's state, by name."""
        first = self.groups[0]
        return {
            "form": "groups by world",
            "members": first.members,
            "trainings": first.trainings,
            "budget": self.world.budget,
            "epochs_per_action": self.settings.epochs_per_action,
            "decisions": self.settings.decisions,
            "groups": len(self.groups),
            "fork": self.settings.fork,
        }

    def _draw_fork(self, group: EpisodeGroup, seed: int) -> Fork | None:
        return Fork.draw(seed, group.starts, group.members) if self.settings.fork else None

    def _forked(self, results: list[StepResult]) -> list[StepResult]:
        """Fork the groups whose time it is; one whose donor has diverged goes on as it was."""
        size = self.groups[0].trainings
        for places, training in self._stacks:
            donors = list(range(size * len(places)))
            for first, g in zip(range(0, len(donors), size), places, strict=True):
                group, fork, metrics = self.groups[g], self._forks[g], results[g].metrics
                if fork and metrics[0].epoch == fork.epoch and not metrics[fork.donor].diverged:
                    donors[first : first + group.members] = [first + fork.donor] * group.members
                    results[g] = group.fork(results[g], fork.donor)
            if donors != list(range(len(donors))):
                training.fork(donors)
        return results

    def _by_group(self, records: Sequence[EpochMetrics]) -> list[Sequence[EpochMetrics]]:
        size = self.groups[0].trainings
        return [records[start : start + size] for start in range(0, len(records), size)]


def after_the_end() -> ConfigError:
    """Return what a step after the end of an episode raises."""
    return ConfigError("step was called after the end of the episode", "call env.reset() first")


def check_setup(state: dict[str, Any], setup: dict[str, str | int]) -> None:
    """Refuse what is not the state of such groups.

    Raises:
        ConfigError: If it is of others, or of none.
    """
    found = state.get(SETUP)
    if not isinstance(found, dict):
        raise ConfigError(
            "this is not the state of an environment",
            "load what state_dict() of an environment returned",
        )
    for name, own in setup.items():
        if found.get(name) != own:
            raise ConfigError(
                f"the state is of an environment with {name} {found.get(name)!r}, "
                f"this one has {own!r}",
                "load it in an environment of the settings that it was taken with",
            )


def generator_at(state: Any) -> np.random.Generator:
    """Return a generator that goes on from ``bit_generator.state`` of one of gymnasium's."""
    bits = np.random.PCG64(0)
    bits.state = state
    return np.random.Generator(bits)
