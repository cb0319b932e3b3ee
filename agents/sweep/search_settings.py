"""What a search is told: ``sweep.<key>=value``, beside what every sweep is told."""

from __future__ import annotations

from dataclasses import dataclass

from automix.agents.sweep.settings import SweepSettings
from automix.core.errors import ConfigError
from automix.core.settings import setting

MOST_TRIALS = 16
"""Trials where nothing says how many."""

SLICES = 10
"""Times in learning at which trials are judged, where nothing says how often."""


@dataclass(frozen=True, kw_only=True)
class SearchSettings(SweepSettings):
    """One search over hyper-parameters."""

    trials: int = setting(0, least=0)
    """Trials; 0 takes every combination of the choices, at most 16."""
    interval: int = setting(0, least=0)
    """Updates between two judgements; 0 is a tenth of all. Trials are judged by the mean validation
    accuracy of the rounds since the last one, while they learn."""
    grace: int = setting(0, least=0)
    """asha: no trial is stopped before so many updates; 0 is one interval."""
    reduction_factor: float = setting(3.0, above=1)
    """asha: one in so many goes on, at ``grace`` and again each time that so many times the updates
    have passed."""
    quantile: float = 0.25
    """pbt, pb2: this share of the trials, the weakest, copies as many of the best."""
    replay: str = ""
    """replay: the ``schedule.jsonl`` of a search."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.quantile <= 0.5:
            raise ConfigError(f"sweep.quantile is {self.quantile}, wanted above 0, at most 0.5")
        if bool(self.replay) != (self.search == "replay"):
            raise ConfigError(
                f"sweep.search={self.search} and sweep.replay={self.replay!r} do not go together",
                "to learn as a winner did: sweep.search=replay sweep.replay=<schedule.jsonl>",
            )

    def slice_of(self, updates: int) -> int:
        """Return the updates between two judgements of a learning with so many."""
        return self.interval or max(1, updates // SLICES)
