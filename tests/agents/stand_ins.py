"""Trainings in closed form with difficulty and noise, for searches that must find an optimum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from automix.data.tasks import TaskSpec
from automix.envs.groups import generator_at
from automix.envs.surrogate import SurrogateTraining, SurrogateWorld, gain
from automix.mixing.actions import MixAction
from automix.training.metrics import EpochMetrics


class NoisyTraining(SurrogateTraining):
    """The surrogate's trainings, with tasks as different as real ones and a scatter of choices."""

    def reset(self, seeds: Sequence[int]) -> list[EpochMetrics]:
        self._offset = [np.random.default_rng([seed, 0]).normal(0, 0.1) for seed in seeds]
        self._rngs = [np.random.default_rng([seed, 1]) for seed in seeds]
        return super().reset(seeds)

    def state_dict(self) -> dict[str, Any]:
        draws = [rng.bit_generator.state for rng in self._rngs]
        return {**super().state_dict(), "offset": list(self._offset), "draws": draws}

    def load_state_dict(self, snapshot: dict[str, Any]) -> None:
        super().load_state_dict(snapshot)
        self._offset = list(snapshot["offset"])
        self._rngs = [generator_at(state) for state in snapshot["draws"]]

    def run_epoch(self, actions: Sequence[MixAction], epochs: int = 1) -> list[EpochMetrics]:
        for _ in range(epochs):
            records = self._run_one(actions)
        return [replace(r, forward_passes=3 * epochs, backward_passes=2 * epochs) for r in records]

    def _run_one(self, actions: Sequence[MixAction]) -> list[EpochMetrics]:
        records = super().run_epoch(actions)
        # What an action meets by chance is the same for all members of a start that play it.
        by_chance = [
            rng.normal(0, 0.01, 100)[round(100 * a.ratio) + 3 * len(a.method)]
            for rng, a in zip(self._rngs, actions, strict=True)
        ]
        self._accuracy = self._accuracy + np.array(by_chance)
        return [
            replace(r, val_accuracy=r.val_accuracy + offset)
            for r, offset in zip(records, self._offset, strict=True)
        ]


class NoisyWorld(SurrogateWorld):
    """Importable by name, so that worker processes can build it."""

    def start(self, specs: Sequence[TaskSpec]) -> NoisyTraining:
        return NoisyTraining(specs, self.budget)

    def open_loop(self, menu: Sequence[MixAction]) -> float:
        """Return the mean accuracy that the best schedule gains when it cannot see the task."""
        return sum(
            max(
                np.mean(
                    [gain(a, noise, t / self.budget, self.budget) for noise in self.label_noise]
                )
                for a in menu
            )
            for t in range(self.budget)
        )

    def of_schedule(self, schedule: Sequence[MixAction]) -> float:
        """Return the mean accuracy that an open-loop schedule gains."""
        played = [schedule[t * len(schedule) // self.budget] for t in range(self.budget)]
        return float(
            np.mean(
                [
                    sum(gain(a, n, t / self.budget, self.budget) for t, a in enumerate(played))
                    for n in self.label_noise
                ]
            )
        )


class FailingTraining(SurrogateTraining):
    """What plays CutMix diverges."""

    def run_epoch(self, actions: Sequence[MixAction], epochs: int = 1) -> list[EpochMetrics]:
        records = super().run_epoch(actions, epochs)
        return [
            replace(r, diverged=True, val_accuracy=0.0) if a.method == "cutmix" else r
            for r, a in zip(records, actions, strict=True)
        ]


class FailingWorld(SurrogateWorld):
    """Importable by name."""

    def start(self, specs: Sequence[TaskSpec]) -> FailingTraining:
        return FailingTraining(specs, self.budget)
