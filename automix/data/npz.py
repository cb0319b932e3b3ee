"""Images and labels as NumPy arrays in one ``.npz`` file."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.lib.npyio import NpzFile
from torch import Tensor

from automix.core.errors import ConfigError, DataError, ResourceError
from automix.data import DATASETS, DataSource
from automix.data.image_set import ImageSet, InMemory
from automix.data.memory import free_memory

LAYOUT = "np.savez_compressed(path, images=..., labels=...) writes such a file"


@DATASETS.register("npz")
def npz(source: DataSource) -> ImageSet:
    """Arrays of one npz file: images, labels and, if wanted, class_names and test.

    =============  ========================================================================
    images         (n, h, w), (n, h, w, c) or (n, c, h, w): uint8, or floats in [0, 1]. The
                   channel axis is the shorter of the two that it can be.
    labels         (n,) ints; any values, the k different ones become the classes in order
    class_names    optional, (k,) strings, in the order of the sorted labels
    test           optional, (n,) bool or (m,) int positions: the part for evaluation alone
    =============  ========================================================================

    No pickle is ever loaded, so arrays of Python objects are refused. The images are always held
    in memory; use ``folder`` for sets that do not fit.
    """
    if not source.root:
        raise ConfigError(
            "task.root is empty, wanted an npz file with the arrays images and labels",
            "set task.root=path/to/file.npz",
        )
    path = Path(source.root)
    with _opened(path) as arrays:
        images = _images(path, _array(path, arrays, "images"))
        labels, values = _labels(path, _array(path, arrays, "labels"), len(images))
        class_names = tuple(str(value) for value in values)
        if "class_names" in arrays:
            class_names = _class_names(path, _array(path, arrays, "class_names"), len(values))
        test = None
        if "test" in arrays:
            test = _test(path, _array(path, arrays, "test"), len(images))
    channels, height, width = images.shape[1:]
    return ImageSet(
        name=path.name,
        pixels=InMemory(images),
        labels=labels,
        class_names=class_names,
        shape=(channels, height, width),
        test=test,
        memory_limit_gb=source.memory_limit_gb,
    )


def _opened(path: Path) -> NpzFile:
    if not path.exists():
        raise DataError(f"{path}: does not exist", "task.root names an npz file; check the path")
    if not path.is_file():
        raise DataError(
            f"{path}: is a folder, wanted an npz file", "task.dataset=folder reads class folders"
        )
    # Asked first, because np.load takes whatever is no zip file for a pickle.
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path}: is not an npz file, or is cut off", LAYOUT)
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: cannot be opened as an npz file: {error}", LAYOUT) from error


def _array(path: Path, arrays: NpzFile, key: str) -> np.ndarray:
    """Read one array."""
    if key not in arrays:
        found = ", ".join(arrays.files) or "nothing"
        raise DataError(f"{path}: holds no array {key!r}, only {found}", LAYOUT)
    with zipfile.ZipFile(path) as file:
        size = max(i.file_size for i in file.infolist() if i.filename in (key, f"{key}.npy"))
    free = free_memory()
    if size > free:
        raise ResourceError(
            f"{path}: array {key!r} takes {size / 1e9:.1f} GB, "
            f"and {free / 1e9:.1f} GB of memory are free",
            "save the images as uint8, or as files: task.dataset=folder can leave them on disk",
        )
    try:
        array = arrays[key]
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise DataError(
                f"{path}: array {key!r} holds Python objects, and no pickle is ever loaded",
                "save plain numbers; lists of different lengths become objects, for example",
            ) from error
        raise _damaged(path, key, error) from error
    except (OSError, EOFError, MemoryError, SyntaxError, zipfile.BadZipFile, zlib.error) as error:
        raise _damaged(path, key, error) from error
    if not isinstance(array, np.ndarray):  # the zip file has a member of that name in another form
        raise _damaged(path, key, "not an array")
    return array


def _damaged(path: Path, key: str, reason: object) -> DataError:
    return DataError(f"{path}: array {key!r} is damaged: {reason}", "write the file again")


def _images(path: Path, images: np.ndarray) -> Tensor:
    """Return (n, c, h, w), uint8 or float32."""
    if images.ndim not in (3, 4) or 0 in images.shape[1:]:
        raise DataError(
            f"{path}: array 'images' has shape {images.shape}, "
            "wanted (n, h, w), (n, h, w, c) or (n, c, h, w)",
            "one image after the other along the first axis",
        )
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise DataError(
            f"{path}: array 'images' has type {images.dtype}, wanted uint8 or floats in [0, 1]",
            "images.astype(np.uint8) keeps values from 0 to 255",
        )
    if images.dtype.kind == "f":
        _check_range(path, images)
        images = images.astype(np.float32, copy=False)
    return torch.from_numpy(np.ascontiguousarray(_channels_first(path, images)))


def _check_range(path: Path, images: np.ndarray) -> None:
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
        f"{path}: array 'images' has {len(bad)} of {len(images)} images with pixels outside "
        f"[0, 1]; the first, images[{first}], has {what}",
        hint,
    )


def _channels_first(path: Path, images: np.ndarray) -> np.ndarray:
    if images.ndim == 3:
        return images[:, None]
    first, last = images.shape[1], images.shape[3]
    if first == last:
        raise DataError(
            f"{path}: array 'images' has shape {images.shape}, which reads as (n, c, h, w) as "
            "well as (n, h, w, c)",
            "for grey images drop the channel axis: (n, h, w)",
        )
    return images if first < last else images.transpose(0, 3, 1, 2)


def _labels(path: Path, labels: np.ndarray, images: int) -> tuple[np.ndarray, np.ndarray]:
    """Return labels in [0, k) and the k values they stand for."""
    if labels.dtype.kind not in "iu":
        raise DataError(
            f"{path}: array 'labels' has type {labels.dtype}, wanted ints",
            "number the classes; their names go into the array class_names",
        )
    if labels.shape != (images,):
        raise DataError(
            f"{path}: array 'labels' has shape {labels.shape}, wanted ({images},): "
            f"one label for each of {images} images",
            "labels of shape (n, k) become classes with labels.argmax(1)",
        )
    values, classes = np.unique(labels, return_inverse=True)
    return classes.astype(np.int64), values


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
