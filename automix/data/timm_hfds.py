"""Hugging Face datasets, as timm reads them: ``hfds/<owner>/<name>``."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from timm.data.dataset_factory import create_dataset

from automix.core.errors import DataError, ResourceError
from automix.data import DATASETS, DatasetInfo, DataSource
from automix.data.image_set import ImageSet
from automix.data.pictures import Pictures, image_set

EVALUATION = ("test", "validation")
"""Splits that may be the evaluation part, best first."""


@DATASETS.register("hfds", DatasetInfo(named=True, resizes=True))
def hfds(source: DataSource) -> ImageSet:
    """Data sets of the Hugging Face hub with the columns ``image`` and ``label``.

    The split ``train`` is the pool; ``test``, else ``validation``, is the evaluation part. A split
    whose labels are withheld is passed over. ``root`` is the cache folder, by default that of the
    package ``datasets``. What follows ``hfds/`` may also be a local folder. Code that comes with a
    data set is never run.
    """
    if importlib.util.find_spec("datasets") is None:
        raise ResourceError(
            f"{source.dataset} needs the package datasets, which is not installed",
            "pip install datasets",
        )
    readers = [_reader(source, "train"), *_evaluation(source)]
    labels = [_labels(reader, source) for reader in readers]
    class_names, labels = _classes(readers[0], labels)
    return image_set(
        [_pictures(*part, source.dataset) for part in zip(readers, labels, strict=True)],
        source,
        name=source.dataset,
        class_names=class_names,
    )


def _reader(source: DataSource, split: str) -> Any:
    """Return timm's reader: ``dataset``, ``class_to_idx``, and files by number.

    Raises:
        ValueError: If the data set has no such split.
    """
    where = Path(source.root).resolve() if source.root else "the cache of the package datasets"
    try:
        with _network(source.download):
            return create_dataset(source.dataset, root=source.root or None, split=split).reader
    except Exception as error:  # the package raises whatever the files and the hub provoke
        if isinstance(error, ValueError) and "split" in str(error) and split != "train":
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if isinstance(error, OSError) and source.download:
            raise ResourceError(
                f"{source.dataset}: could not be fetched into {where}: {reason}",
                "check the name, the network and the disk",
            ) from error
        if isinstance(error, OSError):
            raise DataError(
                f"{source.dataset}: not found in {where} ({reason})",
                f"task.download=true fetches it and writes it to {where}",
            ) from error
        raise DataError(
            f"{source.dataset}: split {split!r} cannot be read: {reason}",
            "wanted a split train with the columns image and label",
        ) from error


@contextmanager
def _network(allowed: bool) -> Iterator[None]:
    """Keep the package away from the network unless that is allowed.

    Its own switch is an environment variable that is read once, when it is imported.
    """
    switches = [
        importlib.import_module(name) for name in ("datasets.config", "huggingface_hub.constants")
    ]
    were = [switch.HF_HUB_OFFLINE for switch in switches]
    try:
        for switch, was in zip(switches, were, strict=True):
            switch.HF_HUB_OFFLINE = was or not allowed  # type: ignore[attr-defined]
        yield
    finally:
        for switch, was in zip(switches, were, strict=True):
            switch.HF_HUB_OFFLINE = was  # type: ignore[attr-defined]


def _evaluation(source: DataSource) -> list[Any]:
    """Return the reader of the evaluation split, if the data set has one with labels."""
    for split in EVALUATION:
        try:
            reader = _reader(source, split)
        except ValueError:
            continue
        if (_labels(reader, source) >= 0).all():
            return [reader]
    return []


def _labels(reader: Any, source: DataSource) -> np.ndarray:
    labels = np.asarray(reader.dataset[reader.label_key][:])
    if labels.dtype.kind not in "iu":
        raise DataError(
            f"{source.dataset}: column {reader.label_key!r} has type {labels.dtype}, wanted ints",
            "use a set whose classes are numbered",
        )
    return labels.astype(np.int64)


def _classes(reader: Any, labels: Sequence[np.ndarray]) -> tuple[list[str], list[np.ndarray]]:
    """Return class names, and labels that number them; plain ints are numbered in order."""
    if reader.class_to_idx:
        return sorted(reader.class_to_idx, key=reader.class_to_idx.__getitem__), list(labels)
    values = np.unique(np.concatenate(labels))
    return [str(value) for value in values], [np.searchsorted(values, part) for part in labels]


def _pictures(reader: Any, labels: np.ndarray, name: str) -> Pictures:
    @contextmanager
    def open_picture(number: int) -> Iterator[Image.Image]:
        file, _ = reader[number]
        with file, Image.open(file) as image:
            yield image

    return Pictures(
        open=open_picture,
        name=lambda number: reader.filename(number) or f"{name}, image {number}",
        labels=labels,
    )
