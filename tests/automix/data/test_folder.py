"""Class folders: what is read exactly, and what is refused and how."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from automix.core.errors import ResourceError
from automix.data.image_set import InMemory, OnDisk, Origin, doubts
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
    [
        *[("train", "test"), ("train", "val"), ("train", "validation"), ("training", "valid")],
        *[("Training", "Testing"), ("TRAIN", "Test"), ("training_set", "test_set")],
        *[("seg_train/seg_train", "seg_test/seg_test"), ("train2017", "val2017"), ("train", "dev")],
        *[("pets/Train", "pets/Eval"), ("pets/pets/train_images", "pets/pets/valid images")],
    ],
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
    images = load_folder(tmp_path)
    assert images.test.tolist() == [2, 3, 4, 5]
    assert images.origin.test == "the folder test"
    assert images.origin.left_out == ["1 folders beside train (val)"]


def test_a_train_folder_alone_is_one_pool(tmp_path):
    class_folders(tmp_path / "train")
    images = load_folder(tmp_path)
    assert images.class_names == ("cat", "dog")
    assert images.test is None


def test_the_innermost_folder_names_the_class(tmp_path):
    class_folders(tmp_path / "site1")
    class_folders(tmp_path / "site2" / "ward3", each=1)
    images = load_folder(tmp_path, class_folder="inner")
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
    assert images.origin.left_out == ["2 files of other types (.txt 1, .csv 1)"]
    assert images.origin.warnings == [f"{pets}: no images in empty: not a class"]


def photograph(pixels, path, orientation):
    """Write an image as a camera does that was held otherwise."""
    exif = Image.Exif()
    exif[0x112] = orientation
    turned = {1: pixels, 3: pixels[::-1, ::-1], 6: np.rot90(pixels), 8: np.rot90(pixels, -1)}
    save_picture(path, np.ascontiguousarray(turned[orientation]), exif=exif)


@each("suffix", ["png", "tif", "webp", "jpg"])
@each("image_size", [0, 6])
def test_photographs_stand_upright(tmp_path, suffix, image_size):
    sky = np.zeros((8, 6, 3), np.uint8)
    sky[:4] = 255
    for number, orientation in enumerate((1, 3, 6, 8)):
        photograph(sky, tmp_path / "ab"[number % 2] / f"{number}.{suffix}", orientation)
    images = load_folder(tmp_path, image_size=image_size)
    assert images.shape == ((3, 6, 6) if image_size else (3, 8, 6))
    for pixels in pixels_of(images):
        assert pixels[:3].mean() > 240
        assert pixels[-3:].mean() < 15


LEFT_BEHIND = [
    *(".ipynb_checkpoints/0-checkpoint.png", "cat/.ipynb_checkpoints/0.png", ".git/logo.png"),
    *("__MACOSX/cat/._0.png", "cat/._0.png", "@eaDir/x.jpg", "cat/@eaDir/0.png/THUMB.jpg"),
    *(".thumbnails/x.png", "cat/.DS_Store", "Thumbs.db", "cat/desktop.ini", "$RECYCLE.BIN/a/1.png"),
]


@each("path", LEFT_BEHIND)
@each("train", [False, True])
def test_what_systems_leave_behind_is_no_class_and_no_image(tmp_path, path, train):
    part = class_folders(tmp_path / "train") if train else class_folders(tmp_path)
    if train:
        class_folders(tmp_path / "test")
    (part / path).parent.mkdir(parents=True, exist_ok=True)
    (part / path).write_bytes(b"not an image")
    images = load_folder(tmp_path)
    assert images.class_names == ("cat", "dog")
    assert len(images.labels) == 6 + 6 * train
    assert images.origin.left_out == ["1 hidden or system files and folders"]


SUFFIXES = ["png", "jpg", "jpeg", "jfif", "jpe", "webp", "bmp", "tif", "tiff", "gif", "jp2"]
SUFFIXES += ["pbm", "ppm", "tga", "PNG", "JPG", "Webp", "TIFF"]


def test_every_type_that_people_keep_pictures_in_is_read(tmp_path):
    for suffix in SUFFIXES:
        value = 255 * (suffix != "gif")
        save_picture(tmp_path / suffix.lower() / f"0.{suffix}", np.full((6, 5, 3), value, np.uint8))
    animated = [Image.fromarray(np.full((6, 5, 3), value, np.uint8)) for value in (255, 0)]
    animated[0].save(tmp_path / "gif" / "0.gif", save_all=True, append_images=animated[1:])
    for name in ("1.heic", "2.HEIC", "3.svg", "none"):
        (tmp_path / "png" / name).write_bytes(b"")
    images = load_folder(tmp_path)
    assert len(images.labels) == len(SUFFIXES)
    assert pixels_of(images).min() > 250  # of the animated one, the first frame
    assert images.origin.left_out == ["4 files of other types (.heic 2, .svg 1, no suffix 1)"]


def test_a_class_of_nothing_that_is_read_is_named(pets):
    (pets / "horse").mkdir()
    (pets / "horse" / "1.heic").write_bytes(b"")
    (pets / "cow" / "brown").mkdir(parents=True)
    images = load_folder(pets)
    assert images.class_names == ("cat", "dog")
    assert images.origin.warnings == [f"{pets}: no images in cow, horse: not a class"]


@each("name", ["pred", "unlabeled", "Unlabelled", "seg_pred", "predictions"])
def test_images_to_be_classified_are_no_class(tmp_path, name):
    class_folders(tmp_path, names=("cat", "dog", name))
    images = load_folder(tmp_path)
    assert images.class_names == ("cat", "dog")
    (warning,) = images.origin.warnings
    assert f"{name} taken as unlabelled" in warning
    class_folders(tmp_path / "x" / "train")
    class_folders(tmp_path / "x" / "test")
    class_folders(tmp_path / "x" / name, names=(name,))
    images = load_folder(tmp_path / "x")
    assert images.class_names == ("cat", "dog")
    assert images.origin.left_out == [f"1 folders beside train ({name})"]


@each("path", ["test/0.png", "test/test1/0.png", "Testing/unknown/0.png"])
def test_an_evaluation_folder_without_labels_is_passed_over(tmp_path, path):
    class_folders(tmp_path / "train")
    save_picture(tmp_path / path, picture(0))
    for test in (None, [6, 7, 8, 9]):
        images = load_folder(tmp_path)
        assert (None if images.test is None else images.test.tolist()) == test
        (warning,) = images.origin.warnings
        assert str(tmp_path / Path(path).parts[0]) in warning
        class_folders(tmp_path / "val", each=2)


def test_equal_files_in_two_parts_or_classes_are_named(tmp_path):
    class_folders(tmp_path / "train")
    class_folders(tmp_path / "test", each=1)
    (tmp_path / "train" / "cat" / "0.png").write_bytes(b"")
    shutil.copy(tmp_path / "test" / "cat" / "0.png", tmp_path / "train" / "dog" / "7.png")
    images = load_folder(tmp_path, skip_bad=True)
    (*_, leak, clash) = doubts(images, np.arange(6), images.test)
    for warning in (leak, clash):
        assert str(tmp_path / "test" / "cat" / "0.png") in warning
        assert str(tmp_path / "train" / "dog" / "7.png") in warning


def test_the_root_may_be_written_in_any_way(pets, monkeypatch):
    monkeypatch.chdir(pets)
    for root in (".", "../pets", f"{pets}/", "./../pets/."):
        images = load_folder(root)
        assert (images.name, images.class_names) == ("pets", ("cat", "dog"))
        assert images.origin == Origin()
        (pets / "x.png").write_bytes(b"")
        with refused("x.png", "no class folder"):
            load_folder(root)
        (pets / "x.png").unlink()


def test_parts_beside_other_folders_are_not_joined(tmp_path):
    for part in ("train", "test"):
        class_folders(tmp_path / "pets" / part)
    (tmp_path / "README.txt").write_text("")
    assert load_folder(tmp_path).test.tolist() == [6, 7, 8, 9, 10, 11]
    class_folders(tmp_path / "more")
    with refused(str(tmp_path), "training and evaluation folders", hint="task.root="):
        load_folder(tmp_path)


def test_tiny_imagenet_is_read_as_it_is_distributed(tmp_path):
    for name in ("train/n01/images", "train/n02/images", "val/images", "test/images"):
        save_picture(tmp_path / name / "0.JPEG", picture(0))
        (tmp_path / name / "boxes.txt").write_text("")
    images = load_folder(tmp_path, class_folder="outer")
    assert images.class_names == ("n01", "n02")
    assert images.test is None
    assert len(images.origin.warnings) == 2


def test_several_training_folders_are_refused(tmp_path):
    for name in ("train_1", "train_2", "test"):
        class_folders(tmp_path / name)
    with refused(str(tmp_path), "train_1, train_2", hint="join"):
        load_folder(tmp_path)


BOTH_WAYS = [
    (["cat/s1", "cat/s2", "dog/s1", "dog/s2"], "cat, dog", "s1, s2"),
    (["benign/40X", "benign/100X", "malignant/40X"], "benign, malignant", "40X, 100X"),
    (["cat", "cat/black", "dog"], "cat, dog", "black, cat, dog"),
    (["all/a/x", "all/b/x", "all/b/y"], "a, b", "x, y"),
    (["site1/cat", "site1/dog", "site2/cat", "site2/dog"], "site1, site2", "cat, dog"),
]


@each("folders, outer, inner", BOTH_WAYS)
@each("split", [False, True])
def test_classes_that_read_both_ways_are_the_users_choice(tmp_path, folders, outer, inner, split):
    for part in ("train", "test") if split else (".",):
        for number, name in enumerate(folders):
            save_picture(tmp_path / part / name / "0.png", picture(number))
    choice = "task.class_folder=outer or task.class_folder=inner"
    with refused(str(tmp_path), f"either {outer} (", f"or {inner} (", hint=choice):
        load_folder(tmp_path)
    for chosen, names in (("outer", outer), ("inner", inner)):
        assert load_folder(tmp_path, class_folder=chosen).class_names == tuple(names.split(", "))


@each(
    "folders, names", [(["animals/cat", "vehicles/car"], "car, cat"), (["a/b/1", "a/b/2"], "1, 2")]
)
def test_folders_above_that_repeat_no_name_need_no_choice(tmp_path, folders, names):
    class_folders(tmp_path, names=tuple(folders))
    assert load_folder(tmp_path).class_names == tuple(names.split(", "))


# Links -------------------------------------------------------------------------------------------


@each("link, target", [("cat/up", ".."), ("loop", "."), ("cat/self", "."), ("cat/a/b", "../..")])
@each("absolute", [False, True])
def test_a_link_to_a_folder_above_is_refused(tmp_path, link, target, absolute):
    class_folders(tmp_path)
    link = tmp_path / link
    link.parent.mkdir(exist_ok=True)
    link.symlink_to((link.parent / target).resolve() if absolute else target)
    with refused(str(link), "folder above it", hint="remove the link"):
        load_folder(tmp_path)


@each(
    "link, target",
    [
        *[("train/cat2", "train/cat"), ("train/dog/more", "train/cat"), ("test/dog", "train/dog")],
        *[("train/cat/x.png", "train/dog/0.png"), ("test/cat/x.png", "train/cat/0.png")],
    ],
)
def test_a_link_that_shows_an_image_in_another_class_or_part_is_refused(tmp_path, link, target):
    class_folders(tmp_path / "train")
    class_folders(tmp_path / "test", names=("cat",) if link == "test/dog" else ("cat", "dog"))
    (tmp_path / link).symlink_to(tmp_path / target)
    with refused(str(tmp_path / link), str(tmp_path / target), "again", hint="remove the link"):
        load_folder(tmp_path)


def test_each_file_counts_once_however_it_is_linked(tmp_path):
    store = class_folders(tmp_path / "store")
    root = tmp_path / "pets"
    (root / "dog").mkdir(parents=True)
    (root / "cat").symlink_to(store / "cat")
    for number, name in enumerate(("0.png", "1.png", "1.png")):
        (root / "dog" / f"{number}.png").symlink_to(store / "dog" / name)
    (root / "dog" / "cat").mkdir()
    (root / "dog" / "cat" / "own.png").symlink_to(store / "cat" / "2.png")
    images = load_folder(root, class_folder="inner")
    assert images.labels.tolist() == [0, 0, 0, 1, 1]
    assert images.origin.left_out == ["2 links to what is read already"]


def test_links_that_multiply_end(tmp_path):
    """Each of thirty folders links to the next twice: a billion paths."""
    for number in range(30):
        class_folders(tmp_path / str(number), each=1)
    for number in range(29):
        for name in ("x", "y"):
            (tmp_path / str(number) / "cat" / name).symlink_to(tmp_path / str(number + 1) / "cat")
    with refused("again"):
        load_folder(tmp_path / "0", class_folder="inner")


@each("kind", ["fifo", "device", "broken", "circle"])
def test_what_is_no_plain_file_is_refused(tmp_path, kind):
    path = class_folders(tmp_path) / "cat" / f"{kind}.png"
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to({"device": "/dev/zero", "broken": "nowhere"}.get(kind, path.name))
    with refused("1 of 7", str(path), hint="task.skip_bad=true"):
        load_folder(tmp_path)
    images = load_folder(tmp_path, skip_bad=True)
    assert len(images.labels) == 6
    assert images.origin.left_out == ["1 files that cannot be read"]


def test_a_folder_that_may_not_be_read_is_refused(pets, monkeypatch):
    def scandir(path):
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    real = os.scandir
    monkeypatch.setattr(os, "scandir", scandir)
    with refused(str(pets / "dog"), "Permission denied", kind=ResourceError):
        load_folder(pets)


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
    for name in ("pats", "p" * 5000, "pat\0s"):
        with refused(str(tmp_path / name)[:100], "does not exist", hint="task.root"):
            load_folder(tmp_path / name)


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
