"""What is handed in with a batch: one check, whoever asks for a mix."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from automix.core.errors import ConfigError
from automix.core.seeding import generator
from automix.mixing.actions import MixAction
from automix.mixing.batch import mix_batch
from automix.mixing.checks import checked_labels
from automix.mixing.loss import loss_of
from automix.mixing.targets import as_targets
from automix.policy.schedule import MixSchedule
from automix.training.batches.task_tensors import TaskTensors
from tests import tiny
from tests.cases import each

B, K = 8, 8
IMAGES = torch.rand(B, 3, 8, 8, generator=torch.Generator().manual_seed(0))
CLASSES = torch.arange(B) % 5
ROWS = torch.rand(B, K, generator=torch.Generator().manual_seed(1)).softmax(1)
NET = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, K))


def by_mix_batch(images: Tensor, labels: Tensor, action: str = "mixup") -> Tensor:
    return mix_batch(
        images, labels, MixAction.parse(action), num_classes=K, rng=generator(0)
    ).targets


def by_mixer(images: Tensor, labels: Tensor) -> Tensor:
    return MixSchedule([MixAction("cutmix", 0.5)]).mixer(K)(images, labels)[1]


def by_loss(images: Tensor, labels: Tensor, action: str = "cutout") -> Tensor:
    action = MixAction.parse(action)
    return loss_of(NET, images, labels, action, num_classes=K, rng=generator(0)).losses


def by_own_step(images: Tensor, labels: Tensor) -> Tensor:
    return by_loss(images, labels, "style_consistency")


def by_layers(images: Tensor, labels: Tensor) -> Tensor:
    return by_mix_batch(images, labels, "comixup")


def by_rule(images: Tensor, labels: Tensor) -> Tensor:
    return by_mix_batch(images, labels, "cutmix:visibility")


def by_nothing(images: Tensor, labels: Tensor) -> Tensor:
    return by_mix_batch(images, labels, "none")


def by_trainer(images: Tensor, labels: Tensor) -> Tensor:
    task = tiny.fake_task((1, 8, 8), train=B, classes=K)
    task = replace(task, train_labels=labels.numpy())
    return TaskTensors(task, tiny.trainer_settings(), torch.device("cpu")).targets


WAYS = (by_mix_batch, by_mixer, by_loss, by_own_step, by_layers, by_rule, by_nothing, by_trainer)


INTEGERS = [
    *(CLASSES.to(dtype) for dtype in (torch.uint8, torch.int8, torch.int16, torch.uint16)),
    CLASSES[:, None],
    CLASSES[:, None].byte(),
    torch.stack([CLASSES, CLASSES], 1)[:, :1],  # a column that is a view
]
FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
SOFT = [F.one_hot(CLASSES, K).to(dtype) for dtype in FLOATS]


@each("way", WAYS)
def test_what_says_the_same_is_taken_for_the_same(way):
    wanted = way(IMAGES, CLASSES)
    # A task has classes, and smooths them itself.
    for labels in INTEGERS if way is by_trainer else INTEGERS + SOFT:
        assert_close(way(IMAGES, labels), wanted)


BAD: dict[str, tuple[object, str, str]] = {
    "one-hot integers": (F.one_hot(CLASSES, K), r"int64 \(8, 8\) for 8", "labels.argmax(1)"),
    "one-hot bytes": (F.one_hot(CLASSES, K).byte(), r"uint8 \(8, 8\)", "labels.float()"),
    "one-hot truths": (F.one_hot(CLASSES, K).bool(), r"bool \(8, 8\)", "labels.float()"),
    "class numbers as floats": (CLASSES.float(), r"float32 \(8,\) for 8 images", "labels.long()"),
    "a column of floats": (CLASSES[:, None].double(), r"float64 \(8, 1\)", "labels.long()"),
    "rows of other classes": (ROWS[:, :7], r"\(8, 7\).* or probabilities \(8, 8\)", "column"),
    "rows of more classes": (torch.ones(8, 9) / 9, r"float32 \(8, 9\)", "num_classes is 8"),
    "too few": (CLASSES[:6], r"int64 \(6,\) for 8 images", "one label for each image"),
    "too many rows": (ROWS.repeat(2, 1), r"\(16, 8\) for 8 images", "one label for each image"),
    "one for all": (torch.tensor(3), r"int64 \(\) for 8 images", "one label for each"),
    "a label beyond": (CLASSES + 4, "labels are from 4 to 8, wanted classes 0 to 7", "-1"),
    "a byte beyond": ((CLASSES + 252).byte(), "from 0 to 255, wanted", "num_classes"),
    "withheld": (CLASSES - 1, "labels are from -1 to 3, wanted classes 0 to 7", "leave out"),
    "ignored": (torch.full((8, 1), -100), "labels are from -100 to -100", "leave out"),
    "maps of classes": (torch.zeros(8, 4, 4).long(), r"int64 \(8, 4, 4\)", "labels.long()"),
    "complex numbers": (CLASSES.cfloat(), r"complex64 \(8,\)", "labels.long()"),
}


@each("bad, told, remedy", BAD.values())
def test_labels_that_are_none_are_refused_in_the_same_words_by_everybody(bad, told, remedy):
    for way in WAYS:
        with pytest.raises(ConfigError, match=told) as error:
            way(IMAGES, bad)
        assert remedy in error.value.hint
        assert "\n" not in error.value.message


@each("bad, told", [(CLASSES.tolist(), "list"), (CLASSES.numpy(), "ndarray"), (None, "NoneType")])
def test_labels_want_to_be_a_tensor(bad, told):
    for way in (by_mix_batch, by_mixer, by_loss, by_own_step):
        with pytest.raises(ConfigError, match=f"labels are {told}, wanted a tensor"):
            way(IMAGES, bad)


@each("classes", [0, -1, "8", None, 8.0, True])
def test_a_number_of_classes_is_a_whole_number(classes):
    with pytest.raises(ConfigError, match=f"num_classes is {classes!r}, wanted a whole number"):
        checked_labels(CLASSES, B, classes)


def test_two_classes_may_be_false_and_true_and_a_single_one_a_column():
    truths = torch.tensor([True, False])
    assert as_targets(checked_labels(truths, 2, 2), 2).tolist() == [[0, 1], [1, 0]]
    ones = torch.ones(2, 1)
    assert checked_labels(ones, 2, 1) is ones
    assert checked_labels(torch.zeros(2, 1).long(), 2, np.int64(1)).tolist() == [0, 0]


@each("dtype", [torch.int16, torch.int32, torch.int64, torch.int8, torch.uint16, torch.bool])
def test_images_of_other_integers_are_refused_by_name(dtype):
    name = str(dtype).removeprefix("torch.")
    for way in (by_mix_batch, by_mixer, by_loss, by_own_step, by_layers, by_nothing):
        with pytest.raises(ConfigError, match=f"images are {name} .*, wanted float32") as error:
            way((IMAGES * 255).to(dtype), CLASSES)
        assert "images.float()" in error.value.hint


@each("bad, told", [(IMAGES.cfloat(), "complex64"), (IMAGES.numpy(), "ndarray"), ([], "list")])
def test_images_that_are_none_are_refused(bad, told):
    with pytest.raises(ConfigError, match=f"images are {told}"):
        by_mix_batch(bad, CLASSES)


@each("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_images_keep_their_dtype(dtype):
    action = MixAction("mixup", 0.5)
    mixed = mix_batch(IMAGES.to(dtype), CLASSES, action, num_classes=K, rng=generator(0))
    assert mixed.images.dtype == dtype
    assert mixed.targets.dtype == torch.float32
