"""``automix/Surrogate-v0``: decisions of the same kind, in closed form and with a known optimum.

An episode takes microseconds.

A training run's validation accuracy rises by a fixed step each epoch, less what the action misses:

    gain(action) = (1 - miss(action)) * RISE / budget
    miss = 0.8 * |ratio - wanted| / 0.5  +  0.2 * [method is not the wanted one]

with ``wanted`` and the wanted method functions of label noise and progress: with clean labels no
mixing; with wrong ones much CutMix, and less of it in the last fifth. An action's gain does not
depend on what was played before, so the best policy takes the best action at each epoch, and no
constant action can do as well: that is what a learner must show here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from automix.core.errors import ConfigError
from automix.core.settings import Range
from automix.data.tasks import TaskSpec
from automix.envs.mix_env import MixEnv, MixVectorEnv
from automix.envs.settings import EnvSettings
from automix.mixing.actions import PLAIN, MixAction
from automix.policy.observations import TaskFacts
from automix.training.metrics import EpochMetrics

CLASSES = 10
RISE = 0.8
"""What a perfect policy gains over chance."""


class SurrogateTraining:
    """k closed-form training runs.

    Args:
        specs: The task of each; only its label noise matters.
        budget: Epochs.
    """

    def __init__(self, specs: Sequence[TaskSpec], budget: int) -> None:
        self._noise, self.budget = [spec.label_noise for spec in specs], budget

    def reset(self, seeds: Sequence[int]) -> list[EpochMetrics]:
        """Start at chance."""
        self._epoch = 0
        self._accuracy = np.full(len(self._noise), 1 / CLASSES)
        return [self._record(PLAIN, *of) for of in zip(self._accuracy, self._noise, strict=True)]

    def run_epoch(self, actions: Sequence[MixAction], epochs: int = 1) -> list[EpochMetrics]:
        """Add each action's gain."""
        for _ in range(epochs):
            self.train_epoch(actions)
        shown = zip(actions, self._accuracy, self._noise, strict=True)
        return [self._record(*of) for of in shown]

    def train_epoch(self, actions: Sequence[MixAction]) -> None:
        """Add each action's gain of one epoch."""
        progress = self._epoch / self.budget
        played = zip(actions, self._noise, strict=True)
        gains = [gain(action, noise, progress, self.budget) for action, noise in played]
        self._accuracy = self._accuracy + np.array(gains)
        self._epoch += 1

    def fork(self, donors: Sequence[int]) -> None:
        """Let every member go on from its donor's accuracy."""
        self._accuracy = self._accuracy[list(donors)]

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of epoch and accuracies, which is all there is."""
        return {"epoch": self._epoch, "accuracy": self._accuracy.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a copy of a state.

        Raises:
            ConfigError: If it is of other training runs, or of another number of them.
        """
        found = len(state.get("accuracy", ()))
        if found != len(self._noise):
            raise ConfigError(
                f"the state is of {found} closed-form training runs, these are {len(self._noise)}",
                "load it where there are as many of the same kind",
            )
        self._epoch, self._accuracy = state["epoch"], np.array(state["accuracy"])

    def _record(self, action: MixAction, accuracy: float, noise: float) -> EpochMetrics:
        loss = math.log(CLASSES) * (1 - accuracy)
        seen = accuracy * (1 - noise)
        return EpochMetrics(
            epoch=self._epoch,
            train_loss=math.log(CLASSES) * (1 - seen),
            train_accuracy=seen,
            val_loss=loss,
            val_accuracy=accuracy,
            val_confidence=accuracy,
            gradient_norm=1 - accuracy,
            mixed_loss=loss,
            partner_share=action.ratio,
            lr=0.0,
            forward_passes=0,
            backward_passes=0,
            diverged=False,
        )


def gain(action: MixAction, label_noise: float, progress: float, budget: int) -> float:
    """Return the validation accuracy that an action adds; see the module's text."""
    wanted = wanted_ratio(label_noise, progress)
    method = "cutmix" if label_noise > 0 else "none"
    miss = 0.8 * abs(action.ratio - wanted) / 0.5 + 0.2 * (action.method != method)
    return (1 - miss) * RISE / budget


def wanted_ratio(label_noise: float, progress: float) -> float:
    """Return the best ratio: none for clean labels, much for wrong ones and less at the end."""
    if label_noise == 0:
        return 0.0
    return 0.25 if progress >= 0.8 else 0.5


class SurrogateWorld:
    """Closed-form training runs of tasks that differ in label noise.

    Raises:
        ConfigError: If the budget is not a whole number of epochs.
    """

    def __init__(self, budget: int = 20, label_noise: Sequence[float] = (0.0, 0.2, 0.4)) -> None:
        Range(least=1, whole=True).check("budget", budget)
        self.budget, self.label_noise = budget, tuple(label_noise)

    def draw(self, rng: np.random.Generator) -> TaskSpec:
        """Draw a noise level."""
        noise = float(rng.choice(np.asarray(self.label_noise)))
        return TaskSpec(train_size=200, label_noise=noise, seed=int(rng.integers(2**31)))

    def facts(self, spec: TaskSpec) -> TaskFacts:
        """Return the budget and the classes; the size means nothing here."""
        return TaskFacts(budget=self.budget, train_size=spec.train_size, num_classes=CLASSES)

    def check(self, actions: Sequence[MixAction]) -> None:
        """Refuse nothing: every action has its value."""

    def start(self, specs: Sequence[TaskSpec]) -> SurrogateTraining:
        """Set up a closed-form training run of each task."""
        return SurrogateTraining(specs, self.budget)

    def value(self, action: MixAction) -> float:
        """Return the mean accuracy gained over an episode by playing one action throughout."""
        return float(np.mean([self._sums(noise, [action]) for noise in self.label_noise]))

    def optimum(self, choices: Sequence[MixAction]) -> float:
        """Return the mean accuracy gained by the best action at every epoch."""
        return float(np.mean([self._sums(noise, choices) for noise in self.label_noise]))

    def _sums(self, noise: float, choices: Sequence[MixAction]) -> float:
        steps = (epoch / self.budget for epoch in range(self.budget))
        return sum(max(gain(a, noise, t, self.budget) for a in choices) for t in steps)


class SurrogateMixEnv(MixEnv):
    """``MixEnv`` on closed-form training runs: same spaces, same rewards, known optimum.

    Args:
        budget: Epochs of an episode.
        settings: Actions, observations, reward.
    """

    def __init__(self, budget: int = 20, settings: EnvSettings | None = None) -> None:
        super().__init__(SurrogateWorld(budget), settings)


class SurrogateVectorEnv(MixVectorEnv):
    """``MixVectorEnv`` on closed-form training runs, with ``budget`` in the place of a world."""

    def __init__(
        self,
        group_size: int = 1,
        budget: int = 20,
        settings: EnvSettings | None = None,
        *others: Any,
        **named: Any,
    ) -> None:
        super().__init__(group_size, SurrogateWorld(budget), settings, *others, **named)
