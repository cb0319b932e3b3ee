"""What a sweep is told about itself: ``sweep.<key>=value``."""

from __future__ import annotations

from dataclasses import dataclass

from automix.core.errors import ConfigError, did_you_mean
from automix.core.settings import check_ranges, setting

SEARCHES = ("grid", "asha", "pbt", "pb2", "replay")
"""How trials are chosen: ``grid`` runs every combination of the words, the others are searches
(``automix.agents.sweep.search``)."""

METRICS = ("val_accuracy",)
"""What may decide; figures of the test split may not."""


@dataclass(frozen=True, kw_only=True)
class SweepSettings:
    """One sweep: what decides, and what a trial takes."""

    name: str = setting("", affects="speed")
    """Folder under ``sweeps/``; empty makes one from the words, so equal words meet again."""
    search: str = "grid"
    metric: str = "val_accuracy"
    """What trials are judged by: mean validation accuracy of the agent's compared trainings."""
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
        if not (0 <= gpus <= 1 or (gpus < float("inf") and gpus == int(gpus))):
            raise ConfigError(
                f"sweep.gpus_per_trial is {gpus}, wanted a share from 0 to 1 or a whole number"
            )
        if self.name and (self.name.startswith(".") or "/" in self.name or "\\" in self.name):
            raise ConfigError(
                f"sweep.name is {self.name!r}, wanted one folder name without slashes",
                "to write elsewhere, give --run-dir",
            )
