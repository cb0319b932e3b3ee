"""Image sets, one loader a file, and the tasks that are cut from them.

A loader has the signature ``load(source) -> ImageSet`` and is registered under the name that
``task.dataset`` uses before the first slash or dot: ``digits``, ``npz``, ``folder``, ``torch``,
``hfds``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from automix.data.image_set import ImageSet
from automix.registry import Registry


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """Where the images come from."""

    dataset: str = "digits"
    """``digits``, ``npz``, ``folder``, or a timm name such as ``torch/cifar10``, ``hfds/...``."""
    root: str = ""
    """File or folder of the data; empty for embedded sets."""
    image_size: int = 0
    """Side in pixels that folder images are resized to; 0 keeps them (all must agree)."""
    download: bool = False
    """Whether a missing public set may be fetched. Off: nothing ever touches the network."""


Loader = Callable[[DataSource], ImageSet]

DATASETS: Registry[Loader] = Registry("dataset", __name__)


def load(source: DataSource) -> ImageSet:
    """Load the images of a source.

    Raises:
        ConfigError: If no loader has that name.
        DataError: If the files cannot be used; the message names the first bad one.
    """
    return DATASETS[source.dataset.split("/", 1)[0]](source)


__all__ = ["DATASETS", "DataSource", "ImageSet", "load"]
