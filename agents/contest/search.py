"""Let the controls among the contestants find their schedules, at equal compute."""

from __future__ import annotations

from collections.abc import Sequence

from automix.agents.config.settings import RunSettings
from automix.agents.contest.controls import CONTROLS, SearchResult
from automix.agents.parallel.worker import Worker
from automix.agents.runs.result_cache import ResultCache
from automix.core.errors import ConfigError


def searching(settings: RunSettings) -> list[str]:
    """Return the contestants that search."""
    return [name for name in settings.compare.contestants if name in CONTROLS]


def search_epochs(settings: RunSettings, learning: int) -> int:
    """Return the classifier epochs that each control may spend.

    Args:
        settings: Of the run.
        learning: Epochs that the agent's learning took, 0 if there is no agent or it is not told.

    Raises:
        ConfigError: If somebody searches and nothing says for how long.
    """
    epochs = settings.compare.search_epochs or learning
    names = searching(settings)
    if names and not epochs:
        raise ConfigError(
            f"{', '.join(names)} may search for as long as the agent learned, and no agent plays "
            "that tells it",
            f"give a number of classifier epochs, such as compare.search_epochs="
            f"{settings.agent.total_timesteps}, or a policy",
        )
    return epochs


def search(
    settings: RunSettings,
    workers: Sequence[Worker],
    device: str,
    learning: int,
    journal: ResultCache | None = None,
) -> dict[str, SearchResult]:
    """Let each control search; return what they found, by name.

    Args:
        settings: Of the run; ``env`` as the agent has it.
        workers: Train the classifiers.
        device: Where.
        learning: Epochs that the agent's learning took.
        journal: Of the run.
    """
    names = searching(settings)
    if not names:
        return {}
    # Late: most runs search for nothing.
    from automix.agents.contest.controls.search import search as run_search

    epochs = search_epochs(settings, learning)
    return run_search(names, settings, workers, device, epochs, journal or ResultCache())
