"""Whether this machine has the memory that a run asks for, told before any of it is taken."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from automix.agents.config.settings import RunSettings
from automix.core.errors import ResourceError
from automix.data.memory import free_memory
from automix.policy.observations import Observer

# Bytes, each no more than what is really taken, so that nothing is refused that would do.
PROCESS = 2**27  # of a worker, torch imported
TRAINING_RUN = 2**14  # the weights of the smallest nets, with gradients and momentum
TRIAL, EPOCH = 2**10, 2**6  # of a record, and of each epoch in it
RESAMPLE = 24  # of a score: its index, its value, and both sorted
WEIGHT = 16  # of an agent's net: value, gradient and two moments


def check_memory(settings: RunSettings, learns: bool) -> None:
    """Refuse what this machine has no memory for.

    Raises:
        ResourceError: If a setting asks for more than is free.
    """
    free = free_memory()
    for key, value, size in (*_compared(settings), *(_learned(settings) if learns else ())):
        if size > free:
            raise ResourceError(
                f"{key} is {value}, which takes {size / 1e9:,.0f} GB of memory or more, "
                f"{free / 1e9:,.1f} are free",
                f"ask for less: python run.py config shows what {key} is by default",
            )


Need = tuple[str, object, int]
"""A setting, its value, and bytes."""


def _compared(settings: RunSettings) -> Iterator[Need]:
    compare, task = settings.compare, settings.task
    if settings.backend == "local":
        yield "workers", settings.workers, settings.workers * PROCESS
    kinds = len(compare.kinds) or len(task.train_sizes) * len(task.label_noise)
    tasks = compare.draws or kinds * compare.seeds
    trial = len(compare.contestants) * (TRIAL + EPOCH * settings.trainer.epochs)
    yield "trainer.epochs", settings.trainer.epochs, EPOCH * settings.trainer.epochs
    yield "compare.draws", compare.draws, compare.draws * trial
    yield "compare.validation_draws", compare.validation_draws, compare.validation_draws * trial
    yield "compare.seeds", compare.seeds, (compare.draws or kinds) * compare.seeds * trial
    yield "compare.resamples", compare.resamples, compare.resamples * tasks * RESAMPLE


def _learned(settings: RunSettings) -> Iterator[Need]:
    agent, env = settings.agent, settings.env
    yield "agent.groups", agent.groups, agent.groups * TRAINING_RUN
    yield "agent.group_size", agent.group_size, agent.groups * agent.group_size * TRAINING_RUN
    seen = sum(Observer(env.observations, env.actions).sizes)
    hidden = getattr(agent, "lstm_hidden_size", 0)
    yield "agent.lstm_hidden_size", hidden, 4 * hidden * (hidden + seen) * WEIGHT
    widths = getattr(agent, "net_arch", ())
    quantiles = getattr(agent, "n_quantiles", 1)
    weights = sum(a * b for a, b in pairwise((hidden or seen, *widths, quantiles)))
    yield "agent.n_quantiles", quantiles, quantiles * WEIGHT
    yield "agent.net_arch", list(widths), weights * WEIGHT
    kept = getattr(agent, "buffer_size", 0)
    yield "agent.buffer_size", kept, kept * 2 * 4 * seen  # before and after each step
