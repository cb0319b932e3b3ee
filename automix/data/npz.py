"""Images and labels as NumPy arrays in one ``.npz`` file."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.lib.npyio import NpzFile
from torch import Tensor

from automix.core.errors import ConfigError, DataError, ResourceError
from automix.data import DATASETS, DataSource
from automix.data.image_set import ImageSet, InMemory, Origin
from automix.data.memory import free_memory

SAVED = "np.savez_compressed('new.npz', images=images, labels=labels)"
LAYOUT = f"d = np.load('old.npz'); images, labels = d['...'], d['...']; {SAVED}"

KEYS = (
    *(("images", "labels"), ("image", "label"), ("x", "y"), ("data", "labels")),
    *(("data", "target"), ("data", "targets"), ("arr_0", "arr_1")),
    *(("x_train", "y_train"), ("train_images", "train_labels")),
)
"""Names of images and labels, in any case."""
TEST_KEYS = {"x_train": ("x_test", "y_test"), "train_images": ("test_images", "test_labels")}
"""By the first: those of the test part."""


@DATASETS.register("npz")
def npz(source: DataSource) -> ImageSet:
    """Arrays of one npz file: images, labels and, if wanted, class_names and test.

    =============  ========================================================================
    images         (n, h, w), (n, h, w, c) or (n, c, h, w): uint8, or floats in [0, 1]. The
                   channel axis is the shorter of the two that it can be.
    labels         (n,) or (n, 1) ints, or (n, k) of one 1 each; any values but -1, the
                   different ones become the classes in order
    class_names    optional, (k,) strings, in the order of the sorted labels
    test           optional, (n,) bool or (m,) int positions: the part for evaluation alone
    =============  ========================================================================

    The names of well-known files do as well: ``x_train``, ``y_train``, ``x_test`` ...;
    ``train_images`` ...; ``x`` and ``y``. No pickle is ever loaded, so arrays of Python objects are
    refused. The images are always held in memory; use ``folder`` for sets that do not fit.
    """
    if not source.root:
        raise ConfigError(
            "task.root is empty, wanted an npz file with the arrays images and labels",
            "set task.root=path/to/file.npz",
        )
    path, origin = Path(source.root), Origin()
    with _opened(path) as arrays:
        pool, evaluation = _keys(path, arrays)
        used = {*pool, *evaluation, "class_names", "test"}
        images, labels = _pair(path, arrays, pool)
        test = None
        if evaluation:
            more, their = _pair(path, arrays, evaluation)
            images, labels, test = _joined(path, images, labels, more, their)
            origin.test = f"the array {evaluation[0]}"
        elif "test" in arrays:
            test = _test(path, _array(path, arrays, "test"), len(images))
            origin.test = "the array test"
        labels, values = np.unique(labels, return_inverse=True)[::-1]
        class_names = tuple(str(value) for value in values)
        if "class_names" in arrays:
            class_names = _class_names(path, _array(path, arrays, "class_names"), len(values))
        others = [key for key in arrays.files if key not in used]
    if others:
        origin.leave_out(len(others), f"other arrays ({', '.join(others[:5])})")
    if images.dtype == torch.uint8 and len(images) and images.max() <= 1:
        origin.warnings.append(f"{path.name}: pixels are 0 and 1 of 255, all but black")
    channels, height, width = images.shape[1:]
    return ImageSet(
        name=path.name,
        pixels=InMemory(images),
        labels=labels.astype(np.int64),
        class_names=class_names,
        shape=(channels, height, width),
        test=test,
        memory_limit_gb=source.memory_limit_gb,
        origin=origin,
    )


# The file ----------------------------------------------------------------------------------------


def _opened(path: Path) -> NpzFile:
    if not os.path.isfile(path):  # unlike Path.is_file, it takes a path of any length
        if os.path.isdir(path):
            raise DataError(
                f"{path}: is a folder, wanted an npz file",
                "task.dataset=folder reads class folders",
            )
        what = "is no plain file" if os.path.exists(path) else "does not exist"
        raise DataError(f"{path}: {what}", "task.root names an npz file; check the path")
    try:
        with path.open("rb") as file:
            pointer = file.read(8) == b"version "
    except OSError as error:
        raise ResourceError(
            f"{path}: cannot be read: {error.strerror or error}", "check its permissions"
        ) from error
    # Asked first, because np.load takes whatever is no zip file for a pickle.
    if not zipfile.is_zipfile(path):
        hint = "fetch the file that Git LFS points to: git lfs pull" if pointer else LAYOUT
        raise DataError(f"{path}: is not an npz file, or is cut off", hint)
    try:
        opened = np.load(path, allow_pickle=False)
    except Exception as error:  # whatever damaged directories provoke
        raise DataError(f"{path}: cannot be opened as an npz file: {error}", LAYOUT) from error
    if not isinstance(opened, NpzFile):
        raise DataError(f"{path}: holds one array, wanted several", LAYOUT)
    return opened


def _keys(path: Path, arrays: NpzFile) -> tuple[tuple[str, str], tuple[str, ...]]:
    """Return the names of images and labels, and those of the test part, if it has its own."""
    names = {key.lower(): key for key in reversed(arrays.files)}
    names |= {key: key for key in arrays.files}
    found = [pair for pair in KEYS if all(key in names for key in pair)]
    if len(arrays.files) > 2:  # which of several would be anybody's guess
        found = [pair for pair in found if pair != ("arr_0", "arr_1")]
    if not found or (len(found) > 1 and found[0] != KEYS[0]):
        missing = next(key for key in KEYS[0] if key not in arrays.files)
        held = ", ".join(arrays.files) or "nothing"
        raise DataError(f"{path}: holds no array {missing!r}, only {held}", LAYOUT)
    images, labels = found[0]
    test = [names[key] for key in TEST_KEYS.get(images, ()) if key in names]
    return (names[images], names[labels]), tuple(test) if len(test) == 2 else ()


def _array(
    path: Path,
    arrays: NpzFile,
    key: str,
    copies: Callable[[tuple[int, ...], Any], int] | None = None,
) -> np.ndarray:
    """Read one array.

    Args:
        path: Of the file.
        arrays: The file.
        key: Of the array.
        copies: How many bytes are made of a shape and type, beside the array itself.
    """
    archive: Any = arrays.zip
    # Damaged files provoke nearly any exception: ValueError, BadZipFile, RuntimeError of one that
    # is encrypted, NotImplementedError of an odd compression, zlib.error, SyntaxError ...
    try:
        member = archive.getinfo(key if key in archive.namelist() else f"{key}.npy")
        with archive.open(member) as file:
            short = npy.read_magic(file)[0] == 1
            read = npy.read_array_header_1_0 if short else npy.read_array_header_2_0
            shape, _, kind = read(file)
            size, held = math.prod(shape) * kind.itemsize, member.file_size - file.tell()
    except Exception as error:
        raise _damaged(path, key, error) from error
    if kind.hasobject:
        raise DataError(
            f"{path}: array {key!r} holds Python objects, and no pickle is ever loaded",
            "save plain numbers, and names with .astype(str); lists of different lengths become "
            "objects, for example",
        )
    if size != held:
        raise _damaged(path, key, f"its header tells of {size} bytes, {held} follow")
    _check_memory(path, key, size + (copies(shape, kind) if copies else 0))
    try:
        return np.asarray(arrays[key])
    except Exception as error:
        raise _damaged(path, key, error) from error


def _check_memory(path: Path, key: str, size: int) -> None:
    free = free_memory()
    if size > free:
        raise ResourceError(
            f"{path}: reading array {key!r} takes {size / 1e9:.1f} GB, "
            f"and {free / 1e9:.1f} GB of memory are free",
            "save the images as uint8, or as files: task.dataset=folder can leave them on disk",
        )


def _damaged(path: Path, key: str, reason: object) -> DataError:
    first = (str(reason) or type(reason).__name__).splitlines()[0]
    return DataError(f"{path}: array {key!r} is damaged: {first}", "write the file again")


# Images and labels -------------------------------------------------------------------------------


def _pair(path: Path, arrays: NpzFile, keys: tuple[str, ...]) -> tuple[Tensor, np.ndarray]:
    """Read images and their labels, (n,)."""
    images = _images(path, keys[0], _array(path, arrays, keys[0], _copied))
    return images, _labels(path, keys[1], _array(path, arrays, keys[1]), len(images))


def _copied(shape: tuple[int, ...], kind: Any) -> int:
    """Return the bytes that ``_images`` needs beside what it is given."""
    return math.prod(shape) * (1 if kind == np.uint8 else 4) if kind.kind in "fu" else 0


def _joined(
    path: Path, images: Tensor, labels: np.ndarray, more: Tensor, their: np.ndarray
) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """Append the test part; return images, labels and its positions."""
    if images.shape[1:] != more.shape[1:] or images.dtype != more.dtype:
        raise DataError(
            f"{path}: training images are {tuple(images.shape[1:])} {images.dtype}, "
            f"test images {tuple(more.shape[1:])} {more.dtype}, wanted one shape and type",
            "bring them to one size, type and order of axes",
        )
    _check_memory(path, "images", images.nbytes + more.nbytes)
    everything = np.concatenate([labels, their])
    return torch.cat([images, more]), everything, np.arange(len(labels), len(everything))


def _images(path: Path, key: str, images: np.ndarray) -> Tensor:
    """Return (n, c, h, w), uint8 or float32."""
    if images.ndim not in (3, 4) or 0 in images.shape[1:]:
        raise DataError(
            f"{path}: array {key!r} has shape {images.shape}, "
            "wanted (n, h, w), (n, h, w, c) or (n, c, h, w)",
            "one image after the other along the first axis: images.reshape(-1, 28, 28) of rows "
            "of 784",
        )
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise DataError(
            f"{path}: array {key!r} has type {images.dtype}, wanted uint8 or floats in [0, 1]",
            f"images = {_in_range(images)}; {SAVED}",
        )
    if images.dtype.kind == "f":
        _check_range(path, key, images)
        images = images.astype(np.float32, copy=False)
    return torch.from_numpy(np.ascontiguousarray(_channels_first(path, key, images)))


def _in_range(images: np.ndarray) -> str:
    """Return the expression that brings other types into range, pixel values unchanged."""
    if images.dtype.kind == "b":
        return "images.astype(np.uint8) * 255"
    if images.dtype.kind not in "iu" or not images.size:
        return "images.astype(np.float32) / LARGEST"
    low, high = int(images.min()), int(images.max())
    if low < 0:
        return f"((images - {low}.0) / {high - low or 1}).astype(np.float32)"
    if high <= 255:
        return "images.astype(np.uint8)"
    return f"(images / {2 ** high.bit_length() - 1}).astype(np.float32)"


def _check_range(path: Path, key: str, images: np.ndarray) -> None:
    # An image's sum is NaN or infinite as soon as one of its pixels is; minimum and maximum
    # likewise carry a NaN. No array of the size of the images is made.
    low, high = images.min(tuple(range(1, images.ndim))), images.max(tuple(range(1, images.ndim)))
    bad = np.flatnonzero(~((low >= 0) & (high <= 1)))
    if not len(bad):
        return
    first = int(bad[0])
    if np.isnan(low[first]):
        what, hint = "NaN pixels", "np.nan_to_num would hide them; find out where they come from"
    else:
        what = f"pixels from {low[first]:g} to {high[first]:g}"
        hint = "divide by the largest possible value, or store uint8 from 0 to 255"
    raise DataError(
        f"{path}: array {key!r} has {len(bad)} of {len(images)} images with pixels outside "
        f"[0, 1]; the first, {key}[{first}], has {what}",
        hint,
    )


def _channels_first(path: Path, key: str, images: np.ndarray) -> np.ndarray:
    if images.ndim == 3:
        return images[:, None]
    first, middle, last = images.shape[1:]
    # Small squares of many channels look like few channels of long strips.
    if first == last or (middle in (first, last) and middle < max(first, last)):
        raise DataError(
            f"{path}: array {key!r} has shape {images.shape}, which reads as (n, c, h, w) as "
            "well as (n, h, w, c)",
            "for grey images drop the channel axis: (n, h, w); others want fewer channels than "
            "their sides have pixels",
        )
    return images if first < last else images.transpose(0, 3, 1, 2)


def _labels(path: Path, key: str, labels: np.ndarray, images: int) -> np.ndarray:
    """Return the labels as they are numbered in the file, (n,) ints."""
    if labels.ndim == 2 and len(labels) == images and labels.dtype.kind in "iufb":
        if labels.shape[1] == 1:
            labels = labels[:, 0]
        elif ((labels == 0) | (labels == 1)).all() and (labels.sum(1) == 1).all():
            labels = labels.argmax(1)
    if labels.dtype.kind not in "iu":
        lines = f"labels = labels.astype(int); {SAVED}"
        if labels.dtype.kind in "US":
            named = SAVED.replace("labels)", "labels, class_names=names.astype(str))")
            lines = f"names, labels = np.unique(labels, return_inverse=True); {named}"
        raise DataError(
            f"{path}: array {key!r} has type {labels.dtype}, wanted ints",
            lines,
        )
    if labels.shape != (images,):
        raise DataError(
            f"{path}: array {key!r} has shape {labels.shape}, wanted ({images},): "
            f"one label for each of {images} images",
            "probabilities of shape (n, k) become classes with labels.argmax(1)"
            if labels.ndim == 2
            else "images and labels must be in the same order, none left out",
        )
    without = int((labels == -1).sum()) if labels.dtype.kind == "i" else 0
    if without:
        raise DataError(
            f"{path}: array {key!r} holds -1 for {without} of {images} images, which is no class "
            "but marks those without a label",
            f"images, labels = images[labels >= 0], labels[labels >= 0]; {SAVED}; or number the "
            "classes from 0",
        )
    return labels


def _class_names(path: Path, names: np.ndarray, classes: int) -> tuple[str, ...]:
    if names.dtype.kind != "U" or names.shape != (classes,):
        raise DataError(
            f"{path}: array 'class_names' has type {names.dtype} and shape {names.shape}, "
            f"wanted ({classes},) strings: one for each class that labels hold",
            "class_names=np.array(['cat', 'dog']), in the order of the sorted labels",
        )
    found: list[str] = names.tolist()
    for name in found:
        if found.count(name) > 1:
            raise DataError(
                f"{path}: array 'class_names' holds {name!r} twice",
                "each class needs its own name",
            )
    return tuple(found)


def _test(path: Path, test: np.ndarray, images: int) -> np.ndarray:
    """Return the positions of the test part, ascending."""
    if test.dtype.kind == "b" and test.shape == (images,):
        positions = np.flatnonzero(test)
    elif test.dtype.kind in "iu" and test.ndim == 1:
        positions = np.sort(test).astype(np.int64)
    else:
        raise DataError(
            f"{path}: array 'test' has type {test.dtype} and shape {test.shape}, "
            f"wanted ({images},) bool or (m,) int positions",
            "leave it out to have a part split off",
        )
    if len(positions) and not 0 <= positions[0] <= positions[-1] < images:
        wrong = positions[0] if positions[0] < 0 else positions[-1]
        raise DataError(
            f"{path}: array 'test' holds position {wrong}, wanted 0 to {images - 1}",
            "positions count images from 0",
        )
    if len(np.unique(positions)) < len(positions):
        raise DataError(
            f"{path}: array 'test' holds a position twice",
            "a mask of 0 and 1 must be bool: test.astype(bool)",
        )
    if not 0 < len(positions) < images:
        raise DataError(
            f"{path}: array 'test' takes {len(positions)} of {images} images, wanted some of them",
            "leave it out to have a part split off",
        )
    return positions
