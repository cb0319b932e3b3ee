"""A Ray of our own that starts and stops with the command, or a cluster that is there already."""

from __future__ import annotations

from dataclasses import dataclass

from automix.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class RaySettings:
    """Where Ray runs and what a worker takes of it; read with ``backend=ray`` and by sweeps."""

    address: str = ""
    """``auto`` or ``ray://host:port`` joins a cluster; empty starts a local Ray that ends with the
    command."""
    cpus_per_worker: float = 1.0
    gpus_per_worker: float = 0.0
    """A share of a GPU, which bounds the worker's share of its memory too; 0 deals out what there
    is equally where classifiers train on GPUs."""

    def __post_init__(self) -> None:
        for name in ("cpus_per_worker", "gpus_per_worker"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise ConfigError(f"ray.{name} is {value}, wanted 0 or more")
