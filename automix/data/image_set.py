"""A labelled set of images, in memory or on disk, and its fixed test part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from automix.core.errors import DataError
from automix.data.memory import fits, images_a_piece

R = TypeVar("R")


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
        return _as_floats(self.images[torch.from_numpy(index)])


class OnDisk:
    """Images that are decoded each time they are read.

    Args:
        decode: File number to (c, h, w) uint8; raises DataError, with the file's name.
        files: (n,) the file number of each image.
    """

    def __init__(self, decode: Callable[[int], Tensor], files: np.ndarray) -> None:
        self._decode, self._files = decode, files

    def __len__(self) -> int:
        return len(self._files)

    def read(self, index: np.ndarray) -> Tensor:
        """Return (n, c, h, w) float32 in [0, 1].

        Raises:
            DataError: If a file cannot be read, which may have been whole when the set was loaded.
        """
        return _as_floats(torch.stack(in_threads(self._decode, self._files[index])))


def _as_floats(images: Tensor) -> Tensor:
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()


def in_threads(function: Callable[[int], R], numbers: Iterable[int]) -> list[R]:
    """Map a function over numbers in as many threads as torch may use; results keep the order.

    Threads, not processes, because decoders let other threads run, and because worker processes
    inside cluster actors are known to hang.
    """
    every, threads = [int(number) for number in numbers], torch.get_num_threads()

    def block(start: int) -> list[R]:
        return [function(number) for number in every[start : start + size]]

    # One block a thread: handing over single images takes longer than decoding small ones.
    size = max(1, -(-len(every) // threads))
    starts = range(0, len(every), size)
    if len(starts) < 2:
        return block(0)
    with ThreadPoolExecutor(threads) as pool:
        return [result for results in pool.map(block, starts) for result in results]


@dataclass
class Origin:
    """What a loader tells of a set beside its images."""

    test: str = ""
    """Where the test part comes from, if the set has its own."""
    left_out: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    name_of: Callable[[int], str] = field(default="image {}".format, compare=False)
    """What messages call an image, by its position in the set."""

    def leave_out(self, count: int, what: str) -> None:
        """Note that some of what lies there is not read."""
        self.left_out.append(f"{count:,} {what}")


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
        memory_limit_gb: As in ``DataSource``; it also holds for the splits of the set.
        boxes: (n, 4) int64 where the set knows in which box its object stands: leftmost column,
            topmost row, and the column and row behind the last, in pixels.
        origin: What the loader tells.
    """

    name: str
    pixels: Pixels
    labels: np.ndarray
    class_names: tuple[str, ...]
    shape: tuple[int, int, int]
    test: np.ndarray | None = None
    memory_limit_gb: float = 0.0
    boxes: np.ndarray | None = None
    origin: Origin = field(default_factory=Origin)

    def __post_init__(self) -> None:
        present = np.unique(self.labels)
        outside = [int(label) for label in present if not 0 <= label < len(self.class_names)]
        if outside:
            raise DataError(
                f"{self.name}: labels hold {outside[0]}, "
                f"wanted 0 to {len(self.class_names) - 1} for {len(self.class_names)} classes",
                "a label of -1 often means that the labels are withheld",
            )
        if len(self.class_names) < 2 or len(present) < 2:
            only = self.class_names[int(present[0])] if len(present) else "none"
            raise DataError(
                f"{self.name}: {len(self.labels)} images of one class only ({only}), "
                "wanted two classes or more",
                "a classifier needs something to tell apart; check the labels or the folders",
            )
        if self.test is not None:
            unseen = np.setdiff1d(self.labels[self.test], np.delete(self.labels, self.test))
            if len(unseen):
                raise DataError(
                    f"{self.name}: class {self.class_names[unseen[0]]!r} has images in the test "
                    "part only",
                    "a classifier can't learn a class that it never sees; move some images",
                )

    @property
    def num_classes(self) -> int:
        """The number of classes, k."""
        return len(self.class_names)

    @property
    def counts(self) -> np.ndarray:
        """The images of each class, (k,)."""
        return np.bincount(self.labels, minlength=self.num_classes)


PARTS = 3
"""That each class should be in: training, validation and test part."""

IMBALANCE = 10
"""How many times the images of the smallest class the largest has before that is said."""

LISTED = 10
"""Classes that are listed; of more, some."""


def describe(images: ImageSet, test: np.ndarray) -> str:
    """Return one line that says what was loaded.

    Args:
        images: The set.
        test: Positions of the test part.
    """
    channels, height, width = images.shape
    colour = {1: "grey", 3: "RGB"}.get(channels, f"{channels} channels")
    counts = images.counts
    classes = [f"{shown(name)} ({n})" for name, n in zip(images.class_names, counts, strict=True)]
    if len(classes) > LISTED:
        least, most = counts.min(), counts.max()
        classes = [*classes[:3], "...", f"{classes[-1]}, {least} to {most} each"]
    origin = images.origin
    parts = [
        f"{shown(images.name)}: {len(images.labels):,} images, {width}x{height}, {colour}",
        f"{images.num_classes} classes: {', '.join(classes)}",
        f"test part: {len(test):,} images, {origin.test or 'split off'}",
    ]
    parts += [f"left out: {', '.join(origin.left_out)}"] if origin.left_out else []
    return "; ".join(parts)


def doubts(images: ImageSet, rest: np.ndarray, test: np.ndarray) -> list[str]:
    """Return what the user should know of the images, a line each; mostly nothing.

    Equal images are looked for in sets that are held in memory.

    Args:
        images: The set.
        rest: Positions of the images for training and validation.
        test: Those of the test part.
    """
    found, counts = list(images.origin.warnings), images.counts
    names = [shown(name) for name in images.class_names]
    few = scarce(images)
    if few:
        found.append(f"{few}: training, validation or test part will lack it")
    absent = np.flatnonzero(counts == 0)
    if len(absent):
        found.append(f"no images of {', '.join(names[k] for k in absent[:LISTED])}")
    there = np.flatnonzero(counts)
    small, large = there[counts[there].argmin()], there[counts[there].argmax()]
    if counts[large] >= IMBALANCE * counts[small]:
        found.append(
            f"classes are unbalanced: {names[large]} has {counts[large]} images, {names[small]} "
            f"has {counts[small]}; accuracy hardly tells of small classes"
        )
    alike = Counter(name.strip().casefold() for name in names)
    pairs = [name for name in names if alike[name.strip().casefold()] > 1]
    if pairs:
        found.append(f"classes that differ in case or blanks only: {pairs[:LISTED]}")
    if isinstance(images.pixels, InMemory):
        found += _repeated(images, images.pixels.images.numpy(), rest, test)
    return found


def scarce(images: ImageSet, least: int = PARTS) -> str:
    """Name the classes that have images, but fewer than ``least``; empty if there are none.

    Where the set has its own test part, one of them must be in that.
    """
    counts, given, where = images.counts, 0, ""
    if images.test is not None:
        counts = np.bincount(np.delete(images.labels, images.test), minlength=len(counts))
        given, where = 1, " outside the test part"
    few = np.flatnonzero((images.counts > 0) & (counts + given < least))
    if not len(few):
        return ""
    more = f", and {len(few) - 1} more classes have too few" if len(few) > 1 else ""
    return f"class {shown(images.class_names[few[0]])} has {counts[few[0]]} images{where}{more}"


def _repeated(
    images: ImageSet, pixels: np.ndarray, rest: np.ndarray, test: np.ndarray
) -> list[str]:
    """Say how many images are equal, pixel by pixel, where they should not; name a pair."""
    _, of = np.unique([hash(image.tobytes()) for image in pixels], return_inverse=True)
    classes = np.bincount(np.unique(np.stack([of, images.labels]), axis=1)[0])
    several = np.flatnonzero(classes[of] > 1)
    leaked = test[np.isin(of[test], of[rest])]

    def pair(one: int, others: np.ndarray) -> str:
        other = others[of[others] == of[one]][0]
        return f"such as {images.origin.name_of(one)} and {images.origin.name_of(int(other))}"

    found = []
    if len(leaked):
        found.append(
            f"{len(leaked)} of {len(test)} test images are among the others, too (equal pixels), "
            f"{pair(int(leaked[0]), rest)}: scores on the test part are too high"
        )
    if len(several):
        first = int(several[0])
        others = several[images.labels[several] != images.labels[first]]
        found.append(
            f"{len(several)} images have equal pixels but different classes, {pair(first, others)}"
        )
    return found


def shown(name: str) -> str:
    """Return a name on one line, without what a terminal would obey."""
    return name if name.isprintable() else ascii(name)[1:-1]


class Split:
    """Some images of a set as the trainer reads them: a tensor if it fits, else a reader.

    Args:
        read: Positions in the set to images (n, c, h, w) float32.
        index: (n,) the positions that make the split.
        images: The set.
        device: Where the images go.

    Both forms give the same numbers; ``Task.split`` makes them.
    """

    def __init__(
        self,
        read: Callable[[np.ndarray], Tensor],
        index: np.ndarray,
        images: ImageSet,
        device: torch.device,
    ) -> None:
        self._read, self._index, self._device = read, index, device
        shape, piece = (len(index), *images.shape), images_a_piece(images.shape)
        self.resident: Tensor | None = None
        """All images, (n, c, h, w) float32 on the device, where they fit."""
        if fits(4 * int(np.prod(shape)), images.memory_limit_gb, device):
            # Filled piece by piece: a scaled copy of the whole would double the peak.
            held = torch.empty(shape, device=device)
            for start in range(0, len(index), piece):
                held[start : start + piece] = read(index[start : start + piece])
            self.resident = held

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, at: Tensor) -> Tensor:
        """Return the images at positions of the split, (n,) int64 on any device."""
        if self.resident is not None:
            return self.resident[at]
        return self._read(self._index[at.cpu().numpy()]).to(self._device)

    def split(self, size: int) -> Iterator[Tensor]:
        """Yield all images in order, ``size`` at a time, as ``Tensor.split`` does."""
        if self.resident is not None:
            yield from self.resident.split(size)
            return
        for start in range(0, len(self), size):
            yield self._read(self._index[start : start + size]).to(self._device)
