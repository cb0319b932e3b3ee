"""Public sets that torchvision reads, under timm's names: ``torch/cifar10`` ..."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from timm.data.dataset_factory import create_dataset
from torchvision.datasets import SVHN

from automix.core.errors import ConfigError, DataError, ResourceError
from automix.data import DATASETS, DatasetInfo, DataSource
from automix.data.image_set import ImageSet, Origin
from automix.data.pictures import Pictures, image_set, open_file

NAMES = ("cifar10", "cifar100", "fashion_mnist", "imagenet", "kmnist", "mnist", "svhn")


@DATASETS.register("torch", DatasetInfo(named=True, names=NAMES, resizes=True))
def torch_set(source: DataSource) -> ImageSet:
    """CIFAR, MNIST and their kin in torchvision's files: the official test file is the test part.

    ``root`` is the folder that torchvision keeps them in. CIFAR's official files are pickles:
    torchvision opens them itself, after comparing their checksums with those of the originals.
    Nothing else in this package loads a pickle, and no other file is opened that way.
    """
    name = source.dataset.partition("/")[2]
    if not source.root:
        raise ConfigError(
            f"task.root is empty, wanted the folder that holds {source.dataset}",
            "set task.root=data, for example; with task.download=true it is filled",
        )
    parts = [_part(name, source, training) for training in (True, False)]
    return image_set(
        [_pictures(part, source.dataset) for part in parts],
        source,
        name=source.dataset,
        class_names=_class_names(parts[0]),
        origin=Origin("the official test file"),
    )


def _part(name: str, source: DataSource, training: bool) -> Any:
    """Return torchvision's data set, fetched first if that is allowed."""
    try:
        if name == "svhn":  # timm's factory leaves it out
            part = "train" if training else "test"
            return SVHN(source.root, split=part, download=source.download)
        part = "train" if training else "validation"
        return create_dataset(
            source.dataset, root=source.root, split=part, download=source.download
        )
    # Besides RuntimeError for what is missing: OSError of network and disk, and whatever damaged
    # files provoke, such as AssertionError in MNIST's.
    except Exception as error:
        where = Path(source.root).resolve()
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if source.download and isinstance(error, (OSError, RuntimeError)):
            raise ResourceError(
                f"{source.dataset}: could not be fetched into {where}: {reason}",
                "check the network and the disk, or put torchvision's files there yourself",
            ) from error
        raise DataError(
            f"{source.dataset}: not found in {where}, or damaged ({reason})",
            f"task.download=true fetches it and writes it to {where}",
        ) from error


def _pictures(dataset: Any, name: str) -> Pictures:
    labels = np.asarray(dataset.labels if hasattr(dataset, "labels") else dataset.targets)
    if hasattr(dataset, "samples"):  # files, as ImageNet's
        return Pictures(
            open=lambda number: open_file(dataset.samples[number][0]),
            name=lambda number: dataset.samples[number][0],
            labels=labels.astype(np.int64),
        )
    return Pictures(
        open=lambda number: dataset[number][0],
        name=lambda number: f"{name}, image {number}",
        labels=labels.astype(np.int64),
        mode="L" if dataset[0][0].mode == "L" else "RGB",
    )


def _class_names(dataset: Any) -> list[str]:
    """Return the names by label; ImageNet has several for a class."""
    if not hasattr(dataset, "classes"):  # SVHN: the digits
        return [str(digit) for digit in range(10)]
    return [", ".join(name) if isinstance(name, tuple) else name for name in dataset.classes]
