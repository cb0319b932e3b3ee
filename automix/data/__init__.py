"""Image sets, one loader a file, and the tasks that are cut from them.

A loader has the signature ``load(source) -> ImageSet`` and is registered under what
``task.dataset`` holds before the first slash: ``digits``, ``letters``, ``folder``, ``torch`` ...
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from automix.core.errors import ConfigError, did_you_mean
from automix.core.registry import Info, Registry
from automix.data.image_set import ImageSet


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """Where the images come from."""

    dataset: str = "digits"
    """``digits``, ``npz``, ``folder`` ..., with a name where there are several: ``letters/easy``,
    ``torch/cifar10``, ``hfds/...``."""
    root: str = ""
    """File or folder of the data; empty for embedded sets."""
    image_size: int = 0
    """Side in pixels that ``folder``, ``torch`` and ``hfds`` images are brought to: the shorter
    edge is resized to it and the centre square kept. 0 keeps them as they are (all must agree).
    ``letters``, ``textures`` and ``patches`` are drawn at it, 0 being 24."""
    download: bool = False
    """Whether a missing public set may be fetched. Off: nothing ever touches the network."""
    skip_bad: bool = False
    """Whether image files that cannot be read are left out and logged, instead of refused. Every
    file is then decoded once at the start, also of a set that stays on disk."""
    class_folder: Literal["", "inner", "outer"] = ""
    """Which folder names the class of an image of ``folder``, where several could: ``inner``, that
    it lies in, or ``outer``, the outermost in which images differ. Empty: ``inner``, but what
    reads both ways is refused."""
    image_column: str = ""
    """The column of an ``hfds`` set that holds the images; empty: ``image``, or the only one."""
    label_column: str = ""
    """The column that holds the classes; empty: ``label``, or the only one of classes."""
    memory_limit_gb: float = 0.0
    """Main memory, in 1e9 bytes, that one process may fill with the images; what is larger is
    read batch by batch. 0: a quarter of what is free when they are loaded. Set it where several
    processes load a large set at the same time, or where a container has less than the machine."""

    def __post_init__(self) -> None:
        for name in ("image_size", "memory_limit_gb"):
            if not getattr(self, name) >= 0:
                raise ConfigError(
                    f"task.{name} is {getattr(self, name)}, wanted 0 or more",
                    "0 leaves the choice to the data",
                )
        if self.class_folder not in ("", "inner", "outer"):
            raise ConfigError(
                f"task.class_folder is {self.class_folder!r}, wanted inner or outer",
                "cat/black/1.png is of class black by its inner folder, cat by the outer",
            )


Loader = Callable[[DataSource], ImageSet]


@dataclass(frozen=True, kw_only=True)
class DatasetInfo(Info):
    """What a loader states about itself."""

    named: bool = False
    """A name must follow the slash (``torch/cifar10``)."""
    names: tuple[str, ...] = ()
    """The names that may follow it, where they are known."""
    resizes: bool = False
    """It honours ``image_size``."""
    settings: tuple[str, ...] = ()
    """Settings of a source that this loader honours and others do not."""
    embedded: bool = False
    """It comes along, so that a ``root`` would be passed over."""


DATASETS: Registry[Loader, DatasetInfo] = Registry("dataset", DatasetInfo, __name__)


def load(source: DataSource) -> ImageSet:
    """Load the images of a source.

    Raises:
        ConfigError: If no loader has that name, or it cannot do what is asked.
        DataError: If the files cannot be used; the message names the first bad one.
        ResourceError: If memory, the network or an optional package is missing.
    """
    kind, _, name = source.dataset.partition("/")
    entry = DATASETS.entry(kind)
    if bool(name) != entry.info.named:
        wanted = kind if name else f"{kind}/<name>"
        raise ConfigError(
            f"task.dataset is {source.dataset!r}, wanted {wanted}",
            "list the data sets with: python run.py list datasets",
        )
    if entry.info.names and name not in entry.info.names:
        raise ConfigError(
            f"task.dataset is {source.dataset!r}, which is not a set that can be read."
            f"{did_you_mean(name, entry.info.names)}",
            f"known: {', '.join(f'{kind}/{known}' for known in entry.info.names)}",
        )
    if source.image_size and not entry.info.resizes:
        raise ConfigError(
            f"task.image_size is {source.image_size}, but {kind} images keep their size",
            "leave task.image_size at 0",
        )
    for name in ("class_folder", "image_column", "label_column"):
        if getattr(source, name) and name not in entry.info.settings:
            raise ConfigError(
                f"task.{name} is {getattr(source, name)!r}, but {kind} has none", "leave it out"
            )
    if source.root and entry.info.embedded:
        raise ConfigError(
            f"task.root is {source.root!r}, but {kind} images come along and are read from nowhere",
            "leave task.root empty, or choose task=folder or task=npz for images of your own",
        )
    return entry.value(source)


__all__ = ["DATASETS", "DataSource", "DatasetInfo", "ImageSet", "load"]
