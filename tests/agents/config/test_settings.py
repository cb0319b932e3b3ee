"""What follows from the settings: held-out tasks, updates, devices, workers."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from automix.agents.config.settings import (
    HELD_OUT,
    AgentSettings,
    CompareSettings,
    RunSettings,
    held_out_specs,
    parse_kind,
)
from automix.agents.learning.algorithms import updates_of
from automix.agents.learning.sb3 import falling
from automix.agents.parallel.devices import choose_device, worker_count
from automix.core.errors import ConfigError, ResourceError
from automix.data.tasks import FamilySettings, TaskFamily

FAMILY = FamilySettings(train_sizes=(100, 200), label_noise=(0.0, 0.2))


def test_a_kind_is_size_at_noise():
    for text, kind in (("200@0.3", (200, 0.3)), ("200", (200, 0.0)), ("0@0.1", (0, 0.1))):
        assert parse_kind(text) == kind


def test_without_kinds_every_pair_of_the_family_is_held_out():
    specs = held_out_specs(CompareSettings(seeds=3), FAMILY)
    kinds = [(kind[0].train_size, kind[0].label_noise) for kind in specs]
    assert kinds == [(100, 0.0), (100, 0.2), (200, 0.0), (200, 0.2)]
    assert [len(kind) for kind in specs] == [3] * 4


def test_held_out_seeds_are_beyond_all_that_an_episode_can_draw():
    specs = held_out_specs(CompareSettings(seeds=4), FAMILY)
    assert [spec.seed for spec in specs[0]] == [HELD_OUT + i for i in range(4)]
    rng = np.random.default_rng(0)
    family = TaskFamily(FamilySettings(train_sizes=(40,), val_size=30))
    assert max(family.draw(rng).seed for _ in range(200)) < HELD_OUT


def test_kinds_that_differ_have_names_that_differ():
    """Scores are collected by the name of the kind."""
    kinds = ("100@0.2", "100@0.204", "100@0.005", "100@0.0", "0@0.2")
    specs = held_out_specs(CompareSettings(kinds=kinds), FAMILY)
    assert len({kind[0].kind for kind in specs}) == len(kinds)


def test_a_family_that_names_a_size_twice_is_compared_on_it_once():
    family = FamilySettings(train_sizes=(100, 100), label_noise=(0.0,))
    assert len(held_out_specs(CompareSettings(), family)) == 1


def test_whole_updates_are_played():
    agent = AgentSettings(groups=2, group_size=4, total_timesteps=250)
    assert updates_of(agent, budget=10) == 3
    with pytest.raises(ConfigError, match="total_timesteps is 250, below one update of 320") as e:
        updates_of(agent, budget=40)
    assert "agent.total_timesteps=320" in e.value.hint


def test_the_learning_rate_falls_in_a_straight_line():
    rate = falling(1.0, 0.2)
    assert [rate(1.0), rate(0.5), rate(0.0)] == pytest.approx([1.0, 0.6, 0.2])


def test_auto_takes_a_gpu_if_there_is_one_and_the_cpu_else(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert (choose_device("cpu"), choose_device("auto")) == ("cpu", "cpu")
    with pytest.raises(ResourceError, match="has 0 usable GPUs") as error:
        choose_device("cuda")
    assert error.value.exit_code == 4
    assert "device=cpu" in error.value.hint
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert (choose_device("auto"), choose_device("cuda:1")) == ("cuda", "cuda:1")
    with pytest.raises(ResourceError, match="device=cuda:2 was asked for, this machine has 2"):
        choose_device("cuda:2")


def test_a_device_that_is_none_is_refused():
    for name in ("tpu", "gpu", "cuda:x", "cuda:-1", "cuda:", "cpu:3", ""):
        with pytest.raises(ConfigError, match=re.escape(f"device is {name!r}, wanted auto, cpu")):
            choose_device(name)


def test_workers_are_as_asked_for_else_one_a_core_and_one_for_a_gpu(monkeypatch):
    monkeypatch.setattr("automix.agents.parallel.devices.usable_cores", lambda: 3)
    assert worker_count(RunSettings(workers=5), "cpu") == 5
    assert worker_count(RunSettings(), "cpu") == 3
    assert worker_count(RunSettings(), "cuda") == 1
    few = RunSettings(agent=AgentSettings(groups=2, total_timesteps=10**6))
    assert worker_count(few, "cpu") == 2
