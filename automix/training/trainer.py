"""Train one classifier epoch by epoch, one mix action an epoch."""

from __future__ import annotations

from automix.data.tasks import Task
from automix.mixing.actions import MixAction
from automix.training.metrics import EpochMetrics
from automix.training.population import Population, Snapshot
from automix.training.settings import ELEMENTWISE, SaliencySettings, TrainerSettings

__all__ = [
    "ELEMENTWISE",
    "Population",
    "SaliencySettings",
    "Snapshot",
    "Trainer",
    "TrainerSettings",
]


class Trainer:
    """One training: a population of one, whose records and actions come singly.

    Args:
        task: The data.
        settings: How to train.
        device: Where.
    """

    def __init__(self, task: Task, settings: TrainerSettings, device: str = "cpu") -> None:
        self.population = Population([task], settings, device)

    def reset(self, seed: int) -> EpochMetrics:
        """Start afresh from a seed; return the metrics of the untrained classifier."""
        return self.population.reset([seed])[0]

    def run_epoch(self, action: MixAction) -> EpochMetrics:
        """Train for one epoch under an action."""
        return self.population.run_epoch([action])[0]

    def state_dict(self) -> Snapshot:
        """Return a copy of everything that the next epoch depends on."""
        return self.population.state_dict()

    def load_state_dict(self, snapshot: Snapshot) -> None:
        """Continue from a snapshot of a trainer of the same task and settings."""
        self.population.load_state_dict(snapshot)
