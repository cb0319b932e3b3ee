"""Settings: what is refused, and what the defaults are."""

from __future__ import annotations

import dataclasses

import pytest
from timm.optim import list_optimizers

from automix.core.errors import ConfigError
from automix.training.batches.augment import AugmentSettings
from automix.training.settings import (
    ELEMENTWISE,
    MarginSettings,
    OneCycleSettings,
    SaliencySettings,
    SelfAdaptiveSettings,
    TrainerSettings,
)
from tests.cases import each

NAN, INF = float("nan"), float("inf")
MILESTONES = [[], [0, 3], [6, 3], [3, 3]]


@each(
    "kind, name, values, wanted",
    [
        (TrainerSettings, "precision", ["float16", "half"], "'float32' or 'bfloat16'"),
        (TrainerSettings, "epochs", [0], "1 or more"),
        (TrainerSettings, "batch_size", [-1, 0], "1 or more"),
        (TrainerSettings, "probe_size", [0], "1 or more"),
        (TrainerSettings, "lr", [-0.1, NAN], "0 or more"),
        (TrainerSettings, "weight_decay", [-1.0], "0 or more"),
        (TrainerSettings, "momentum", [-0.5, NAN], "0 or more"),
        (TrainerSettings, "min_lr", [-1.0], "0 or more"),
        (TrainerSettings, "warmup_epochs", [-1], "0 or more"),
        (TrainerSettings, "label_smoothing", [1.0, -0.1, NAN], "0 to below 1"),
        (TrainerSettings, "model_ema_decay", [1.0, -0.1], "0 to below 1"),
        (TrainerSettings, "decay_rate", [0.0, -1.0, NAN, INF], "a number above 0"),
        (TrainerSettings, "decay_milestones", MILESTONES, "rising epochs of 1 or more"),
        (SaliencySettings, "saliency.refresh", [0, -3], "a whole number, 1 or more"),
        (SaliencySettings, "saliency.scale", [1.5, 0], "a whole number, 1 or more"),
        (SaliencySettings, "saliency.source", ["PASS"], "'pass' or 'step'"),
        (MarginSettings, "margin.weight", [-0.1, NAN], "0 or more"),
        (MarginSettings, "margin.margin", [-1.0, INF], "0 or more"),
        (SelfAdaptiveSettings, "self_adaptive.start_epoch", [-1, 1.5], "a whole number, 0 or more"),
        (SelfAdaptiveSettings, "self_adaptive.momentum", [1.1, NAN], "a number from 0 to 1"),
        (AugmentSettings, "augment.flip", [1.5, -0.1, NAN], "a number from 0 to 1"),
        (AugmentSettings, "augment.crop_padding", [-1, 1.5], "a whole number, 0 or more"),
        (OneCycleSettings, "onecycle.pct_start", [0.0, 1.0], "a number above 0 and below 1"),
        (OneCycleSettings, "onecycle.div_factor", [0.5], "1 or more"),
        (OneCycleSettings, "onecycle.final_div_factor", [NAN], "1 or more"),
    ],
)
def test_what_means_nothing_is_refused_by_name(kind, name, values, wanted):
    for value in values:
        with pytest.raises(ConfigError) as error:
            kind(**{name.rpartition(".")[2]: value})
        # Of what is a number all the same, it is said that a finite one is wanted.
        end = f"{wanted}, finite" if value == INF else wanted
        assert error.value.message == f"trainer.{name} is {value!r}, wanted {end}"


@each(
    "changes, has", [({"base_momentum": 0.96}, (0.96, 0.95)), ({"max_momentum": 1.0}, (0.85, 1.0))]
)
def test_the_momenta_of_a_cycle_are_in_order(changes, has):
    with pytest.raises(ConfigError, match="base_momentum {} and max_momentum {}".format(*has)):
        OneCycleSettings(**changes)


@each(
    "changes",
    [
        {"epochs": 1, "batch_size": 1, "probe_size": 1},
        {"lr": 0.0, "weight_decay": 0.0, "momentum": 0.0, "min_lr": 0.0, "warmup_epochs": 0},
        {"label_smoothing": 0.0},
        {"label_smoothing": 0.999},
        {"precision": "bfloat16"},
    ],
)
def test_what_lies_on_the_border_is_taken(changes):
    settings = TrainerSettings(**changes)
    assert {name: getattr(settings, name) for name in changes} == changes


def test_whatever_saves_time_at_a_price_is_off_unless_asked_for():
    settings = TrainerSettings()
    assert dataclasses.astuple(settings.saliency) == (1, 1, "pass")
    assert (settings.precision, settings.compile) == ("float32", False)
    assert not settings.augment.active


def test_what_changes_targets_and_losses_is_off_unless_asked_for():
    settings = TrainerSettings()
    assert (settings.margin.weight, settings.self_adaptive.start_epoch) == (0.0, 0)
    assert (settings.margin.margin, settings.self_adaptive.momentum) == (10.0, 0.9)


def test_settings_are_values():
    assert len({TrainerSettings(), TrainerSettings(), TrainerSettings(lr=0.2)}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainerSettings().lr = 1.0


def test_optimizers_for_stacks_are_timms():
    assert set(list_optimizers()) >= ELEMENTWISE
