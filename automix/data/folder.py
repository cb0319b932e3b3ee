"""Folders of images, one folder a class, as timm reads them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from pathlib import Path

import numpy as np
from PIL import Image
from timm.data.dataset_factory import create_dataset
from timm.utils.misc import natural_key

from automix.core.errors import ConfigError, DataError
from automix.data import DATASETS, DatasetInfo, DataSource
from automix.data.image_set import ImageSet
from automix.data.pictures import Pictures, image_set

TRAINING = ("train", "training")
EVALUATION = ("test", "val", "valid", "validation")
"""Names of the evaluation folder, best first."""


@DATASETS.register("folder", DatasetInfo(resizes=True))
def folder(source: DataSource) -> ImageSet:
    """Class folders of png and jpg files: ``root/cat/1.png``, or ``root/train/cat/1.png``.

    If ``root`` has a ``train`` folder and one of ``test``, ``val``, ``valid``, ``validation``, the
    second is the evaluation part (the first of these names; others are left out) and both must
    hold the same classes. Otherwise all of ``root`` is one pool. As in timm, the folder that an
    image lies in names its class, however deep it lies, and other files are ignored. Grey,
    palette and transparent images become RGB.
    """
    if not source.root:
        raise ConfigError(
            "task.root is empty, wanted the folder that holds the class folders",
            "set task.root=path/to/images",
        )
    root = Path(source.root)
    if not root.is_dir():
        what = "is a file, wanted a folder" if root.exists() else "does not exist"
        raise DataError(f"{root}: {what}", "task.root names the folder of the class folders")
    folders = _parts(root)
    samples = [_samples(part) for part in folders]
    class_names = _agreed_classes(samples, folders)
    return image_set(
        [_pictures(part, class_names) for part in samples],
        source,
        name=root.resolve().name,
        class_names=class_names,
    )


def _parts(root: Path) -> list[Path]:
    """Return the folders of the pool and, if there is one, of the evaluation part."""
    train = [root / name for name in TRAINING if (root / name).is_dir()]
    evaluation = [root / name for name in EVALUATION if (root / name).is_dir()]
    return [train[0], evaluation[0]] if train and evaluation else [root]


def _samples(part: Path) -> list[tuple[str, str]]:
    """Return (path, class) of the images that timm finds, in natural order of the paths."""
    try:
        reader = create_dataset("", root=str(part), search_split=False).reader
    except RuntimeError as error:  # timm found no image
        raise DataError(
            f"{part}: no png or jpg image in it or below",
            "wanted a folder for each class, such as cat/1.png and dog/1.png",
        ) from error
    # timm leaves names that differ in case or leading zeros in the order of the file system.
    paths = sorted((path for path, _ in reader.samples), key=_natural)
    for path in paths:
        if Path(path).parent == part:
            raise DataError(
                f"{path}: lies in no class folder",
                f"move it into a folder named after its class: {part / 'cat' / Path(path).name}",
            )
    return [(path, Path(path).parent.name) for path in paths]


def _natural(name: str) -> tuple[list[int | str], str]:
    return natural_key(name), name


def _agreed_classes(
    samples: Sequence[Sequence[tuple[str, str]]], folders: Sequence[Path]
) -> list[str]:
    """Return the class names by label; all folders must have the same."""
    found = [{name for _, name in part} for part in samples]
    for has, lacks in permutations(range(len(found)), 2):
        for name in sorted(found[has] - found[lacks], key=_natural):
            raise DataError(
                f"{folders[lacks]}: no images of class {name!r}, which {folders[has]} has",
                "both folders need the same class folders, each with images",
            )
    return sorted(found[0], key=_natural)


def _pictures(samples: Sequence[tuple[str, str]], class_names: Sequence[str]) -> Pictures:
    label = {name: i for i, name in enumerate(class_names)}
    return Pictures(
        open=lambda number: Image.open(samples[number][0]),
        name=lambda number: samples[number][0],
        labels=np.array([label[name] for _, name in samples], dtype=np.int64),
    )
