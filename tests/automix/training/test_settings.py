"""Settings: what is refused, and what the defaults are."""

from __future__ import annotations

import dataclasses

import pytest
from timm.optim import list_optimizers

from automix.core.errors import ConfigError
from automix.training.settings import (
    ELEMENTWISE,
    MarginSettings,
    SaliencySettings,
    SelfAdaptiveSettings,
    TrainerSettings,
)
from tests.cases import each


@each(
    "changes, message",
    [
        ({"precision": "float16"}, "precision is 'float16', wanted 'float32' or 'bfloat16'"),
        ({"precision": "half"}, "precision is 'half', wanted 'float32' or 'bfloat16'"),
        ({"epochs": 0}, "epochs is 0, wanted 1 or more"),
        ({"batch_size": -1}, "batch_size is -1, wanted 1 or more"),
        ({"probe_size": 0}, "probe_size is 0, wanted 1 or more"),
        ({"batch_size": 0}, "batch_size is 0, wanted 1 or more"),
        ({"lr": -0.1}, "lr is -0.1, wanted 0 or more"),
        ({"lr": float("nan")}, "lr is nan, wanted 0 or more"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0, wanted 0 or more"),
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0, wanted 0 to below 1"),
        ({"momentum": -0.5}, "momentum is -0.5, wanted 0 or more"),
        ({"min_lr": -1.0}, "min_lr is -1.0, wanted 0 or more"),
        ({"warmup_epochs": -1}, "warmup_epochs is -1, wanted 0 or more"),
        ({"momentum": float("nan")}, "momentum is nan, wanted 0 or more"),
        ({"label_smoothing": -0.1}, "label_smoothing is -0.1, wanted 0 to below 1"),
        ({"label_smoothing": float("nan")}, "label_smoothing is nan, wanted 0 to below 1"),
        ({"model_ema_decay": 1.0}, "model_ema_decay is 1.0, wanted 0 to below 1"),
        ({"model_ema_decay": -0.1}, "model_ema_decay is -0.1, wanted 0 to below 1"),
    ],
)
def test_what_means_nothing_is_refused_by_name(changes, message):
    with pytest.raises(ConfigError) as error:
        TrainerSettings(**changes)
    assert error.value.message == f"trainer.{message}"


@each(
    "changes, message",
    [
        ({"refresh": 0}, "refresh is 0, wanted a whole number, 1 or more"),
        ({"refresh": -3}, "refresh is -3, wanted a whole number, 1 or more"),
        ({"scale": 1.5}, "scale is 1.5, wanted a whole number, 1 or more"),
        ({"scale": 0}, "scale is 0, wanted a whole number, 1 or more"),
        ({"source": "PASS"}, "source is 'PASS', wanted 'pass' or 'step'"),
    ],
)
def test_a_look_that_means_nothing_is_refused_by_name(changes, message):
    with pytest.raises(ConfigError) as error:
        SaliencySettings(**changes)
    assert error.value.message == f"trainer.saliency.{message}"


@each(
    "kind, changes, message",
    [
        (MarginSettings, {"weight": -0.1}, "margin.weight is -0.1, wanted 0 or more"),
        (MarginSettings, {"weight": float("nan")}, "margin.weight is nan, wanted 0 or more"),
        (MarginSettings, {"margin": -1.0}, "margin.margin is -1.0, wanted 0 or more"),
        (MarginSettings, {"margin": float("inf")}, "margin.margin is inf, wanted 0 or more"),
        (SelfAdaptiveSettings, {"start_epoch": -1}, "start_epoch is -1, wanted a whole number"),
        (SelfAdaptiveSettings, {"start_epoch": 1.5}, "start_epoch is 1.5, wanted a whole number"),
        (SelfAdaptiveSettings, {"momentum": 1.1}, "momentum is 1.1, wanted a number from 0 to 1"),
        (SelfAdaptiveSettings, {"momentum": float("nan")}, "momentum is nan, wanted a number"),
    ],
)
def test_targets_and_losses_that_mean_nothing_are_refused_by_name(kind, changes, message):
    with pytest.raises(ConfigError) as error:
        kind(**changes)
    assert error.value.message.startswith("trainer.")
    assert message in error.value.message


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
    assert TrainerSettings() == TrainerSettings()
    assert len({TrainerSettings(), TrainerSettings(), TrainerSettings(lr=0.2)}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainerSettings().lr = 1.0


def test_optimizers_for_stacks_are_timms():
    assert set(list_optimizers()) >= ELEMENTWISE
