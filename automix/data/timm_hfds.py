"""Hugging Face datasets: ``hfds/<owner>/<name>``."""

from __future__ import annotations

import importlib
import importlib.util
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from automix.core.errors import ConfigError, DataError, ResourceError
from automix.data import DATASETS, DatasetInfo, DataSource
from automix.data.image_set import ImageSet, Origin
from automix.data.pictures import Pictures, image_set

EVALUATION = ("test", "validation")
"""Splits that may be the evaluation part, best first."""


@DATASETS.register(
    "hfds", DatasetInfo(named=True, resizes=True, settings=("image_column", "label_column"))
)
def hfds(source: DataSource) -> ImageSet:
    """Data sets of the Hugging Face hub with a column of images and one of classes.

    They are called ``image`` and ``label``, or are the only ones of their kind, or are named by
    ``image_column`` and ``label_column``. The split ``train`` is the pool; ``test``, else
    ``validation``, is the evaluation part. A split whose labels are withheld is passed over.
    ``root`` is the cache folder, by default that of the package ``datasets``. What follows
    ``hfds/`` may also be a local folder. Code that comes with a data set is never run.
    """
    if importlib.util.find_spec("datasets") is None:
        raise ResourceError(
            f"{source.dataset} needs the package datasets, which is not installed",
            "pip install datasets",
        )
    train, origin = _split(source, "train"), Origin()
    image, label = _columns(train, source)
    parts, labels = [train], [_labels(train, label, source)]
    for split in EVALUATION:
        try:
            part = _split(source, split)
        except ValueError:
            continue
        if label not in part.features or (_labels(part, label, source) < 0).any():
            origin.leave_out(len(part), f"images of split {split}, which has no labels")
        elif len(parts) > 1:
            origin.leave_out(len(part), f"images of split {split}")
        else:
            parts.append(part)
            labels.append(_labels(part, label, source))
            origin.test = f"the split {split}"
    class_names, labels = _classes(train.features[label], labels, source)
    return image_set(
        [_pictures(*part, image, source) for part in zip(parts, labels, strict=True)],
        source,
        name=source.dataset,
        class_names=class_names,
        origin=origin,
    )


def _split(source: DataSource, split: str) -> Any:
    """Return a split as the package ``datasets`` reads it.

    Raises:
        ValueError: If the data set has no such split.
    """
    where = Path(source.root).resolve() if source.root else "the cache of the package datasets"
    name = source.dataset.partition("/")[2]
    try:
        with _network(source.download):
            package = importlib.import_module("datasets")
            return package.load_dataset(name, split=split, cache_dir=source.root or None)
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
            "wanted a split train with a column of images and one of labels",
        ) from error


def _columns(dataset: Any, source: DataSource) -> tuple[str, str]:
    """Return the names of the columns of images and of labels."""
    kinds = {name: type(feature).__name__ for name, feature in dataset.features.items()}
    found = []
    for what, kind, chosen, usual in (
        ("image", "Image", source.image_column, ("image",)),
        ("label", "ClassLabel", source.label_column, ("label", "labels")),
    ):
        alike = [name for name in kinds if kinds[name] == kind]
        wanted = [chosen] if chosen else [*usual[:1], *(alike if len(alike) == 1 else ()), *usual]
        name = next((name for name in wanted if name in kinds), None)
        if name is None:
            others = [name for name in kinds if (kinds[name] == "Image") == (kind == "Image")]
            listed = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
            raise (ConfigError if chosen else DataError)(
                f"{source.dataset}: no column {wanted[0]!r} of {what}s; it has {listed}",
                f"name the column: task.{what}_column={(alike or others or [what])[0]}",
            )
        found.append(name)
    return found[0], found[1]


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


def _labels(dataset: Any, label: str, source: DataSource) -> np.ndarray:
    labels = np.asarray(dataset[label][:])
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise DataError(
            f"{source.dataset}: column {label!r} has type {labels.dtype} and shape "
            f"{labels.shape}, wanted ints, one for each image",
            "use a set whose classes are numbered, or another column: task.label_column=...",
        )
    return labels.astype(np.int64)


def _classes(
    feature: Any, labels: Sequence[np.ndarray], source: DataSource
) -> tuple[list[str], list[np.ndarray]]:
    """Return class names, and labels that number them; plain ints are numbered in order."""
    if getattr(feature, "names", None):
        return list(feature.names), list(labels)
    values = np.unique(np.concatenate(labels))
    if -1 in values:
        raise DataError(
            f"{source.dataset}: some labels are -1, which is no class but marks what has no label",
            "use a set whose images all have labels",
        )
    return [str(value) for value in values], [np.searchsorted(values, part) for part in labels]


def _pictures(dataset: Any, labels: np.ndarray, image: str, source: DataSource) -> Pictures:
    encoded = dataset.cast_column(image, importlib.import_module("datasets").Image(decode=False))

    @contextmanager
    def open_picture(number: int) -> Iterator[Image.Image]:
        cell = encoded[number][image]
        with Image.open(io.BytesIO(cell["bytes"]) if cell["bytes"] else cell["path"]) as picture:
            yield picture

    return Pictures(
        open=open_picture,
        name=lambda number: encoded[number][image]["path"] or f"{source.dataset}, image {number}",
        labels=labels,
    )
