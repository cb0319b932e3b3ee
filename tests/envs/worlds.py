"""Games so small that an episode takes a moment, and scripted ones where every number is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from automix.data.tasks import FamilySettings, TaskSpec
from automix.envs import ActionSettings, EnvSettings, ImageWorld, RewardSettings
from automix.mixing.actions import MixAction
from automix.policy.observations import TaskFacts
from automix.training.metrics import LOSS_CAP, EpochMetrics
from tests import tiny

BUDGET = 2
SPACES = ("factored", "flat")
GUIDED = ActionSettings(saliency=("off", "gradient", "spectral"))

FAMILY = FamilySettings(dataset="digits", train_sizes=(40, 60), label_noise=(0.0, 0.3), val_size=30)


def image_world(**trainer: Any) -> ImageWorld:
    """Two epochs of three or four batches."""
    return ImageWorld(FAMILY, tiny.trainer_settings(epochs=BUDGET, **trainer))


def settings(
    space: str = "factored", actions: ActionSettings = GUIDED, **reward: Any
) -> EnvSettings:
    """All saliency providers, and a reward."""
    return EnvSettings(actions=replace(actions, space=space), reward=RewardSettings(**reward))


def record(epoch: int = 0, **changes: Any) -> EpochMetrics:
    """One record of a ten-class training that knows nothing."""
    values: dict[str, Any] = {
        "epoch": epoch,
        "train_loss": math.log(10),
        "train_accuracy": 0.1,
        "val_loss": math.log(10),
        "val_accuracy": 0.1,
        "val_confidence": 0.1,
        "gradient_norm": 1.0,
        "mixed_loss": math.log(10),
        "partner_share": 0.0,
        "lr": 0.1,
        "forward_passes": 10,
        "backward_passes": 5,
        "diverged": False,
    }
    return EpochMetrics(**values | changes)


class ScriptedTraining:
    """Shows the accuracies it was given; NaN is a training that has diverged."""

    def __init__(self, curves: np.ndarray) -> None:
        self._curves = curves

    def reset(self, seeds: Sequence[int]) -> list[EpochMetrics]:
        self._epoch = 0
        return self._records()

    def run_epoch(self, actions: Sequence[MixAction], epochs: int = 1) -> list[EpochMetrics]:
        assert len(actions) == len(self._curves)
        self._epoch += epochs
        return self._records()

    def train_epoch(self, actions: Sequence[MixAction]) -> None:
        self._epoch += 1

    def fork(self, donors: Sequence[int]) -> None:
        self._curves = self._curves[list(donors)]

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self._epoch, "curves": self._curves.copy()}

    def load_state_dict(self, snapshot: dict[str, Any]) -> None:
        self._epoch, self._curves = snapshot["epoch"], np.array(snapshot["curves"])

    def _records(self) -> list[EpochMetrics]:
        return [_scripted(self._epoch, value) for value in self._curves[:, self._epoch]]


def _scripted(epoch: int, accuracy: float) -> EpochMetrics:
    if np.isnan(accuracy):
        worst = {"val_accuracy": 0.0, "val_loss": LOSS_CAP, "train_loss": LOSS_CAP}
        return record(epoch, diverged=True, **worst)
    return record(epoch, val_accuracy=float(accuracy), val_loss=2.0 - 1.5 * float(accuracy))


class ScriptedWorld:
    """Trainings whose validation accuracies are given, (members, budget + 1)."""

    def __init__(self, curves: Sequence[Sequence[float]]) -> None:
        self.curves = np.asarray(curves, dtype=float)
        self.budget = self.curves.shape[1] - 1

    def draw(self, rng: np.random.Generator) -> TaskSpec:
        return TaskSpec(train_size=100, label_noise=0.0, seed=int(rng.integers(2**31)))

    def facts(self, spec: TaskSpec) -> TaskFacts:
        return TaskFacts(budget=self.budget, train_size=spec.train_size, num_classes=10)

    def check(self, actions: Sequence[MixAction]) -> None:
        pass

    def start(self, specs: Sequence[TaskSpec]) -> ScriptedTraining:
        assert len(specs) == len(self.curves), "a hidden reference is a member too"
        return ScriptedTraining(self.curves)
