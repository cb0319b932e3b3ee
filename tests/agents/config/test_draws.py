"""Tasks drawn from a family's range: always the same, never what is trained on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from automix.agents.config.draws import cell_of, cells_of, drawn_specs
from automix.agents.config.settings import (
    HELD_OUT,
    VALIDATION,
    CompareSettings,
    RunSettings,
)
from automix.agents.config.worlds import held_out, samples, validation
from automix.core.errors import ConfigError
from automix.data.tasks import FamilySettings, TaskSpec
from tests.cases import each

FAMILY = FamilySettings(train_sizes=(100, 200, 400), label_noise=(0.0, 0.2, 0.4))


def run_of(**compare: Any) -> RunSettings:
    """Return a run on the family."""
    return RunSettings(task=FAMILY, compare=CompareSettings(**compare))


def test_no_draw_has_a_size_or_a_noise_level_that_is_trained_on():
    # So narrow that a draw in three would be one of them.
    narrow = FamilySettings(train_sizes=(10, 12, 14), label_noise=(0.0, 0.02, 0.04))
    for family, count in ((narrow, 300), (FAMILY, 2000)):
        specs = drawn_specs(family, count, HELD_OUT)
        assert not {s.train_size for s in specs} & set(family.train_sizes)
        assert not {s.label_noise for s in specs} & set(family.label_noise)
        sizes, noises = zip(*((s.train_size, s.label_noise) for s in specs), strict=True)
        assert min(family.train_sizes) < min(sizes) <= max(sizes) < max(family.train_sizes)
        assert min(noises) > 0
        assert max(noises) < max(family.label_noise)
    assert {s.train_size for s in drawn_specs(narrow, 300, HELD_OUT)} == {11, 13}
    assert {s.label_noise for s in drawn_specs(narrow, 300, HELD_OUT)} == {0.01, 0.03}


def test_sizes_are_log_uniform_and_noise_is_uniform():
    specs = drawn_specs(FAMILY, 4000, HELD_OUT)
    logs = np.array([math.log(s.train_size / 100) / math.log(4) for s in specs])
    noise = np.array([s.label_noise / 0.4 for s in specs])
    for values in (logs, noise):
        counts, _ = np.histogram(values, bins=4, range=(0, 1))
        # 1000 each; five standard deviations, and a value in forty that is drawn again.
        assert (abs(counts - 1000) < 170).all()
    assert abs(np.corrcoef(logs, noise)[0, 1]) < 0.08


def test_draws_are_fixed_and_more_of_them_start_with_the_same():
    assert drawn_specs(FAMILY, 40, HELD_OUT) == drawn_specs(FAMILY, 40, HELD_OUT)
    assert drawn_specs(FAMILY, 40, HELD_OUT)[:10] == drawn_specs(FAMILY, 10, HELD_OUT)
    assert [s.seed for s in drawn_specs(FAMILY, 3, HELD_OUT)] == [HELD_OUT + i for i in range(3)]


def test_validation_tasks_share_neither_seeds_nor_draws_with_held_out_ones():
    settings = run_of(draws=60, validation_draws=60)
    compared, picked_on = [spec for (spec,) in held_out(settings)], validation(settings)
    assert len(compared) == len(picked_on) == 60
    assert max(s.seed for s in compared) < VALIDATION <= min(s.seed for s in picked_on)
    assert [s.train_size for s in compared] != [s.train_size for s in picked_on]
    assert not {(s.train_size, s.label_noise, s.seed) for s in compared} & {
        (s.train_size, s.label_noise, s.seed) for s in picked_on
    }


def test_draws_replace_kinds_and_the_default_has_none():
    assert CompareSettings().draws == CompareSettings().validation_draws == 0
    kinds = held_out(run_of(kinds=("150@0.1",), seeds=3))
    assert [len(kind) for kind in kinds] == [3]
    draws = held_out(run_of(kinds=("150@0.1",), seeds=3, draws=5))
    assert [len(kind) for kind in draws] == [1] * 5


def test_what_has_one_value_keeps_it():
    family = FamilySettings(train_sizes=(0,), label_noise=(0.0, 0.4))
    specs = drawn_specs(family, 20, HELD_OUT)
    assert {s.train_size for s in specs} == {0}
    assert len({s.label_noise for s in specs}) > 10
    assert cells_of(family) == ["all images, 0-20% noise", "all images, 20-40% noise"]
    family = FamilySettings(train_sizes=(50, 200), label_noise=(0.3,))
    assert cells_of(family) == ["50-100 images, 30% noise", "100-200 images, 30% noise"]
    assert {cell_of(s, family) for s in drawn_specs(family, 20, HELD_OUT)} == {*cells_of(family)}


def test_a_cell_is_a_half_of_the_sizes_and_a_half_of_the_noise():
    for size, noise, cell in (
        (101, 0.01, "100-200 images, 0-20% noise"),
        (199, 0.39, "100-200 images, 20-40% noise"),
        (201, 0.19, "200-400 images, 0-20% noise"),
        (399, 0.21, "200-400 images, 20-40% noise"),
    ):
        assert cell_of(TaskSpec(train_size=size, label_noise=noise, seed=0), FAMILY) == cell
        assert cell in cells_of(FAMILY)


def test_a_few_tasks_of_all_sizes_are_checked_and_timed():
    few = samples(run_of(draws=50))
    sizes = sorted(s.train_size for s in drawn_specs(FAMILY, 50, HELD_OUT))
    assert [s.train_size for s in few] == [sizes[0], sizes[25], sizes[-1]]
    assert len(samples(run_of(draws=1))) == 1
    assert len(samples(run_of())) == 9


@each("name", ["draws", "validation_draws"])
@each(
    "sizes, noises, told",
    [
        ((100,), (0.2,), "need a range"),
        ((100, 100), (0.2, 0.2), "need a range"),
        ((0, 100), (0.0, 0.2), r"\[0, 100\]: 0 \(all\) is no end of a range"),
        ((10, 11), (0.0, 0.2), r"task.train_sizes is \[10, 11\]: no value is left"),
        ((10, 30), (0.2, 0.21), r"task.label_noise is \[0.2, 0.21\]: no value is left"),
    ],
)
def test_a_family_without_room_for_draws_is_refused(name, sizes, noises, told):
    task = FamilySettings(train_sizes=sizes, label_noise=noises)
    with pytest.raises(ConfigError, match=told) as error:
        RunSettings(task=task, compare=CompareSettings(**{name: 3}))
    assert error.value.hint
    RunSettings(task=task)
