"""torchvision's sets under timm's names, read by torchvision from files of its own formats."""

from __future__ import annotations

import hashlib
import pickle
import struct
from types import SimpleNamespace

import numpy as np
import scipy.io
from PIL import Image
from torchvision.datasets import CIFAR10, SVHN

from automix.core.errors import ConfigError, ResourceError
from automix.data import DataSource, load, timm_torch
from automix.data.image_set import InMemory, OnDisk
from tests.automix.data.checks import picture, pixels_of, refused, save_picture
from tests.cases import each

TRAIN_LABELS, TEST_LABELS = [9, 0, 3, 0], [3, 9]


def noise(shape):
    """Return four training and two test images."""
    return [np.stack([picture(s, shape) for s in seeds]) for seeds in (range(4), (10, 11))]


def read(name, root, **settings):
    return load(DataSource(dataset=f"torch/{name}", root=str(root), **settings))


def check(images, name, expected):
    """The training file is the pool, the test file the test part, and no value is changed."""
    assert images.name == f"torch/{name}"
    assert images.shape == (expected.shape[3], *expected.shape[1:3])
    assert images.labels.tolist() == TRAIN_LABELS + TEST_LABELS
    assert images.test.tolist() == [4, 5]
    np.testing.assert_allclose(pixels_of(images), expected, atol=1e-4)


def write_idx(path, array):
    """Write the format of MNIST and its kin."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(head + array.astype(np.uint8).tobytes())


def write_mnist(root, name):
    raw = root / name / "raw"
    train, test = noise((28, 28))
    write_idx(raw / "train-images-idx3-ubyte", train)
    write_idx(raw / "train-labels-idx1-ubyte", np.array(TRAIN_LABELS))
    write_idx(raw / "t10k-images-idx3-ubyte", test)
    write_idx(raw / "t10k-labels-idx1-ubyte", np.array(TEST_LABELS))
    return np.concatenate([train, test])[..., None]


@each("memory_limit_gb", [1.0, 1e-9])
@each(
    "name, folder, last",
    [
        ("mnist", "MNIST", "9 - nine"),
        ("fashion_mnist", "FashionMNIST", "Ankle boot"),
        ("kmnist", "KMNIST", "wo"),
    ],
)
def test_grey_sets_keep_one_channel(tmp_path, name, folder, last, memory_limit_gb):
    expected = write_mnist(tmp_path, folder)
    images = read(name, tmp_path, memory_limit_gb=memory_limit_gb)
    assert isinstance(images.pixels, InMemory if memory_limit_gb == 1 else OnDisk)
    assert images.class_names[9] == last
    check(images, name, expected)


def test_resizing_applies_to_public_sets(tmp_path):
    write_mnist(tmp_path, "MNIST")
    assert read("mnist", tmp_path, image_size=14).shape == (1, 14, 14)


def test_cifar_is_read_by_torchvision_after_its_checksum_test(tmp_path, monkeypatch):
    def entry(name, content):
        path = tmp_path / CIFAR10.base_folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(pickle.dumps(content))
        return name, hashlib.md5(path.read_bytes()).hexdigest()

    def batch(name, images, labels):
        return entry(
            name, {"data": images.transpose(0, 3, 1, 2).reshape(-1, 3072), "labels": labels}
        )

    train, test = noise((32, 32, 3))
    names = list("abcdefghij")
    meta, checksum = entry("batches.meta", {"label_names": names})
    batches = [
        batch("data_batch_1", train[:2], TRAIN_LABELS[:2]),
        batch("data_batch_2", train[2:], TRAIN_LABELS[2:]),
    ]
    monkeypatch.setattr(CIFAR10, "train_list", batches)
    monkeypatch.setattr(CIFAR10, "test_list", [batch("test_batch", test, TEST_LABELS)])
    monkeypatch.setattr(CIFAR10, "meta", {"filename": meta, "key": "label_names", "md5": checksum})
    images = read("cifar10", tmp_path)
    assert images.class_names == tuple(names)
    check(images, "cifar10", np.concatenate([train, test]))
    (tmp_path / CIFAR10.base_folder / "test_batch").write_bytes(b"other")
    with refused("torch/cifar10", str(tmp_path), "damaged", hint="task.download=true"):
        read("cifar10", tmp_path)


def test_svhn_is_read(tmp_path, monkeypatch):
    files = {}
    for part, images, labels in zip(
        ("train", "test"), noise((32, 32, 3)), (TRAIN_LABELS, TEST_LABELS), strict=True
    ):
        path = tmp_path / f"{part}_32x32.mat"
        # Its own files call the digit 0 class 10.
        y = np.array([[label or 10] for label in labels], np.uint8)
        scipy.io.savemat(path, {"X": images.transpose(1, 2, 3, 0), "y": y})
        files[part] = ["", path.name, hashlib.md5(path.read_bytes()).hexdigest()]
    monkeypatch.setattr(SVHN, "split_list", files)
    images = read("svhn", tmp_path)
    assert images.class_names == tuple("0123456789")
    check(images, "svhn", np.concatenate(noise((32, 32, 3))))


def test_sets_of_files_are_read_from_their_files(tmp_path, monkeypatch):
    """ImageNet's form: ``samples`` hold paths, and a class has several names."""

    def fake(name, *, root, split, download):
        assert (name, root, download) == ("torch/imagenet", str(tmp_path), False)
        seeds = range(2) if split == "train" else range(2, 4)
        paths = [save_picture(tmp_path / f"{seed}.png", picture(seed)) for seed in seeds]
        samples = [(str(path), label) for path, label in zip(paths, [1, 0], strict=True)]
        return SimpleNamespace(
            samples=samples, targets=[1, 0], classes=[("tench", "Tinca tinca"), ("goldfish",)]
        )

    monkeypatch.setattr(timm_torch, "create_dataset", fake)
    images = read("imagenet", tmp_path)
    assert images.class_names == ("tench, Tinca tinca", "goldfish")
    assert images.labels.tolist() == [1, 0, 1, 0]
    np.testing.assert_allclose(pixels_of(images)[2], picture(2), atol=1e-4)
    (tmp_path / "3.png").write_bytes(b"")
    monkeypatch.setattr(
        timm_torch,
        "create_dataset",
        lambda *_, split, **__: SimpleNamespace(
            samples=[(str(tmp_path / f"{i}.png"), i % 2) for i in range(4)],
            targets=[0, 1, 0, 1],
            classes=[("a",), ("b",)],
        ),
    )
    with refused("torch/imagenet", str(tmp_path / "3.png"), "2 of 8", hint="task.skip_bad"):
        read("imagenet", tmp_path)


@each("name", sorted(set(timm_torch.NAMES) - {"imagenet"}))
def test_a_set_that_is_not_there_says_how_to_fetch_it_and_where_it_goes(tmp_path, name):
    with refused(
        f"torch/{name}",
        "not found",
        hint=f"task.download=true fetches it and writes it to {tmp_path}",
    ):
        read(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_damaged_files_are_refused(tmp_path):
    write_mnist(tmp_path, "MNIST")
    path = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-5])
    with refused("torch/mnist", str(tmp_path), "damaged"):
        read("mnist", tmp_path)


@each("error", [OSError("no route to host"), RuntimeError("File corrupted")])
def test_a_download_that_fails_is_a_matter_of_the_machine(tmp_path, monkeypatch, error):
    def fail(*_, download, **__):
        assert download
        raise error

    monkeypatch.setattr(timm_torch, "create_dataset", fail)
    with refused(
        "torch/cifar10",
        "could not be fetched",
        str(tmp_path),
        str(error),
        kind=ResourceError,
        hint="network",
    ):
        read("cifar10", tmp_path, download=True)


def test_images_that_differ_in_size_are_named_by_number(tmp_path, monkeypatch):
    class Fake(SimpleNamespace):
        def __getitem__(self, number):
            return Image.fromarray(picture(number, (6 + number, 5))), number

    monkeypatch.setattr(
        timm_torch, "create_dataset", lambda *_, **__: Fake(targets=[0, 1], classes=["a", "b"])
    )
    with refused("torch/mnist, image 1 has 5x7", hint="task.image_size"):
        read("mnist", tmp_path)


@each("name, meant", [("cifar1O", "cifar10"), ("fashion-mnist", "fashion_mnist")])
def test_the_closest_set_is_offered(tmp_path, name, meant):
    with refused(f"torch/{name}", f"Did you mean '{meant}'?", kind=ConfigError, hint="torch/svhn"):
        read(name, tmp_path)
