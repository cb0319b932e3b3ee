"""A labelled set of images, in memory or on disk, and its fixed test part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from automix.errors import DataError


class Pixels(Protocol):
    """Images by index: a tensor in memory, or a reader of files."""

    def __len__(self) -> int: ...

    def read(self, index: np.ndarray) -> Tensor:
        """Return (n, c, h, w) float32 in [0, 1] for the given positions."""
        ...


class InMemory:
    """The whole set as one tensor.

    Args:
        images: (n, c, h, w), uint8 in [0, 255] or float in [0, 1].
    """

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def read(self, index: np.ndarray) -> Tensor:
        """Return (n, c, h, w) float32 in [0, 1]."""
        picked = self.images[torch.from_numpy(index)]
        return picked.float() / 255 if picked.dtype == torch.uint8 else picked.float()


@dataclass(frozen=True)
class ImageSet:
    """Images with one class each.

    Attributes:
        name: How reports call the set.
        pixels: The images.
        labels: (n,) int64 in [0, k).
        class_names: k names.
        shape: (channels, height, width).
        test: Positions of the part that only evaluation reads, where the set itself says which
            (CIFAR's test file, a ``test`` folder); None where it is to be split off.
    """

    name: str
    pixels: Pixels
    labels: np.ndarray
    class_names: tuple[str, ...]
    shape: tuple[int, int, int]
    test: np.ndarray | None = None

    def __post_init__(self) -> None:
        present = np.unique(self.labels)
        if len(self.class_names) < 2 or len(present) < 2:
            only = self.class_names[int(present[0])] if len(present) else "none"
            raise DataError(
                f"{self.name}: {len(self.labels)} images of one class only ({only}), "
                "wanted two classes or more",
                "a classifier needs something to tell apart; check the labels or the folders",
            )

    @property
    def num_classes(self) -> int:
        """k."""
        return len(self.class_names)
