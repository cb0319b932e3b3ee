"""What lies between a policy and a training run, as a frozen and checked record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from automix.core.settings import check_ranges, setting
from automix.envs.codec import ActionSettings
from automix.envs.observations import DEFAULT_OBSERVATIONS
from automix.envs.rewards import RewardSettings


@dataclass(frozen=True, kw_only=True)
class EnvSettings:
    """The interface between a policy and a training run."""

    actions: ActionSettings = field(default_factory=ActionSettings)
    observations: Sequence[str] = DEFAULT_OBSERVATIONS
    reward: RewardSettings = field(default_factory=RewardSettings)
    epochs_per_action: int = setting(1, least=1)
    """Epochs that each action is played for; the last of an episode may be cut short. Above 1 there
    are fewer decisions, each with more effect, and fewer measurements to pay for."""
    fork: bool = False
    """Whether once an episode, before an action that is drawn, all members of a group go on from
    the state of one of them (``automix.envs.groups.Fork``). The vectorised form only."""

    def __post_init__(self) -> None:
        check_ranges(self, "env")

    def steps(self, budget: int) -> int:
        """Return how many actions an episode of so many epochs takes."""
        return -(-budget // self.epochs_per_action)
