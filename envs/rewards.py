"""Rewards by name: what one epoch earned, from the validation split only.

Gains telescope: with a discount of 1 an episode's sum is what its end gained over its start. To
add one, write a function here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from automix.core.errors import ConfigError
from automix.core.registry import Info, Registry
from automix.core.settings import check_ranges, setting
from automix.mixing.actions import MixAction
from automix.training.metrics import EpochMetrics

SPREAD_FLOOR = 0.01
"""Added to a group's spread: differences of a hundredth are mostly luck."""

Reward = Callable[[EpochMetrics, EpochMetrics, bool, int], float]
"""(before, after, finished, num_classes) -> reward."""

REWARDS: Registry[Reward, Info] = Registry("reward", Info)


@dataclass(frozen=True, kw_only=True)
class RewardSettings:
    """Which reward, relative to what, and in which unit."""

    name: str = "accuracy_gain"
    """A name in ``REWARDS``."""
    baseline: Literal["none", "group", "reference"] = "none"
    """What is subtracted at each step: nothing, the mean of the group that shares task, initial
    weights and batches, or the reward of a reference action played in the same group."""
    reference: str = "none"
    """The reference action, as ``method@ratio+saliency``."""
    scale: float = setting(10.0, above=0)
    """Factor on the reward: accuracies differ by hundredths, and agents like units."""
    unit: Literal["one", "spread"] = "one"
    """``spread`` divides by the deviation within the group (plus 0.01), so that worlds in which
    little is to be gained count as much as those in which much is. For rewards at the end."""
    harm: float = setting(0.0, least=0)
    """How much dearer it is to fall below the reference action than to win is sweet: this many
    times the shortfall is taken off. Above 0 the reference is played in each group. For rewards
    at the end."""
    divergence_penalty: float = setting(1.0, least=0)
    """Taken once, before scaling, when a training diverges."""

    def __post_init__(self) -> None:
        REWARDS.entry(self.name)
        MixAction.parse(self.reference)
        if self.baseline not in ("none", "group", "reference"):
            raise ConfigError(
                f"env.reward.baseline is {self.baseline!r}, wanted 'none', 'group' or 'reference'"
            )
        if self.unit not in ("one", "spread"):
            raise ConfigError(f"env.reward.unit is {self.unit!r}, wanted 'one' or 'spread'")
        check_ranges(self, "env.reward")

    @property
    def plays_reference(self) -> bool:
        """Whether each group has a hidden member that plays the reference action."""
        return self.baseline == "reference" or self.harm > 0

    def relative(self, raw: np.ndarray, sound: np.ndarray) -> np.ndarray:
        """Return rewards relative to the baseline and in the unit, before they are scaled.

        Args:
            raw: (k,) rewards of a group; the last is the reference's where it is played.
            sound: (k,) bool: members that have not diverged. A diverged one would move the
                baseline of all others: it is left out.
        """
        own = raw[:-1] if self.plays_reference else raw
        heard = own[sound[: len(own)]]
        baseline = 0.0
        if self.baseline == "group" and len(heard):
            baseline = float(heard.mean())
        elif self.baseline == "reference" and sound[-1]:
            baseline = float(raw[-1])
        rewards = raw - baseline
        if self.harm and sound[-1]:
            rewards = rewards - self.harm * np.maximum(0.0, raw[-1] - raw)
        if self.unit == "spread" and len(heard):
            rewards = rewards / (heard.std() + SPREAD_FLOOR)
        return rewards


@REWARDS.register("accuracy_gain")
def accuracy_gain(
    before: EpochMetrics, after: EpochMetrics, finished: bool, num_classes: int
) -> float:
    """Gain in validation accuracy."""
    return after.val_accuracy - before.val_accuracy


@REWARDS.register("loss_gain")
def loss_gain(before: EpochMetrics, after: EpochMetrics, finished: bool, num_classes: int) -> float:
    """Fall of the validation loss, in units of log(classes)."""
    return (before.val_loss - after.val_loss) / math.log(num_classes)


@REWARDS.register("final_accuracy")
def final_accuracy(
    before: EpochMetrics, after: EpochMetrics, finished: bool, num_classes: int
) -> float:
    """Validation accuracy after the last epoch, 0 before."""
    return after.val_accuracy if finished else 0.0


@REWARDS.register("final_calibrated")
def final_calibrated(
    before: EpochMetrics, after: EpochMetrics, finished: bool, num_classes: int
) -> float:
    """After the last epoch, the geometric mean of the right classes' calibrated probabilities.

    ``exp(-loss)`` at the temperature that suits each classifier best, in [0, 1]: close to the
    accuracy in value, and with less noise from which images the validation split holds. 0 before.
    """
    if not finished or after.val_calibrated_loss is None:
        return 0.0
    return math.exp(-after.val_calibrated_loss)


@REWARDS.register("final_loss")
def final_loss(
    before: EpochMetrics, after: EpochMetrics, finished: bool, num_classes: int
) -> float:
    """Negative validation loss after the last epoch, in units of log(classes), 0 before."""
    return -after.val_loss / math.log(num_classes) if finished else 0.0
