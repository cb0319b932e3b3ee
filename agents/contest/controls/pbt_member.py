"""A member of Population Based Training: training runs under the same action."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from automix.agents.contest.controls.evaluator import Start, WorldMaker, world_of
from automix.core.files import read_json, write_text
from automix.core.snapshots import load_snapshot, save_snapshot
from automix.mixing.actions import MixAction

HISTORY, SNAPSHOT = "history.json", "snapshot.safetensors"


class PBTMember:
    """Training runs of several tasks, side by side, and the actions that they have had.

    Args:
        worlds: Where training runs come from.
        starts: Task and seed of each.

    Attributes:
        played: One action for each epoch done, those of members that it was copied from too.
    """

    def __init__(self, worlds: WorldMaker, starts: Sequence[Start]) -> None:
        self._training = world_of(worlds).start([start.spec for start in starts])
        self._starts = list(starts)
        self._begun = False
        self.played: list[str] = []

    def train(self, action: MixAction, epochs: int) -> tuple[float, int]:
        """Train for some epochs.

        Returns:
            Mean validation accuracy after them, where what diverged has 0, and samples sent
            forward and backward.
        """
        records = [] if self._begun else self._training.reset([s.seed for s in self._starts])
        self._begun = True
        passes = sum(r.forward_passes + r.backward_passes for r in records)
        records = self._training.run_epoch([action] * len(self._starts), epochs)
        passes += sum(r.forward_passes + r.backward_passes for r in records)
        self.played += [str(action)] * epochs
        accuracies = [0.0 if r.diverged else r.val_accuracy for r in records]
        return float(np.mean(accuracies)), passes

    def save(self, folder: Path) -> None:
        """Write weights, optimizer state and history into a folder."""
        save_snapshot(folder / SNAPSHOT, self._training.state_dict())
        write_text(folder / HISTORY, json.dumps(self.played))

    def load(self, folder: Path) -> None:
        """Go on from what another member of the same starts wrote."""
        self._training.load_state_dict(load_snapshot(folder / SNAPSHOT))
        self.played = list(read_json(folder / HISTORY))
        self._begun = True

    def begin(self) -> None:
        """Forget everything: the next ``train`` starts afresh."""
        self._begun, self.played = False, []
