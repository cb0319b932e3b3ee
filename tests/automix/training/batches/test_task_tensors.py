"""What the trainings of a task share: its form, its images, its still maps."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from automix.saliency import SALIENCY
from automix.training.batches.task_tensors import TaskTensors
from tests import tiny
from tests.automix.training.helpers import CPU, digits
from tests.cases import each


def tensors(task, **changes):
    return TaskTensors(task, tiny.trainer_settings(**changes), CPU)


@each(
    "n, batch_size, trained",
    [
        *((60, 16, 60), (64, 16, 64), (65, 16, 64), (49, 16, 48), (60, 59, 59), (60, 60, 60)),
        *((60, 61, 60), (60, 1, 60), (61, 2, 60), (61, 60, 60), (61, 61, 61)),
    ],
)
def test_all_are_trained_on_but_one_that_would_be_alone(n, batch_size, trained):
    data = tensors(digits(n), batch_size=batch_size)
    assert len(data.train) == n
    assert data.trained == trained
    assert trained == n or (n - trained == 1 and n % batch_size == 1 < batch_size)


def test_a_single_image_is_all_that_there_is_in_no_batch():
    """Batches of one image are trained on only where they were asked for."""
    one = tiny.fake_task((1, 8, 8), train=1)
    assert tensors(one, batch_size=4).trained == 0
    assert tensors(one, batch_size=1).trained == 1


def test_the_form_is_what_a_stack_has_in_common():
    form = tensors(digits()).form
    assert form == tensors(digits(seed=4)).form == ((1, 8, 8), 10, 60, 20, 50)
    assert hash(form) == hash(tensors(digits(seed=4)).form)
    assert tensors(digits(64)).form == tensors(digits(65)).form
    others = [
        tensors(digits(59)),
        tensors(digits(), probe_size=21),
        tensors(digits(), probe_size=1000),
        tensors(tiny.fake_task((1, 8, 8))),
    ]
    assert len({form, *(other.form for other in others)}) == 5
    noise = tiny.fake_task((1, 8, 8), train=60, val=30)
    assert tensors(noise).form == ((1, 8, 8), 3, 60, 20, 50)


def test_the_probe_is_the_first_of_the_training_images_with_the_labels_training_sees():
    task = digits()
    data = tensors(task, probe_size=20)
    assert data.probe == 20
    images = torch.cat(list(data.seen.split(7)))
    assert torch.equal(images[:20], task.normalised(task.train_index[:20]))
    assert torch.equal(images[20:], task.normalised(task.val_index))
    assert data.seen_labels[:20].tolist() == task.train_labels[:20].tolist()
    assert data.seen_labels[20:].tolist() == task.images.labels[task.val_index].tolist()
    assert (task.train_labels != task.images.labels[task.train_index]).sum() == 6, "10 % noise"


def test_targets_are_smoothed_labels():
    data = tensors(digits(), label_smoothing=0.2)
    wanted = np.full((60, 10), 0.02)
    wanted[np.arange(60), digits().train_labels] += 0.8
    np.testing.assert_allclose(data.targets.numpy(), wanted, atol=1e-6)


def test_still_maps_are_computed_once_for_images_that_fit(monkeypatch):
    """For those that do not, the maps of the images at hand are computed each time."""
    task, calls = digits(), []
    spectral = SALIENCY["spectral"]

    def counted(images, targets, classifier):
        calls.append(len(images))
        return spectral(images, targets, classifier)

    entry = dataclasses.replace(SALIENCY.entry("spectral"), value=counted)
    monkeypatch.setitem(SALIENCY._entries, "spectral", entry)
    index = torch.tensor([5, 3, 59])
    plain = task.normalised(task.train_index)[index]
    wanted = spectral(plain, torch.zeros(3, 10), torch.nn.Identity())
    held = tensors(task)
    for _ in range(2):
        torch.testing.assert_close(held.still_maps("spectral", index, plain), wanted)
    assert calls == [60]
    images = dataclasses.replace(task.images, memory_limit_gb=1e-9)
    on_disk = tensors(dataclasses.replace(task, images=images))
    assert on_disk.train.resident is None
    for _ in range(2):
        torch.testing.assert_close(on_disk.still_maps("spectral", index, plain), wanted)
    assert calls == [60, 3, 3]
