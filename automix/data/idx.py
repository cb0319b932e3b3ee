"""MNIST-like sets in their own format: four idx files, plain or gzipped."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import torch

from automix.core.errors import DataError, ResourceError
from automix.data import DATASETS, DataSource
from automix.data.image_set import ImageSet, InMemory, Origin
from automix.data.memory import free_memory

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts its files."""

GET_FASHION = (
    "install Debian's package (apt-get install dataset-fashion-mnist), or fetch it with "
    "torchvision: task.dataset=torch/fashion_mnist task.root=data task.download=true"
)
FASHION = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
FASHION_LABELS = 0x242BC73F
"""The checksum of Fashion-MNIST's 10 000 test labels, by which the set is known."""

AGAIN = "fetch the file again"
UBYTE = 8
"""The idx type code of unsigned bytes, the only one that such sets use."""


@DATASETS.register("idx")
def idx(source: DataSource) -> ImageSet:
    """Sets in MNIST's four idx files, by default Fashion-MNIST of a Debian package.

    ``root`` is the folder with ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte`` and the
    two that begin with ``t10k``: plain or ``.gz``, ``.idx3`` for ``-idx3``, directly or in
    ``raw`` or ``<name>/raw`` below, where torchvision keeps them. Empty, it is where Debian's
    package ``dataset-fashion-mnist`` is installed. The ``t10k`` files are the test part, and
    classes are called by their numbers, but for those of Fashion-MNIST.
    """
    folder = _folder(source)
    parts = [_part(folder, name) for name in ("train", "t10k")]
    (images, labels), (test_images, test_labels) = parts
    if images.shape[1:] != test_images.shape[1:]:
        raise DataError(
            f"{folder}: images of {images.shape[1:]} pixels for training and "
            f"{test_images.shape[1:]} for testing, wanted one size",
            "the four files must be of one set",
        )
    values, classes = np.unique(np.concatenate([labels, test_labels]), return_inverse=True)
    fashion = zlib.crc32(test_labels.tobytes()) == FASHION_LABELS
    return ImageSet(
        name=folder.resolve().parent.name if folder.name == "raw" else folder.resolve().name,
        pixels=InMemory(torch.from_numpy(np.concatenate([images, test_images])[:, None])),
        labels=classes.astype(np.int64),
        class_names=FASHION if fashion else tuple(str(value) for value in values),
        shape=(1, *images.shape[1:]),
        test=np.arange(len(labels), len(classes)),
        memory_limit_gb=source.memory_limit_gb,
        origin=Origin("the t10k files"),
    )


def _folder(source: DataSource) -> Path:
    """Return the folder that holds the files."""
    root = Path(source.root) if source.root else DEBIAN
    if not root.is_dir():
        what = "is a file, wanted a folder" if root.exists() else "does not exist"
        hint = "" if source.root else f"Fashion-MNIST is not installed there: {GET_FASHION}"
        raise DataError(
            f"{root}: {what}", hint or f"task.root names the folder of the idx files; {GET_FASHION}"
        )
    places = [root, root / "raw", *sorted(root.glob("*/raw"))]
    found = [place for place in places if _candidates(place, "train", "images")]
    if len(found) > 1:
        raise DataError(
            f"{root}: holds {len(found)} sets: {', '.join(str(place) for place in found)}",
            f"name one of them: task.root={found[0]}",
        )
    if not found:
        raise DataError(
            f"{root}: holds no file train-images-idx3-ubyte or train-images-idx3-ubyte.gz",
            GET_FASHION,
        )
    return found[0]


def _candidates(folder: Path, part: str, kind: str) -> list[Path]:
    """Return the files that may hold one of the four arrays, plain ones first."""
    rank = 3 if kind == "images" else 1
    names = [f"{part}-{kind}{dot}idx{rank}-ubyte{end}" for end in ("", ".gz") for dot in "-."]
    return [folder / name for name in names if (folder / name).is_file()]


def _part(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images (n, h, w) and labels (n,) of one part, uint8."""
    images, labels = (_array(folder, part, kind) for kind in ("images", "labels"))
    if len(images) != len(labels):
        raise DataError(
            f"{folder}: {len(images)} {part} images and {len(labels)} {part} labels, "
            "wanted one label for each image",
            "the four files must be of one set",
        )
    return images, labels


def _array(folder: Path, part: str, kind: str) -> np.ndarray:
    rank = 3 if kind == "images" else 1
    found = _candidates(folder, part, kind)
    if not found:
        raise DataError(
            f"{folder}: holds no file {part}-{kind}-idx{rank}-ubyte, plain or .gz",
            "four files make a set: train and t10k, images and labels of each",
        )
    path = found[0]
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return _read(path, cast(BinaryIO, file), rank)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}", AGAIN) from error


def _read(path: Path, file: BinaryIO, rank: int) -> np.ndarray:
    """Read one array: two zero bytes, type, number of axes, big-endian lengths, values."""
    wanted = bytes([0, 0, UBYTE, rank])
    magic = file.read(4)
    if magic != wanted:
        raise DataError(
            f"{path}: begins with the bytes {magic.hex(' ') or 'of nothing'}, wanted "
            f"{wanted.hex(' ')}: idx, unsigned bytes, axes: {rank}",
            "images have three axes and labels one; check that the file is what its name says",
        )
    head = file.read(4 * rank)
    if len(head) < 4 * rank:
        raise DataError(f"{path}: is cut off within its head", AGAIN)
    shape = tuple(np.frombuffer(head, ">u4").tolist())
    size = math.prod(shape)
    if size > free_memory():
        raise ResourceError(
            f"{path}: announces {size / 1e9:.1f} GB, and {free_memory() / 1e9:.1f} GB are free",
            AGAIN,
        )
    values = file.read(size + 1)
    if len(values) != size or not size:
        got = "goes on behind its end" if len(values) > size else "is cut off"
        raise DataError(
            f"{path}: {got if size else 'holds nothing'}: its head says "
            f"{' x '.join(map(str, shape))} values",
            AGAIN,
        )
    return np.frombuffer(values, np.uint8).reshape(shape)
