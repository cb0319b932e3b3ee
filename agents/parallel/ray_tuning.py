"""What every use of Ray Tune needs: trials in a given order, schedulers that draw by a seed."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from automix.core.seeding import borrowed_global_rng, derived_seed


def quiet_tune() -> None:
    """Keep Tune's log to itself.

    Two trials that share a checkpoint may both want to delete it: Tune logs that at length.
    """
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)


def in_order(points: Iterable[Mapping[str, Any]]) -> Any:
    """Return a searcher that starts a trial from each point, in order."""
    from ray.tune.search.basic_variant import BasicVariantGenerator

    return BasicVariantGenerator(points_to_evaluate=[dict(point) for point in points])


def seeded(scheduler: type, seed: int, *, time_attr: str, **settings: Any) -> Any:
    """Return a scheduler that draws by a seed and the time, whatever else Ray has drawn.

    How often the rest of Ray draws from the global generators is a matter of time.

    Args:
        scheduler: A class of Tune's.
        seed: Root of its draws.
        time_attr: What tells time in a result.
        settings: Of the scheduler.
    """

    class Seeded(scheduler):
        """Explores with draws of its own."""

        def on_trial_result(self, tune_controller: Any, trial: Any, result: Any) -> str:
            with borrowed_global_rng(derived_seed(seed, "perturbation", result[time_attr])):
                return super().on_trial_result(tune_controller, trial, result)

    return Seeded(time_attr=time_attr, **settings)
