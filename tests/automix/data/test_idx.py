"""MNIST's four files: where they may lie, what is read, and what is refused."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest

from automix.core.errors import ResourceError
from automix.data import DataSource, idx, load
from tests.automix.data.checks import picture, pixels_of, refused
from tests.cases import each, named

LABELS = {"train": [7, 3, 7, 3], "t10k": [3, 7]}
TRAIN, LABELS_FILE = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def content(array):
    array = np.asarray(array, np.uint8)
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_set(folder, dot="-", end=""):
    """Write four training and two test images of 4 x 5 pixels; return all images."""
    folder.mkdir(parents=True)
    images = {"train": [picture(s, (4, 5)) for s in range(4)]}
    images["t10k"] = [picture(s, (4, 5)) for s in (10, 11)]
    pack = gzip.compress if end else bytes
    for part in ("train", "t10k"):
        for kind, values, rank in (("images", images[part], 3), ("labels", LABELS[part], 1)):
            (folder / f"{part}-{kind}{dot}idx{rank}-ubyte{end}").write_bytes(pack(content(values)))
    return np.concatenate(list(images.values()))[..., None]


def read(root):
    return load(DataSource(dataset="idx", root=str(root) if root else ""))


@each("dot", "-.")
@each("end", ["", ".gz"])
@each("below, name", [("", "clothes"), ("raw", "clothes"), ("FashionMNIST/raw", "FashionMNIST")])
def test_files_are_found_under_every_name_and_in_every_layout(tmp_path, dot, end, below, name):
    root = tmp_path / "clothes"
    expected = write_set(root / below, dot, end)
    images = read(root)
    assert (images.name, images.shape, images.class_names) == (name, (1, 4, 5), ("3", "7"))
    assert images.labels.tolist() == [1, 0, 1, 0, 0, 1]
    assert images.test.tolist() == [4, 5]
    np.testing.assert_allclose(pixels_of(images), expected, atol=1e-4)


def test_without_a_root_debians_package_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(idx, "DEBIAN", tmp_path / "fashion-mnist")
    with refused("fashion-mnist", "not exist", hint="dataset-fashion-mnist") as _:
        read("")
    with refused("fashion-mnist", hint="task.dataset=torch/fashion_mnist task.root=data"):
        read("")
    write_set(tmp_path / "fashion-mnist", end=".gz")
    assert read("").name == "fashion-mnist"


def test_a_root_without_the_files_is_refused_with_the_ways_to_get_them(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    ways = "apt-get install dataset-fashion-mnist"
    for name, said in (("file", "is a file"), ("none", "not exist"), ("empty", "holds no file")):
        with named(name), refused(name, said, hint=ways):
            read(tmp_path / name)
    for name in ("MNIST", "KMNIST"):
        write_set(tmp_path / "two" / name / "raw")
    with refused("holds 2 sets", "KMNIST/raw", hint="task.root="):
        read(tmp_path / "two")


@each(
    "name, said",
    [
        ("train-labels-idx1-ubyte", "train-labels"),
        ("t10k-images-idx3-ubyte", "t10k-images"),
        ("t10k-labels-idx1-ubyte", "t10k-labels"),
    ],
)
def test_a_file_of_the_four_that_is_missing_is_named(tmp_path, name, said):
    write_set(tmp_path / "set")
    (tmp_path / "set" / name).unlink()
    with refused("holds no file", said, hint="four files"):
        read(tmp_path / "set")


WHOLE = content(np.zeros((4, 4, 5)))
BROKEN = {
    "nothing": (b"", "begins with the bytes of nothing"),
    "text": (b"<!DOCTYPE html>", "begins with the bytes 3c 21 44 4f"),
    "labels": (content([1, 2, 3, 4]), "begins with the bytes 00 00 08 01"),
    "floats": (b"\0\0\x0d\3" + WHOLE[4:], "begins with the bytes 00 00 0d 03"),
    "gzip without .gz": (gzip.compress(WHOLE), "begins with the bytes 1f 8b"),
    "half a magic number": (WHOLE[:2], "begins with the bytes 00 00,"),
    "half a head": (WHOLE[:10], "is cut off within its head"),
    "a head alone": (WHOLE[:16], "is cut off: its head says 4 x 4 x 5 values"),
    "a byte too few": (WHOLE[:-1], "is cut off"),
    "a byte too many": (WHOLE + b"\0", "goes on behind its end"),
    "one image too few": (content(np.zeros((3, 4, 5))), "3 train images and 4 train labels"),
    "no image": (content(np.zeros((0, 4, 5))), "holds nothing: its head says 0 x 4 x 5"),
    "no pixel": (content(np.zeros((4, 0, 5))), "holds nothing: its head says 4 x 0 x 5"),
    "other sizes": (
        content(np.zeros((4, 5, 4))),
        "images of (5, 4) pixels for training and (4, 5) for testing",
    ),
}


@each("case", list(BROKEN))
def test_a_broken_file_is_refused_in_one_line(tmp_path, case):
    """Plain as well as gzipped."""
    for end in ("", ".gz"):
        root = tmp_path / f"set{end}"
        write_set(root, end=end)
        (bytes_, said), pack = BROKEN[case], gzip.compress if end else bytes
        (root / f"{TRAIN}{end}").write_bytes(pack(bytes_))
        with named(end), refused(str(root), said):
            read(root)


@each(
    "case, damage, said",
    [
        ("plain", lambda packed: WHOLE, "cannot be read: Not a gzipped file"),
        ("cut off", lambda packed: packed[: len(packed) // 2], "cannot be read"),
        ("a flipped byte", lambda packed: packed[:-6] + b"\xff" + packed[-5:], "CRC"),
        (
            "zeros inside",
            lambda packed: packed[:20] + bytes(len(packed) - 20),
            "cannot be read: CRC",
        ),
        ("empty", lambda packed: b"", "bytes of nothing"),
    ],
)
def test_a_broken_gzip_file_is_refused_in_one_line(tmp_path, case, damage, said):
    write_set(tmp_path / "set", end=".gz")
    path = tmp_path / "set" / f"{TRAIN}.gz"
    path.write_bytes(damage(path.read_bytes()))
    with refused(str(path), said):
        read(tmp_path / "set")


def test_a_size_beyond_the_memory_is_refused_before_it_is_read(tmp_path):
    write_set(tmp_path / "set")
    path = tmp_path / "set" / TRAIN
    path.write_bytes(struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 2**31, 2**31))
    with refused(str(path), "GB", kind=ResourceError):
        read(tmp_path / "set")


def test_labels_of_one_class_and_labels_that_only_the_test_part_has_are_refused(tmp_path):
    for case, labels, said in (("one", [3] * 4, "test part only"), ("new", [7] * 4, "'3'")):
        write_set(tmp_path / case)
        (tmp_path / case / LABELS_FILE).write_bytes(content(labels))
        with named(case), refused(said):
            read(tmp_path / case)


@pytest.mark.skipif(not idx.DEBIAN.is_dir(), reason="dataset-fashion-mnist is not installed")
def test_fashion_mnist_is_whole():
    images = read("")
    assert (images.shape, images.class_names[9]) == ((1, 28, 28), "Ankle boot")
    assert np.bincount(images.labels[:60_000]).tolist() == [6000] * 10
    assert np.bincount(images.labels[images.test]).tolist() == [1000] * 10
