"""Sets, splits and how much memory they may take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from automix.data import memory
from automix.data.image_set import (
    ImageSet,
    InMemory,
    OnDisk,
    Origin,
    Split,
    describe,
    doubts,
    in_threads,
)
from tests.automix.data.checks import refused
from tests.cases import each

CPU = torch.device("cpu")
NUMBERS = torch.arange(7 * 2 * 3 * 4, dtype=torch.uint8).view(7, 2, 3, 4)


def image_set(limit_gb=0.0, **changes):
    values = {
        "name": "numbers",
        "pixels": InMemory(NUMBERS),
        "labels": np.array([0, 1, 0, 1, 0, 1, 1]),
        "class_names": ("even", "odd"),
        "shape": (2, 3, 4),
        "memory_limit_gb": limit_gb,
    }
    return ImageSet(**values | changes)


def test_the_line_tells_size_colour_classes_and_what_is_left_out():
    for count in (2, 12):
        names = (*(f"class {k}" for k in range(count - 1)), "b\nell\x07")
        origin = Origin("the folder test", ["2 hidden files"], [])
        labels = np.arange(24) % count
        images = image_set(
            name="pets",
            pixels=InMemory(torch.zeros(24, 3, 4, 5)),
            labels=labels,
            class_names=names,
            shape=(3, 4, 5),
            origin=origin,
        )
        classes = "class 0 (12), b\\nell\\x07 (12)"
        if count == 12:
            classes = "class 0 (2), class 1 (2), class 2 (2), ..., b\\nell\\x07 (2), 2 to 2 each"
        assert describe(images, np.arange(4)) == (
            f"pets: 24 images, 5x4, RGB; {count} classes: {classes}; "
            "test part: 4 images, the folder test; left out: 2 hidden files"
        )
    assert "2 channels" in describe(image_set(), np.arange(1))


def test_equal_images_in_both_parts_or_in_two_classes_are_told():
    for pixels in (NUMBERS, NUMBERS.float() / 255):
        repeated = pixels[[0, 1, 2, 3, 0, 1, 2]]
        (leak, clash) = doubts(image_set(pixels=InMemory(repeated)), np.arange(4), np.arange(4, 7))
        assert leak.startswith("3 of 3 test images are among the others")
        assert "such as image 4 and image 0: scores" in leak
        assert clash == (
            "2 images have equal pixels but different classes, such as image 2 and image 6"
        )
        assert doubts(image_set(pixels=InMemory(pixels)), np.arange(4), np.arange(4, 7)) == []


def test_doubtful_classes_are_told():
    labels = np.repeat([0, 1, 2], [40, 4, 4])
    names = ("Cat", "cat ", "dog", "eel")
    pixels = InMemory(torch.arange(48, dtype=torch.uint8)[:, None, None, None])
    found = doubts(
        image_set(pixels=pixels, labels=labels, class_names=names), np.arange(4, 48), np.arange(4)
    )
    assert found == [
        "no images of eel",
        "classes are unbalanced: Cat has 40 images, cat  has 4; accuracy hardly tells of small "
        "classes",
        "classes that differ in case or blanks only: ['Cat', 'cat ']",
    ]


def test_memory_scales_uint8_to_one_and_keeps_floats():
    index = np.array([3, 0, 3])
    assert torch.equal(InMemory(NUMBERS).read(index), NUMBERS[[3, 0, 3]].float() / 255)
    floats = NUMBERS.double() / 255
    read = InMemory(floats).read(index)
    assert read.dtype == torch.float32
    assert torch.equal(read, floats[[3, 0, 3]].float())


def test_disk_decodes_the_files_of_the_images_asked_for():
    asked = []

    def decode(number):
        asked.append(number)
        return NUMBERS[number]

    disk = OnDisk(decode, np.array([6, 4, 2]))
    assert torch.equal(disk.read(np.array([2, 0])), NUMBERS[[2, 6]].float() / 255)
    assert asked == [2, 6]
    assert len(disk) == 3


@each("threads", [1, 3])
def test_threads_keep_the_order_and_pass_on_what_fails(threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert in_threads(lambda n: n * n, range(50)) == [n * n for n in range(50)]
    with pytest.raises(ZeroDivisionError):
        in_threads(lambda n: 1 // (n - 5), range(50))


@pytest.fixture
def splits():
    """The same images as a tensor and as a reader."""

    def half(index):
        return NUMBERS[torch.from_numpy(index)].float() / 2

    index = np.array([5, 1, 4, 0, 2])
    return [Split(half, index, image_set(limit), CPU) for limit in (1.0, 1e-9)]


def test_a_split_is_a_tensor_where_it_fits_and_a_reader_where_not(splits):
    held, read = splits
    assert held.resident is not None
    assert read.resident is None


def test_both_forms_of_a_split_give_the_same(splits):
    for split in splits:
        assert len(split) == 5
        at = torch.tensor([4, 1, 1])
        assert torch.equal(split[at], NUMBERS[[2, 1, 1]].float() / 2)
        parts = list(split.split(2))
        assert [len(part) for part in parts] == [2, 2, 1]
        assert torch.equal(torch.cat(parts), NUMBERS[[5, 1, 4, 0, 2]].float() / 2)


def test_a_split_that_is_held_is_read_once_in_pieces(monkeypatch):
    monkeypatch.setattr(memory, "PIECE", 2 * 4 * 2 * 3 * 4)
    asked = []

    def read(index):
        asked.append(index.tolist())
        return NUMBERS[torch.from_numpy(index)].float()

    split = Split(read, np.arange(5), image_set(1.0), CPU)
    assert asked == [[0, 1], [2, 3], [4]]
    assert torch.equal(split.resident, NUMBERS[:5].float())
    split[torch.tensor([0])]
    assert len(asked) == 3


def test_a_quarter_of_what_is_free_may_be_taken(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda: 4000)
    assert memory.fits(1000)
    assert not memory.fits(1001)


def test_a_limit_replaces_the_quarter(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda: 4000)
    assert memory.fits(3_000_000, limit_gb=0.003)
    assert not memory.fits(3_000_001, limit_gb=0.003)


def test_a_gpu_has_its_own_quarter(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (4000, 9000))
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda device: 1.0)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 0)
    assert memory.fits(1000, 1e-9, torch.device("cuda"))
    assert not memory.fits(1001, 1.0, torch.device("cuda"))


def test_systems_that_do_not_say_what_is_free_are_taken_at_a_guess(monkeypatch):
    def unreadable(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", unreadable)
    assert memory.free_memory() > 10**7  # the physical memory
    monkeypatch.delattr("os.sysconf")
    assert memory.free_memory() == memory.UNKNOWN


def test_a_piece_holds_at_least_one_image():
    assert memory.images_a_piece((3, 10**5, 10**5)) == 1
    assert memory.images_a_piece((1, 8, 8)) == memory.PIECE // 256


@each(
    "labels, test, said",
    [
        ([0, 1, 0, 1, 0, 1, -1], None, ["labels hold -1", "0 to 1 for 2 classes"]),
        ([0, 1, 0, 1, 0, 1, 2], None, ["labels hold 2", "0 to 1 for 2 classes"]),
        ([0] * 7, None, ["7 images of one class only (even)"]),
        ([0, 0, 0, 0, 0, 1, 1], np.array([4, 5, 6]), ["'odd'", "test part only"]),
    ],
)
def test_labels_that_make_no_set_are_refused(labels, test, said):
    with refused("numbers", *said):
        image_set(labels=np.array(labels), test=test)


def test_a_process_with_a_share_of_a_gpu_has_no_more_than_that(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (8000, 10_000))
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda device: 0.5)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 1000)
    assert memory.free_memory(torch.device("cuda")) == 4000
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda device: 1.0)
    assert memory.free_memory(torch.device("cuda:1")) == 8000
