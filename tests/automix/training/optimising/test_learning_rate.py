"""The learning rate after every step, against torch's own schedules."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import MultiStepLR, OneCycleLR

from automix.mixing.actions import PLAIN
from automix.training.optimising.learning_rate import OneCycle, scheduler_of
from automix.training.settings import OneCycleSettings, TrainerSettings
from tests.automix.training.helpers import population_of
from tests.cases import each


def optimizer_of(kind: str) -> torch.optim.Optimizer:
    weights = [torch.nn.Parameter(torch.zeros(2))]
    if kind == "adamw":
        return torch.optim.AdamW(weights, lr=0.3)
    return torch.optim.SGD(weights, lr=0.3, momentum=0.9)


def momentum_of(optimizer: torch.optim.Optimizer) -> float:
    group = optimizer.param_groups[0]
    return group["betas"][0] if "betas" in group else group["momentum"]


def course(optimizer: torch.optim.Optimizer, step, steps: int) -> list[tuple[float, float]]:
    """Return learning rate and momentum of every step."""
    found = []
    for number in range(steps):
        found.append((optimizer.param_groups[0]["lr"], momentum_of(optimizer)))
        optimizer.step()
        step(number + 1)
    return found


@each("kind", ["sgd", "adamw"])
@each(
    "settings",
    [
        OneCycleSettings(div_factor=100),
        OneCycleSettings(pct_start=0.45, base_momentum=0.8, max_momentum=0.9),
        OneCycleSettings(pct_start=0.1, final_div_factor=10),
    ],
)
@each("steps", [12, 40])
def test_one_cycle_is_torchs(kind, settings, steps):
    ours, theirs = optimizer_of(kind), optimizer_of(kind)
    twin = OneCycleLR(
        theirs,
        max_lr=0.3,
        total_steps=steps,
        pct_start=settings.pct_start,
        div_factor=settings.div_factor,
        final_div_factor=settings.final_div_factor,
        base_momentum=settings.base_momentum,
        max_momentum=settings.max_momentum,
    )
    wanted = course(theirs, lambda _: twin.step(), steps)
    got = course(ours, OneCycle(ours, settings, steps).step_update, steps)
    assert np.array(got) == pytest.approx(np.array(wanted))
    assert max(lr for lr, _ in got) == pytest.approx(0.3, rel=0.1)


def test_a_peak_before_the_first_step_starts_at_the_peak():
    optimizer = optimizer_of("sgd")
    rates = [
        lr for lr, _ in course(optimizer, OneCycle(optimizer, OneCycleSettings(), 2).step_update, 2)
    ]
    assert rates[0] > rates[1] > 0
    assert rates[0] <= 0.3


def test_multistep_falls_after_its_milestones_as_torchs_does():
    ours, theirs = optimizer_of("sgd"), optimizer_of("sgd")
    settings = TrainerSettings(
        epochs=9, sched="multistep", warmup_epochs=0, decay_milestones=(3, 6), decay_rate=0.2
    )
    schedule = scheduler_of(ours, settings, updates_per_epoch=4)
    twin = MultiStepLR(theirs, [3, 6], 0.2)
    by_epoch = []
    for _ in range(9):
        by_epoch += [theirs.param_groups[0]["lr"]] * 4
        theirs.step()
        twin.step()
    got = [lr for lr, _ in course(ours, schedule.step_update, 36)]
    # timm lowers the rate one step early: the last of the epoch before.
    different = [step for step in range(36) if got[step] != pytest.approx(by_epoch[step])]
    assert different == [11, 23]
    assert sorted(set(got), reverse=True) == pytest.approx([0.3, 0.06, 0.012])


def test_a_training_ends_where_its_cycle_ends():
    population = population_of(sched="onecycle", lr=0.2)
    rates = [population.run_epoch([PLAIN])[0].lr for _ in range(4)]
    assert rates[0] > rates[1] > rates[2] > rates[3]
    assert rates[3] == pytest.approx(0.2 / 25 / 1e4)
