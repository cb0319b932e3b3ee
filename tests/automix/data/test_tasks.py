"""Tasks: who is in which split, and which labels are wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from automix.core.errors import ConfigError, DataError
from automix.core.seeding import generator
from automix.data.image_set import ImageSet, InMemory
from automix.data.tasks import FamilySettings, TaskFamily, TaskSpec, noisy_labels, stratified_split
from tests.cases import each
from tests.strategies import SEEDS

FAMILY = FamilySettings(
    dataset="digits", train_sizes=(50, 200), label_noise=(0.0, 0.3), val_size=100
)


@pytest.fixture(scope="module")
def family():
    return TaskFamily(FAMILY)


def spec(train_size=50, label_noise=0.3, seed=0):
    return TaskSpec(train_size=train_size, label_noise=label_noise, seed=seed)


class_sizes = st.lists(st.one_of(st.integers(2, 8), st.integers(8, 200)), min_size=2, max_size=12)


@settings(max_examples=100)
@given(sizes=class_sizes, share=st.floats(0.02, 0.98), seed=SEEDS)
@example(sizes=[2000] + [14] * 20, share=0.1, seed=0)
@example(sizes=[200, 200] + [2] * 12, share=0.3, seed=0)
def test_a_split_takes_the_exact_count_and_each_class_its_share_within_one(sizes, share, seed):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    index = 1000 + generator(seed, "ids").permutation(len(labels))
    label_of = dict(zip(index.tolist(), labels.tolist(), strict=True))
    by_place = np.zeros(5000, dtype=np.int64)
    by_place[index] = labels
    count = round(share * len(labels))
    taken, rest = stratified_split(by_place, index, count, generator(seed))
    assert len(taken) == count
    assert sorted([*taken, *rest]) == sorted(index)
    quota = count * np.array(sizes) / len(labels)
    got = np.bincount([label_of[i] for i in taken.tolist()], minlength=len(sizes))
    if (quota >= 1).all() and (np.array(sizes) - quota >= 1).all():
        assert (abs(got - quota) < 1).all(), (sizes, quota, got)
    # Small classes are seen on both sides before large ones get their last image.
    if count >= len(sizes):
        assert (got >= 1).all()
    if len(labels) - count >= len(sizes):
        assert (np.array(sizes) - got >= 1).all()


@given(seed=SEEDS)
def test_a_split_is_drawn_afresh_by_each_seed(seed):
    labels = np.arange(60) % 3
    first = stratified_split(labels, np.arange(60), 20, generator(seed, 0))[0]
    again = stratified_split(labels, np.arange(60), 20, generator(seed, 0))[0]
    other = stratified_split(labels, np.arange(60), 20, generator(seed, 1))[0]
    assert (first == again).all()
    assert set(first) != set(other)


def test_every_image_has_the_same_chance_to_be_taken():
    labels = np.repeat([0, 1], [20, 10])
    hits = np.zeros(30)
    for seed in range(600):
        hits[stratified_split(labels, np.arange(30), 15, generator(seed))[0]] += 1
    assert abs(hits - 300).max() < 50  # four standard deviations


@given(share=st.floats(0, 0.99), n=st.integers(1, 80), classes=st.integers(2, 5), seed=SEEDS)
def test_the_exact_count_of_labels_is_wrong_and_no_wrong_one_is_right(share, n, classes, seed):
    labels = np.arange(n) % classes
    before = labels.copy()
    noisy = noisy_labels(labels, share, classes, generator(seed))
    assert (labels == before).all()
    assert (noisy != labels).sum() == round(share * n)
    assert noisy.dtype == labels.dtype
    assert ((noisy >= 0) & (noisy < classes)).all()


def test_wrong_labels_are_uniform_over_the_other_classes():
    labels = np.repeat(np.arange(4), 1500)
    noisy = noisy_labels(labels, 1.0, 4, generator(0))
    counts = np.zeros((4, 4))
    np.add.at(counts, (labels, noisy), 1)
    assert (np.diag(counts) == 0).all()
    assert abs(counts[~np.eye(4, dtype=bool)] - 500).max() < 75  # four standard deviations


@each("train_size", [0, 10, 50, 777])
@each("seed", [0, 1])
def test_splits_do_not_overlap_and_have_their_sizes(family, train_size, seed):
    task = family.task(spec(train_size, seed=seed))
    parts = [task.train_index, task.val_index, task.test_index]
    together = np.concatenate(parts)
    assert len(np.unique(together)) == len(together)
    assert len(task.val_index) == 100
    assert len(task.test_index) == round(0.33 * 1797)
    assert len(task.train_index) == (train_size or 1797 - 100 - len(task.test_index))
    assert len(task.train_labels) == len(task.train_index)
    # The digits are all but balanced, and so is every part.
    for part in parts:
        counts = np.bincount(task.images.labels[part], minlength=10)
        assert counts.min() >= 0.85 * counts.max() - 1


def test_the_test_part_is_the_same_for_every_task_family_and_seed(family):
    wanted = family.task(spec()).test_index
    other = TaskFamily(replace(FAMILY, train_sizes=(300,), val_size=40))
    for task in (family.task(spec(200, 0.0, 9)), other.task(spec(300, 0.1, 5))):
        assert (task.test_index == wanted).all()


def test_equal_specs_make_equal_tasks_and_other_seeds_others(family):
    one, same, other = (
        family.task(spec()),
        TaskFamily(FAMILY).task(spec()),
        family.task(spec(seed=1)),
    )
    for name in ("train_index", "train_labels", "val_index", "test_index"):
        assert (getattr(one, name) == getattr(same, name)).all()
    assert torch.equal(one.mean, same.mean)
    assert set(one.train_index) != set(other.train_index)
    assert set(one.val_index) != set(other.val_index)


def test_tasks_of_different_kinds_share_nothing_by_sharing_a_seed(family):
    """The stratified bootstrap takes kinds as independent."""
    plain, noisy, larger = (family.task(spec(*s)) for s in ((50, 0.0), (50, 0.4), (200, 0.4)))
    assert set(plain.val_index) != set(noisy.val_index)
    assert set(noisy.val_index) != set(larger.val_index)
    assert set(plain.train_index) != set(noisy.train_index)


def test_only_training_labels_are_noisy(family):
    task = family.task(spec(200, 0.3))
    true = task.images.labels[task.train_index]
    assert (task.train_labels != true).sum() == 60
    assert (task.labels(task.val_index).numpy() == task.images.labels[task.val_index]).all()
    assert (family.images.labels[task.train_index] == true).all()


def test_images_are_scaled_by_the_training_images_alone(family):
    task = family.task(spec(200))
    train = task.normalised(task.train_index)
    assert_close(train.mean((0, 2, 3)), torch.zeros(1), atol=1e-5, rtol=0)
    assert_close(train.std((0, 2, 3), correction=0), torch.ones(1), atol=1e-5, rtol=0)
    raw = task.images.pixels.read(task.val_index)
    assert_close(task.normalised(task.val_index) * task.std + task.mean, raw)


def test_tasks_are_drawn_uniformly_from_the_family(family):
    rng = generator(0)
    drawn = [family.draw(rng) for _ in range(400)]
    kinds = [(s.train_size, s.label_noise) for s in drawn]
    assert set(kinds) == {(50, 0.0), (50, 0.3), (200, 0.0), (200, 0.3)}
    assert min(map(kinds.count, set(kinds))) > 70
    assert len({s.seed for s in drawn}) == 400
    again = generator(0)
    assert drawn == [family.draw(again) for _ in range(400)]


def test_a_kind_is_what_tasks_of_one_difficulty_share():
    assert spec(50, 0.3, 1).kind == spec(50, 0.3, 2).kind == "50 images, 30% noise"
    assert spec(0, 0.0).kind == "all images, 0% noise"


@each(
    "changes, says",
    [
        ({"train_sizes": (1200,)}, "wanted 100 for validation and 1200 for training"),
        ({"val_size": 1200, "train_sizes": (0,)}, "wanted 1200 for validation and 10"),
        ({"train_sizes": (9,)}, "train size 9 is below one image for each of 10 classes"),
        ({"test_share": 0.999}, "images are left besides"),
    ],
)
def test_a_set_that_is_too_small_is_refused_with_the_numbers(changes, says):
    with pytest.raises(DataError) as error:
        TaskFamily(replace(FAMILY, **changes))
    assert says in error.value.message
    assert error.value.hint


def with_counts(*counts, test=None):
    """Return a set of so many images of each class, no two alike."""
    labels = np.repeat(np.arange(len(counts)), counts)
    pixels = torch.rand((len(labels), 1, 4, 4), generator=torch.Generator().manual_seed(0))
    names = tuple("abcdefghijkl"[: len(counts)])
    return ImageSet("pets", InMemory(pixels), labels, names, (1, 4, 4), test)


def family_of(images, monkeypatch, **settings):
    monkeypatch.setattr("automix.data.tasks.load_once", lambda source: images)
    return TaskFamily(FamilySettings(**settings))


@each(
    "images, says",
    [
        (with_counts(40, 40, 1), "class c has 1 images; wanted 3"),
        (with_counts(40, 40, 2), "class c has 2 images; wanted 3"),
        (with_counts(2, 1, 40, 2), "class a has 2 images, and 2 more classes have too few"),
        (
            with_counts(5, 5, test=np.array([0, 1, 2, 3, 5])),
            "class a has 1 images outside the test",
        ),
    ],
)
def test_a_class_that_cannot_be_in_every_part_is_refused_or_taken_on_demand(
    images, says, monkeypatch
):
    with pytest.raises(DataError) as error:
        family_of(images, monkeypatch)
    assert says in error.value.message
    assert "task.min_per_class=1" in error.value.hint
    told = family_of(images, monkeypatch, min_per_class=1, val_size=2).tell()
    assert says.partition(";")[0] in told["warnings"][0]
    assert "will lack it" in told["warnings"][0]


def test_three_images_of_a_class_are_one_for_each_part(monkeypatch):
    family = family_of(with_counts(40, 40, 3), monkeypatch)
    assert family.tell()["warnings"] == [
        "classes are unbalanced: a has 40 images, c has 3; accuracy hardly tells of small classes"
    ]
    for seed in range(5):
        task = family.task(spec(0, 0.0, seed))
        for part in (task.train_index, task.val_index, task.test_index):
            assert (task.images.labels[part] == 2).sum() == 1


def test_what_was_loaded_is_logged_in_one_line(family, caplog):
    with caplog.at_level("INFO", "automix"):
        told = family.tell()
    assert told["warnings"] == []
    assert [record.getMessage() for record in caplog.records] == [f"images: {told['loaded']}"]
    assert told["loaded"].startswith(
        "digits: 1,797 images, 8x8, grey; 10 classes: 0 (178), 1 (182)"
    )
    assert told["loaded"].endswith("; test part: 593 images, split off")


def test_a_spec_that_is_too_large_for_its_family_is_refused(family):
    assert len(family.task(spec(1104)).train_index) == 1104
    with pytest.raises(DataError, match="wanted 100 for validation and 1105 for training"):
        family.task(spec(1105))


@each(
    "changes, names",
    [
        ({"label_noise": (1.0,)}, "task.label_noise"),
        ({"label_noise": ()}, "task.label_noise"),
        ({"label_noise": (float("nan"),)}, "task.label_noise"),
        ({"train_sizes": (-1,)}, "task.train_sizes"),
        ({"train_sizes": ()}, "task.train_sizes"),
        ({"val_size": -1}, "task.val_size"),
        ({"min_per_class": 0}, "task.min_per_class"),
        ({"test_share": 0.0}, "task.test_share"),
        ({"test_share": 1.0}, "task.test_share"),
    ],
)
def test_a_family_that_means_nothing_is_refused(changes, names):
    with pytest.raises(ConfigError) as error:
        replace(FAMILY, **changes)
    assert names in error.value.message


def test_a_set_that_names_its_test_part_keeps_it(monkeypatch):
    labels = np.arange(40) % 2
    images = ImageSet(
        name="own test part",
        pixels=InMemory(torch.rand(40, 1, 4, 4, generator=torch.Generator().manual_seed(0))),
        labels=labels,
        class_names=("a", "b"),
        shape=(1, 4, 4),
        test=np.arange(30, 40),
    )
    monkeypatch.setattr("automix.data.tasks.load_once", lambda source: images)
    task = TaskFamily(replace(FAMILY, train_sizes=(12,), val_size=6)).task(spec(12))
    assert task.test_index.tolist() == list(range(30, 40))
    assert max([*task.train_index, *task.val_index]) < 30
