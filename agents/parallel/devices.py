"""Which device, how many processes."""

from __future__ import annotations

import re

import torch

from automix.agents.config.settings import RunSettings
from automix.agents.parallel.machine import Capacity, fit, usable_cores
from automix.agents.parallel.ray_session import capacity
from automix.core.errors import ConfigError, ResourceError


def choose_device(name: str) -> str:
    """Return ``cpu`` or ``cuda[:n]``.

    Raises:
        ConfigError: If the name is not a device.
        ResourceError: If that device is not there.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return "cuda" if gpus else "cpu"
    kind, _, number = name.partition(":")
    if not re.fullmatch(r"cpu|cuda(:[0-9]+)?", name):
        raise ConfigError(f"device is {name!r}, wanted auto, cpu, cuda or cuda:<n>")
    if kind == "cuda" and int(number or 0) >= gpus:
        raise ResourceError(
            f"device={name} was asked for, this machine has {gpus} usable GPUs",
            "use device=auto or device=cpu",
        )
    return name


def worker_count(settings: RunSettings, device: str) -> int:
    """Return how many workers train classifiers: as asked for, else one per core or place in Ray.

    Never more than there are blocks to hold; a GPU is fed by one, unless ``ray.gpus_per_worker``
    says otherwise.

    Raises:
        ResourceError: If Ray is a cluster that cannot be reached.
    """
    if settings.workers:
        return settings.workers
    blocks = settings.agent.groups // stacked_groups(settings, device)
    if settings.backend == "ray":
        ray = settings.ray
        gpus = ray.gpus_per_worker or (1.0 if device.startswith("cuda") else 0.0)
        return max(1, min(fit(capacity(ray), Capacity(ray.cpus_per_worker, gpus)), blocks))
    return 1 if device.startswith("cuda") else min(usable_cores(), blocks)


def stacked_groups(settings: RunSettings, device: str) -> int:
    """Return how many groups train together.

    As many as asked for; else all on a GPU, and one on a CPU, where larger stacks gain little.

    Raises:
        ConfigError: If the groups cannot be split so.
    """
    agent = settings.agent
    stacked = agent.stacked_groups or (agent.groups if device.startswith("cuda") else 1)
    if agent.groups % stacked:
        raise ConfigError(
            f"agent.stacked_groups is {stacked}, wanted a divisor of agent.groups, {agent.groups}"
        )
    return stacked
