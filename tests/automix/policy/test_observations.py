"""What a policy sees: named numbers in fixed ranges, whatever the data set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from automix.core.errors import ConfigError
from automix.envs import OBSERVATIONS, ActionCodec, MixEnv
from automix.mixing.actions import MixAction
from automix.policy.observations import DEFAULT_OBSERVATIONS, ObservationInputs, Observer, TaskFacts
from automix.training.metrics import LOSS_CAP, EpochMetrics
from automix.training.population import Population
from tests import tiny
from tests.envs import worlds

EVERY = ("progress", *(name for name in OBSERVATIONS if name != "progress"))
CODEC = ActionCodec(worlds.GUIDED)
OBSERVER = Observer(EVERY, CODEC.settings)


FACTS = TaskFacts(
    budget=10,
    train_size=200,
    num_classes=10,
    batch_size=50,
    peak_lr=0.4,
    parameters=1000,
    augmented=True,
)


def view(
    history: Sequence[EpochMetrics], action: MixAction | None = None, **changes: Any
) -> ObservationInputs:
    facts = replace(FACTS, **changes)
    return ObservationInputs(
        history=history, last_action=action, vocabulary=CODEC.settings, facts=facts
    )


def see(name: str, *args: Any, **changes: Any) -> Any:
    return OBSERVATIONS[name](view(*args, **changes))


def records(classes: st.SearchStrategy[int]) -> st.SearchStrategy[tuple[int, list[EpochMetrics]]]:
    """A class count and two records whose losses are up to three times what guessing costs."""
    share = st.floats(0, 1)

    def of(k: int) -> st.SearchStrategy[tuple[int, list[EpochMetrics]]]:
        loss = st.floats(0, 3 * math.log(k))
        epochs = [
            st.builds(
                worlds.record,
                epoch=st.just(epoch),
                train_loss=loss,
                val_loss=loss,
                mixed_loss=loss,
                train_accuracy=share,
                val_accuracy=share,
                val_confidence=share,
                partner_share=share,
                gradient_norm=st.floats(0, 1e30),
            )
            for epoch in (4, 5)
        ]
        return st.tuples(st.just(k), st.tuples(*epochs).map(list))

    return classes.flatmap(of)


@given(
    made=records(st.sampled_from([2, 3, 10, 1000])),
    action=st.sampled_from([None, *CODEC.choices]),
    train_size=st.integers(1, 10_000_000),
)
def test_every_observation_is_in_its_range_before_any_clipping(made, action, train_size):
    """Changes alone may leave theirs: a loss can jump by more than what guessing costs."""
    num_classes, history = made
    seen = view(history, action, train_size=train_size, num_classes=num_classes)
    for entry in OBSERVATIONS.entries():
        if entry.name in ("train_loss_change", "val_loss_change"):
            continue
        values = np.atleast_1d(entry.value(seen))
        assert len(values) == entry.info.size(CODEC.settings), entry.name
        low, high = entry.info.low - 1e-9, entry.info.high + 1e-9
        assert ((values >= low) & (values <= high)).all(), (entry.name, values)


def test_a_diverged_training_is_seen_within_the_space():
    worst = worlds.record(
        3, train_loss=LOSS_CAP, val_loss=LOSS_CAP, mixed_loss=LOSS_CAP, diverged=True
    )
    for classes in (2, 1000):
        seen = OBSERVER(view([worlds.record(2), worst], num_classes=classes))
        assert np.isfinite(seen).all()
        assert ((seen >= OBSERVER.low) & (seen <= OBSERVER.high)).all()


def test_guessing_looks_the_same_for_any_number_of_classes():
    """Losses are in units of log(classes) and skill starts at chance: a policy can move on."""
    counts = ("log_classes", "log_images_per_class")
    shares = ("train_accuracy", "val_accuracy", "val_accuracy_history")
    seen: dict[str, list[Any]] = {name: [] for name in EVERY if name not in (*counts, *shares)}
    for classes in (2, 10, 1000):
        guessing = {f"{kind}_loss": math.log(classes) for kind in ("train", "val", "mixed")}
        guessing |= {f"{kind}_accuracy": 1 / classes for kind in ("train", "val")}
        history = [worlds.record(epoch, **guessing) for epoch in range(2)]
        for name, values in seen.items():
            values.append(np.atleast_1d(see(name, history, num_classes=classes)))
    for name, (two, ten, thousand) in seen.items():
        assert_allclose(ten, two, rtol=1e-12, atol=1e-12, err_msg=name)
        assert_allclose(thousand, two, rtol=1e-12, atol=1e-12, err_msg=name)


def test_the_batch_size_is_seen_as_steps_alone():
    names = tuple(name for name in EVERY if name != "log_steps")
    first, second = (
        MixEnv(worlds.image_world(batch_size=size), replace(worlds.settings(), observations=names))
        for size in (5, 30)
    )
    assert_array_equal(first.reset(seed=2)[0], second.reset(seed=2)[0])


def test_the_order_of_the_validation_images_is_not_seen():
    task = tiny.digits_task()
    seen = []
    for index in (task.val_index, task.val_index[::-1].copy()):
        population = Population([replace(task, val_index=index)], tiny.trainer_settings())
        history = [population.reset([3])[0], population.run_epoch([MixAction("mixup", 0.5)])[0]]
        seen.append(OBSERVER(view(history, MixAction("mixup", 0.5))))
    assert_allclose(seen[0], seen[1], rtol=1e-5, atol=1e-6)


NOW = worlds.record(
    3,
    train_loss=0.5 * math.log(10),
    val_loss=0.8 * math.log(10),
    mixed_loss=1.5 * math.log(10),
    train_accuracy=0.9,
    val_accuracy=0.7,
    val_confidence=0.6,
    gradient_norm=3.0,
    partner_share=0.2,
)
BEFORE = worlds.record(
    2, train_loss=0.6 * math.log(10), val_loss=0.7 * math.log(10), val_accuracy=0.75
)

WANTED = {
    "progress": 0.3,
    "train_loss": 0.5,
    "val_loss": 0.8,
    "train_accuracy": 0.9,
    "val_accuracy": 0.7,
    "accuracy_gap": 0.2,
    "loss_gap": 0.3,
    "train_loss_change": -0.1,
    "val_loss_change": 0.1,
    "val_accuracy_change": -0.05,
    "best_val_accuracy_gap": 0.05,
    "val_confidence": 0.6,
    "gradient_norm": 0.75,
    "mixed_loss": 1.5,
    "log_train_size": math.log10(200) / 7,
    "log_steps": math.log10(40) / 8,
    "log_epochs": 1 / 4,
    "log_images_per_class": math.log10(20) / 7,
    "log_classes": 1 / 4,
    "log_parameters": 3 / 9,
    "lr_share": 0.25,
    "augmented": 1.0,
    "skill": 2 / 3,
    "train_skill": 8 / 9,
    "partner_share": 0.2,
    "last_ratio": 0.25,
    "last_method": [0, 0, 1, 0],
    "last_saliency": [0, 0, 1],
    "val_accuracy_history": [0.75] * 4,
    "val_loss_history": [0.7] * 4,
    "train_loss_history": [0.6] * 4,
}
"""By hand, for NOW after BEFORE, with cutmix@0.25+spectral."""


def test_each_observation_is_what_its_first_line_says():
    assert set(WANTED) == set(EVERY)
    for name, wanted in WANTED.items():
        got = see(name, [BEFORE, NOW], MixAction("cutmix", 0.25, "spectral"))
        assert_allclose(got, wanted, rtol=1e-9, err_msg=name)


def test_a_history_goes_back_from_the_newest_but_one_to_the_first():
    shown = [worlds.record(epoch, val_accuracy=epoch / 10) for epoch in range(7)]
    for count, wanted in ((7, [5, 4, 3, 2]), (4, [2, 1, 0, 0]), (2, [0] * 4), (1, [0] * 4)):
        got = see("val_accuracy_history", shown[:count])
        assert_allclose(got, np.array(wanted) / 10)


def test_at_the_start_nothing_has_changed_and_nothing_was_played():
    start = [worlds.record(0)]
    zero = ("progress", "last_ratio", "last_method", "last_saliency", "best_val_accuracy_gap")
    changes = tuple(name for name in EVERY if name.endswith("_change"))
    for name in (*zero, *changes):
        assert not np.any(see(name, start)), name


def test_the_vector_holds_the_observations_in_the_order_asked_for():
    views = [view([BEFORE, NOW], None), view([NOW], MixAction("cutmix", 0.25, "spectral"))]
    assert np.array_equal(OBSERVER.all(views), [OBSERVER(each) for each in views])
    names = ("progress", "last_method", "val_loss", "last_saliency")
    observer = Observer(names, CODEC.settings)
    seen = observer(view([BEFORE, NOW], MixAction("cutmix", 0.25, "spectral")))
    assert observer.sizes == (1, 4, 1, 3)
    assert_allclose(seen, [0.3, 0, 0, 1, 0, 0.8, 0, 0, 1], rtol=1e-6)
    assert seen.dtype == np.float32
    assert observer.low.shape == seen.shape


def test_progress_comes_first_and_a_misspelt_name_gets_its_closest_match():
    assert set(DEFAULT_OBSERVATIONS) <= set(OBSERVATIONS)
    assert DEFAULT_OBSERVATIONS[0] == "progress"
    for names in ((), ("val_loss", "progress")):
        with pytest.raises(ConfigError, match="wanted 'progress' first"):
            Observer(names, CODEC.settings)
    with pytest.raises(ConfigError, match=r"'val_los' is not a.* observation.* 'val_loss'"):
        Observer(("progress", "val_los"), CODEC.settings)


def test_every_observation_of_a_real_training_is_in_its_space():
    env = MixEnv(worlds.image_world(), replace(worlds.settings(), observations=EVERY))
    observation, _ = env.reset(seed=1)
    assert env.observation_space.contains(observation)
    for action in ("cutmix@0.5", "rmix@0.25+spectral"):
        observation, *_ = env.step(env.codec.encode(MixAction.parse(action)))
        assert env.observation_space.contains(observation)
    assert env._group.observer.sizes == tuple(np.size(WANTED[name]) for name in EVERY)
