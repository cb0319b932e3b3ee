"""What lies between a policy and a training run, as a frozen and checked record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from automix.core.errors import ConfigError
from automix.core.settings import check_ranges, setting
from automix.envs.codec import ActionSettings
from automix.envs.rewards import RewardSettings
from automix.policy.observations import DEFAULT_OBSERVATIONS
from automix.policy.policy import decision_starts


@dataclass(frozen=True, kw_only=True)
class EnvSettings:
    """The interface between a policy and a training run."""

    actions: ActionSettings = field(default_factory=ActionSettings)
    observations: Sequence[str] = DEFAULT_OBSERVATIONS
    reward: RewardSettings = field(default_factory=RewardSettings)
    epochs_per_action: int = setting(1, least=1)
    """Epochs that each action is played for; the last of an episode may be cut short. Above 1 there
    are fewer decisions, each with more effect, and fewer measurements to pay for."""
    decisions: int = setting(0, least=0)
    """Actions of an episode, each for an equal share of the budget, so that a policy means the same
    at 10 epochs and at 300; 0 leaves it to ``epochs_per_action``. A suite of worlds needs it."""
    fork: bool = False
    """Whether once an episode, before an action that is drawn, all members of a group go on from
    the state of one of them (``automix.envs.groups.Fork``). The vectorised form only."""

    def __post_init__(self) -> None:
        check_ranges(self, "env")
        if self.decisions and self.epochs_per_action > 1:
            raise ConfigError(
                f"env.decisions is {self.decisions} and env.epochs_per_action "
                f"{self.epochs_per_action}, wanted one of the two",
                "set env.decisions=0 or env.epochs_per_action=1",
            )

    def starts(self, budget: int) -> list[int]:
        """Return how many epochs are done when each action of an episode is chosen, from 0 on.

        Raises:
            ConfigError: If the budget has fewer epochs than there are decisions.
        """
        return decision_starts(budget, self.decisions, self.epochs_per_action)

    def steps(self, budget: int) -> int:
        """Return how many actions an episode of so many epochs takes."""
        return self.decisions or len(self.starts(budget))
