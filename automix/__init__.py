"""Mixing, training and measuring of image classifiers, epoch by epoch.

The public names are imported when they are first asked for, so that ``import automix`` is quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from automix.core.lazy import lazy_names

if TYPE_CHECKING:
    from automix.mixing.actions import MixAction
    from automix.mixing.batch import mix_batch
    from automix.mixing.loss import loss_of
    from automix.policy.modules import MixedLoss, MixTransform
    from automix.policy.policy import list_policies, load_policy
    from automix.policy.schedule import MixSchedule, load_schedule
    from automix.training.population import Trainer

__version__ = "0.1.0"

__all__ = [
    "MixAction",
    "MixSchedule",
    "MixTransform",
    "MixedLoss",
    "Trainer",
    "list_policies",
    "load_policy",
    "load_schedule",
    "loss_of",
    "mix_batch",
]

if not TYPE_CHECKING:  # mypy sees the imports above, and no other name
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "MixAction": "automix.mixing.actions",
            "MixSchedule": "automix.policy.schedule",
            "MixTransform": "automix.policy.modules",
            "MixedLoss": "automix.policy.modules",
            "Trainer": "automix.training.population",
            "list_policies": "automix.policy.policy",
            "load_policy": "automix.policy.policy",
            "load_schedule": "automix.policy.schedule",
            "loss_of": "automix.mixing.loss",
            "mix_batch": "automix.mixing.batch",
        },
    )
