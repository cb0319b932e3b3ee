"""Class folders: what is read exactly, and what is refused and how."""

from __future__ import annotations

import logging
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from automix.data.image_set import InMemory, OnDisk
from tests.automix.data.checks import (
    class_folders,
    load_folder,
    picture,
    pixels_of,
    refused,
    save_picture,
)
from tests.cases import each

IN_MEMORY, ON_DISK = 1.0, 1e-9

either_place = each("memory_limit_gb", [IN_MEMORY, ON_DISK])


@pytest.fixture
def pets(tmp_path):
    """Three cats, three dogs."""
    return class_folders(tmp_path / "pets")


@either_place
def test_pixels_labels_and_names_are_read_exactly(pets, memory_limit_gb):
    images = load_folder(pets, memory_limit_gb=memory_limit_gb)
    assert isinstance(images.pixels, InMemory if memory_limit_gb == IN_MEMORY else OnDisk)
    assert len(images.pixels) == 6
    assert images.name == "pets"
    assert images.class_names == ("cat", "dog")
    assert images.shape == (3, 6, 5)
    assert images.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert images.labels.dtype == np.int64
    assert images.test is None
    expected = np.stack([picture(seed) for seed in (0, 1, 2, 10, 11, 12)])
    np.testing.assert_allclose(pixels_of(images), expected, atol=1e-4)


@each("threads", [1, 2])
def test_disk_and_memory_give_equal_bits_in_the_order_asked_for(pets, threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    disk = load_folder(pets, memory_limit_gb=ON_DISK).pixels
    memory = load_folder(pets).pixels
    for index in ([4, 0, 4, 2], [5]):
        assert torch.equal(disk.read(np.array(index)), memory.read(np.array(index)))


def test_uint8_is_kept_in_memory(pets):
    assert load_folder(pets).pixels.images.dtype == torch.uint8


@each(
    "train, evaluation",
    [("train", "test"), ("train", "val"), ("train", "validation"), ("training", "valid")],
)
@either_place
def test_an_evaluation_folder_is_the_test_part(tmp_path, train, evaluation, memory_limit_gb):
    class_folders(tmp_path / train)
    class_folders(tmp_path / evaluation, each=2)
    images = load_folder(tmp_path, memory_limit_gb=memory_limit_gb)
    assert images.test.tolist() == [6, 7, 8, 9]
    assert images.labels.tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 1, 1]
    np.testing.assert_allclose(pixels_of(images)[8], picture(10), atol=1e-4)


def test_test_goes_before_val(tmp_path):
    class_folders(tmp_path / "train", each=1)
    class_folders(tmp_path / "val", each=4)
    class_folders(tmp_path / "test", each=2)
    assert load_folder(tmp_path).test.tolist() == [2, 3, 4, 5]


def test_a_train_folder_alone_is_one_pool(tmp_path):
    class_folders(tmp_path / "train")
    images = load_folder(tmp_path)
    assert images.class_names == ("cat", "dog")
    assert images.test is None


def test_the_innermost_folder_names_the_class(tmp_path):
    class_folders(tmp_path / "site1")
    class_folders(tmp_path / "site2" / "ward3", each=1)
    images = load_folder(tmp_path)
    assert images.class_names == ("cat", "dog")
    assert images.labels.tolist() == [0, 0, 0, 1, 1, 1, 0, 1]


def test_names_are_in_natural_order(tmp_path):
    class_folders(tmp_path, names=("class10", "class9", "Class9", "class09"), each=1)
    assert load_folder(tmp_path).class_names == ("Class9", "class09", "class9", "class10")


def test_other_files_are_ignored(pets):
    (pets / "notes.txt").write_text("hello")
    (pets / "cat" / "labels.csv").write_text("hello")
    (pets / "empty").mkdir()
    images = load_folder(pets)
    assert images.class_names == ("cat", "dog")
    assert len(images.labels) == 6


def test_every_kind_of_image_becomes_rgb(tmp_path):
    grey = picture(1, (6, 5))
    colour = picture(2, (6, 5, 3))
    see_through = np.dstack([colour, np.full((6, 5), 128, np.uint8)])
    save_picture(tmp_path / "cat" / "grey.png", grey)
    save_picture(tmp_path / "cat" / "see_through.png", see_through)
    palette = Image.fromarray(colour).quantize(8)
    opaque = np.asarray(palette.convert("RGB"))
    palette.info["transparency"] = bytes(range(8))
    palette.save(tmp_path / "cat" / "zpalette.png")
    save_picture(tmp_path / "dog" / "black.JPG", np.zeros((6, 5), np.uint8))
    images = load_folder(tmp_path)
    assert images.shape == (3, 6, 5)
    pixels = pixels_of(images)
    np.testing.assert_allclose(pixels[0], np.dstack([grey] * 3), atol=1e-4)
    np.testing.assert_allclose(pixels[1], colour, atol=1e-4)
    np.testing.assert_allclose(pixels[2], opaque, atol=1e-4)
    np.testing.assert_array_equal(pixels[3], 0)


@either_place
def test_resizing_takes_the_shorter_edge_and_the_centre(tmp_path, memory_limit_gb):
    wide = np.zeros((4, 12, 3), np.uint8)
    wide[:, 4:8] = 200
    save_picture(tmp_path / "cat" / "wide.png", wide)
    save_picture(tmp_path / "dog" / "tall.png", wide.transpose(1, 0, 2))
    save_picture(tmp_path / "dog" / "square.png", np.full((20, 20, 3), 100, np.uint8))
    images = load_folder(tmp_path, image_size=4, memory_limit_gb=memory_limit_gb)
    assert images.shape == (3, 4, 4)
    pixels = pixels_of(images)
    np.testing.assert_allclose(pixels[0], 200, atol=1e-4)  # the wide one
    np.testing.assert_allclose(pixels[1], 100, atol=1e-4)
    np.testing.assert_allclose(pixels[2], 200, atol=1e-4)


@either_place
def test_resizing_to_the_size_that_images_have_changes_nothing(tmp_path, memory_limit_gb):
    for i, name in enumerate(("cat", "dog")):
        save_picture(tmp_path / name / "1.png", picture(i, (6, 6, 3)))
    images = load_folder(tmp_path, image_size=6, memory_limit_gb=memory_limit_gb)
    assert torch.equal(
        images.pixels.read(np.arange(2)), load_folder(tmp_path).pixels.read(np.arange(2))
    )


def test_a_missing_folder_is_refused(tmp_path):
    with refused(str(tmp_path / "pats"), "does not exist", hint="task.root"):
        load_folder(tmp_path / "pats")


def test_a_file_is_refused(tmp_path):
    file = save_picture(tmp_path / "1.png", picture(0))
    with refused(str(file), "is a file", hint="task.root"):
        load_folder(file)


def test_an_empty_folder_is_refused(tmp_path):
    with refused(str(tmp_path), "no png or jpg", hint="cat/1.png"):
        load_folder(tmp_path)


def test_an_empty_evaluation_folder_is_refused(tmp_path):
    class_folders(tmp_path / "train")
    (tmp_path / "test" / "cat").mkdir(parents=True)
    with refused(str(tmp_path / "test"), "no png or jpg"):
        load_folder(tmp_path)


def test_one_class_is_refused(tmp_path):
    class_folders(tmp_path / "pets", names=("cat",))
    with refused("pets", "3 images", "(cat)", "two classes"):
        load_folder(tmp_path / "pets")


def test_an_image_outside_the_class_folders_is_refused(pets):
    path = save_picture(pets / "thumb.png", picture(0))
    with refused(str(path), "no class folder", hint="move it"):
        load_folder(pets)


@each("has, lacks", [("train", "test"), ("test", "train")])
def test_classes_that_differ_between_the_splits_are_refused(tmp_path, has, lacks):
    class_folders(tmp_path / has, names=("bird", "cat", "dog"))
    class_folders(tmp_path / lacks, names=("bird", "cat"))
    with refused(f"{tmp_path / lacks}: no images of class 'dog'", str(tmp_path / has)):
        load_folder(tmp_path)


@either_place
def test_differing_sizes_are_refused(pets, memory_limit_gb):
    odd = save_picture(pets / "cat" / "1.png", picture(1, (7, 9, 3)))
    usual = pets / "cat" / "0.png"
    with refused("1 of 6", f"{odd} has 9x7 pixels", f"{usual} has 5x6", hint="task.image_size=32"):
        load_folder(pets, memory_limit_gb=memory_limit_gb)


def test_sizes_that_differ_between_the_splits_are_refused(tmp_path):
    class_folders(tmp_path / "train")
    odd = save_picture(tmp_path / "val" / "cat" / "1.png", picture(0, (8, 8, 3)))
    save_picture(tmp_path / "val" / "dog" / "1.png", picture(0))
    with refused(f"{odd} has 8x8 pixels", hint="task.image_size"):
        load_folder(tmp_path)


def spoil(pets):
    """Make one dog's head and another dog's body unreadable; return both paths."""
    no_image, cut = pets / "dog" / "0.png", pets / "dog" / "2.png"
    no_image.write_bytes(b"this is no image")
    save_picture(cut, picture(5, (60, 50, 3)))
    whole = cut.read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    return no_image, cut


@each("image_size", [0, 4])
def test_files_that_cannot_be_read_are_refused(pets, image_size):
    no_image, _ = spoil(pets)
    with refused(f"first: {no_image}", "2 of 6", "cannot identify", hint="task.skip_bad=true"):
        load_folder(pets, image_size=image_size)


def test_a_jpeg_cut_off_is_refused(pets):
    path = save_picture(pets / "cat" / "9.jpg", picture(0, (64, 64, 3)))
    path.write_bytes(path.read_bytes()[:700])
    with refused(str(path), "1 of 7", "truncated", hint="task.skip_bad=true"):
        load_folder(pets, image_size=4)


def test_deep_images_are_refused(pets):
    path = save_picture(pets / "cat" / "0.png", picture(0, (6, 5)).astype(np.uint16))
    with refused(str(path), "more than 8 bits", "I;16", hint="task.skip_bad=true"):
        load_folder(pets)


@either_place
def test_bad_files_are_skipped_and_named_if_that_is_asked_for(pets, memory_limit_gb, caplog):
    no_image, cut = spoil(pets)
    with caplog.at_level(logging.WARNING, "automix"):
        images = load_folder(pets, skip_bad=True, memory_limit_gb=memory_limit_gb)
    (line,) = [record.getMessage() for record in caplog.records]
    assert "skipped 2 of 6" in line
    assert str(no_image) in line
    assert str(cut) in line
    assert images.labels.tolist() == [0, 0, 0, 1]
    np.testing.assert_allclose(pixels_of(images)[3], picture(11), atol=1e-4)


def test_skipping_keeps_the_test_part_right(tmp_path):
    class_folders(tmp_path / "train")
    class_folders(tmp_path / "test", each=2)
    (tmp_path / "train" / "cat" / "1.png").write_bytes(b"")
    (tmp_path / "test" / "dog" / "0.png").write_bytes(b"")
    images = load_folder(tmp_path, skip_bad=True)
    assert images.labels.tolist() == [0, 0, 1, 1, 1, 0, 0, 1]
    assert images.test.tolist() == [5, 6, 7]
    np.testing.assert_allclose(pixels_of(images)[7], picture(11), atol=1e-4)


def test_a_long_list_of_skipped_files_is_cut(tmp_path, caplog):
    class_folders(tmp_path, each=13)
    for i in range(12):
        (tmp_path / "cat" / f"{i}.png").write_bytes(b"")
    load_folder(tmp_path, skip_bad=True)
    assert "and 2 more" in caplog.text


def test_nothing_left_is_refused_even_if_bad_files_are_skipped(pets):
    for path in pets.glob("*/*.png"):
        path.write_bytes(b"")
    with refused("pets", "6 of 6", str(pets / "cat" / "0.png"), hint="none of them"):
        load_folder(pets, skip_bad=True)


def test_a_class_left_without_images_is_refused(pets):
    for path in pets.glob("dog/*.png"):
        path.write_bytes(b"")
    with refused("pets", "'dog'", "no image that can be read"):
        load_folder(pets, skip_bad=True)


def test_a_file_that_spoils_after_loading_is_named_when_it_is_read(pets):
    pixels = load_folder(pets, memory_limit_gb=ON_DISK).pixels
    (pets / "cat" / "2.png").unlink()
    assert pixels.read(np.array([0, 1])).shape == (2, 3, 6, 5)
    with refused(str(pets / "cat" / "2.png"), "No such file", hint="task.skip_bad"):
        pixels.read(np.array([1, 2]))


def test_no_file_stays_open(pets, recwarn):
    shutil.rmtree(load_folder(pets) and pets)
    assert not recwarn.list
