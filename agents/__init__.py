"""Who decides: agents that learn a mix policy, hand-designed schedules, and their comparison.

The public names are imported when they are first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from automix.core.lazy import lazy_names

if TYPE_CHECKING:
    from automix.agents.config.compose import load_settings
    from automix.agents.jobs.run import run_compare, run_train
    from automix.agents.vec_env.ray_vec_env import RayVecEnv

__all__ = ["RayVecEnv", "load_settings", "run_compare", "run_train"]

if not TYPE_CHECKING:  # mypy sees the imports above, and no other name
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "RayVecEnv": "automix.agents.vec_env.ray_vec_env",
            "load_settings": "automix.agents.config.compose",
            "run_compare": "automix.agents.jobs.run",
            "run_train": "automix.agents.jobs.run",
        },
    )
