"""Settings of a sweep: ``sweep.<key>=value``."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from automix.agents.parallel.machine import Capacity
from automix.core.errors import ConfigError, did_you_mean
from automix.core.settings import check_ranges, setting

SEARCHES = ("grid", "asha", "pbt", "pb2", "replay")
"""How trials are chosen: ``grid`` runs every combination of the values, the others are searches."""

POPULATIONS = ("pbt", "pb2")
"""Searches whose trials learn side by side, and copy each other."""

METRICS = ("val_accuracy",)
"""What may decide; figures of the test split may not."""

MOST_TRIALS = 16
"""Trials of a search where ``sweep.trials`` does not say how many."""

SLICES = 10
"""Judgements of a trial in a search where ``sweep.interval`` does not say how often."""


@dataclass(frozen=True, kw_only=True)
class SweepSettings:
    """One sweep: how trials are chosen, what decides, and what a trial takes."""

    name: str = setting("", affects="speed")
    """Folder under ``sweeps/``; empty makes one from the overrides: equal ones meet again."""
    search: str = "grid"
    metric: str = "val_accuracy"
    """What trials are judged by: mean validation accuracy of the agent's compared training runs;
    in a search, of the rounds since the last judgement."""
    cpus_per_trial: int = setting(1, affects="speed", least=1)
    """Cores that a trial takes, and processes that it trains with on CPUs. Never changes a
    result."""
    gpus_per_trial: float = setting(0.0, affects="speed")
    """GPUs that a trial takes; a share below 1 bounds its share of the memory too."""
    max_retries: int = setting(3, affects="speed", least=0)
    """How often a trial goes on elsewhere after its process or its machine died. A trial that
    fails by itself is not tried again: it would fail again."""
    max_concurrent: int = setting(0, affects="speed", least=0)
    """Most trials at once; 0 is as many as fit."""
    trials: int = setting(0, least=0)
    """Searches: trials; 0 takes every combination of the choices, at most 16."""
    interval: int = setting(0, least=0)
    """Searches: updates between two judgements; 0 is a tenth of all."""
    grace: int = setting(0, least=0)
    """asha: no trial is stopped before so many updates; 0 is one interval."""
    reduction_factor: float = setting(3.0, above=1)
    """asha: one in so many goes on, at ``grace`` and again each time that so many times the updates
    have passed."""
    quantile: float = 0.25
    """pbt, pb2: this share of the trials, the weakest, copies as many of the best."""
    replay: str = setting("", affects="speed")
    """replay: the ``schedule.jsonl`` of a search. What is in it matters, not where it is."""

    def __post_init__(self) -> None:
        for name, known in (("search", SEARCHES), ("metric", METRICS)):
            value = getattr(self, name)
            if value not in known:
                raise ConfigError(
                    f"sweep.{name} is {value!r}, wanted {' or '.join(known)}."
                    f"{did_you_mean(value, known)}"
                )
        check_ranges(self, "sweep")
        gpus = self.gpus_per_trial
        if not (0 <= gpus <= 1 or (gpus < math.inf and gpus == int(gpus))):
            raise ConfigError(
                f"sweep.gpus_per_trial is {gpus}, wanted a share from 0 to 1 or a whole number"
            )
        if not 0 < self.quantile <= 0.5:
            raise ConfigError(f"sweep.quantile is {self.quantile}, wanted above 0, at most 0.5")
        if self.name and (self.name.startswith(".") or "/" in self.name or "\\" in self.name):
            raise ConfigError(
                f"sweep.name is {self.name!r}, wanted one folder name without slashes",
                "to write elsewhere, give --run-dir",
            )
        if bool(self.replay) != (self.search == "replay"):
            raise ConfigError(
                f"sweep.search={self.search} and sweep.replay={self.replay!r} do not go together",
                "to learn as a winner did: sweep.search=replay sweep.replay=<schedule.jsonl>",
            )
        for one in fields(self):
            changed = getattr(self, one.name) != one.default
            if self.search == "grid" and changed and one.name in OF_SEARCHES:
                raise ConfigError(
                    f"sweep.{one.name} is for searches, and sweep.search=grid is none",
                    f"sweep.search: {', '.join(SEARCHES)}",
                )

    @property
    def one_trial(self) -> Capacity:
        """What a trial takes."""
        return Capacity(self.cpus_per_trial, self.gpus_per_trial)

    @property
    def searches(self) -> bool:
        """Whether trials learn in slices, between which they are judged."""
        return self.search != "grid"

    @property
    def population(self) -> bool:
        """Whether trials learn side by side, and copy each other."""
        return self.search in POPULATIONS


OF_SEARCHES = ("trials", "interval", "grace", "reduction_factor", "quantile")
"""Settings that a grid has no use for."""
