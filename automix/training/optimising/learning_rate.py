"""The learning rate over a training, step by step: timm's schedules, and one cycle.

Each is a function of the steps done, so that a training can be taken up anywhere.
"""

from __future__ import annotations

import contextlib
import math

from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from torch.optim import Optimizer

from automix.core.errors import ConfigError
from automix.training.settings import OneCycleSettings, TrainerSettings

ONE_CYCLE = "onecycle"


class OneCycle(Scheduler):
    """Up and down along half cosines, and the momentum the other way round.

    Smith and Topin 2018, arXiv:1708.07120, in the form of ``torch.optim.lr_scheduler.OneCycleLR``,
    which is no use here because it counts its own calls.

    Args:
        optimizer: Its learning rate is the highest one.
        settings: The course.
        steps: Of the whole training.
    """

    def __init__(self, optimizer: Optimizer, settings: OneCycleSettings, steps: int) -> None:
        super().__init__(optimizer, "lr", t_in_epochs=False)
        self._settings, self._last = settings, steps - 1
        self._peak = settings.pct_start * steps - 1
        self.step_update(0)

    def step_update(self, num_updates: int, metric: float | None = None) -> None:
        """Set learning rate and, where the optimizer has one, momentum after so many steps."""
        super().step_update(num_updates, metric)
        settings = self._settings
        low, high = settings.base_momentum, settings.max_momentum
        momentum = self._at(num_updates, high, low, high)
        for group in self.optimizer.param_groups:
            if "betas" in group:
                group["betas"] = (momentum, *group["betas"][1:])
            elif "momentum" in group:
                group["momentum"] = momentum

    def _get_lr(self, t: int) -> list[float]:
        first = 1 / self._settings.div_factor
        last = first / self._settings.final_div_factor
        return [highest * self._at(t, first, 1.0, last) for highest in self.base_values]

    def _at(self, t: int, first: float, peak: float, last: float) -> float:
        """Return the value after t steps of a course from first over peak to last."""
        t = min(t, self._last)
        if t < self._peak:
            return _between(first, peak, t / self._peak)
        return _between(peak, last, (t - self._peak) / (self._last - self._peak))


def _between(start: float, end: float, share: float) -> float:
    """Return the value at a share of the way along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def scheduler_of(
    optimizer: Optimizer, settings: TrainerSettings, updates_per_epoch: int
) -> Scheduler:
    """Return what sets the learning rate after every step.

    Raises:
        ConfigError: If there is no such schedule, or it cannot step with every batch.
    """
    if settings.sched == ONE_CYCLE:
        return OneCycle(optimizer, settings.onecycle, settings.epochs * updates_per_epoch)
    scheduler = None
    if settings.sched != "plateau":  # waits for a metric, epoch by epoch
        with contextlib.suppress(ValueError):
            scheduler, _ = create_scheduler_v2(
                optimizer,
                sched=settings.sched,
                num_epochs=settings.epochs,
                decay_milestones=list(settings.decay_milestones),
                decay_rate=settings.decay_rate,
                warmup_epochs=settings.warmup_epochs,
                warmup_prefix=False,
                min_lr=settings.min_lr,
                step_on_epochs=False,
                updates_per_epoch=updates_per_epoch,
            )
    if scheduler is None:
        raise ConfigError(
            f"trainer.sched is {settings.sched!r}, wanted a timm scheduler that can step "
            f"with every batch, or {ONE_CYCLE!r}",
            "for example cosine, multistep or poly",
        )
    return scheduler
