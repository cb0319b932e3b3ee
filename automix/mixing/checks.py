"""What a user hands in with a batch: checked here and nowhere else."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from automix.core.errors import ConfigError

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.uint8)
"""Of images: short integers would wrap around where they are blended."""


def check_images(images: Tensor) -> None:
    """Refuse what cannot be blended.

    Raises:
        ConfigError: If it is no tensor, or of another dtype than ``DTYPES``.
    """
    if not isinstance(images, Tensor):
        raise ConfigError(
            f"images are {type(images).__name__}, wanted a tensor (b, c, h, w)",
            "make one: torch.as_tensor(images)",
        )
    if images.dtype not in DTYPES:
        wanted = ", ".join(_name(one) for one in DTYPES)
        raise ConfigError(
            f"images are {_name(images.dtype)} {tuple(images.shape)}, wanted {wanted}",
            "for example images.float(); divide by the largest value that they can have",
        )


def check_classes(num_classes: int) -> None:
    """Refuse what is no number of classes.

    Raises:
        ConfigError: If it is none.
    """
    # Its type first: to ask an int whether it is an Integral costs as much as all else here.
    whole = type(num_classes) is int or isinstance(num_classes, np.integer)
    if not whole or num_classes < 1:
        raise ConfigError(
            f"num_classes is {num_classes!r}, wanted a whole number, 1 or more",
            "it is how many classes there are: the largest label + 1",
        )


def checked_labels(labels: Tensor, count: int, num_classes: int) -> Tensor:
    """Return labels as everything else takes them: classes (b,), or probabilities (b, k).

    A column of classes, (b, 1), is taken as (b,). What probabilities add up to is not looked at:
    a row's sum is its weight in the loss. Classes are read once, where targets are made of them,
    which calls ``check_range``; on a CUDA device its own assertion does, as nothing here waits.

    Args:
        labels: As the user has them.
        count: b, the number of images.
        num_classes: k.

    Raises:
        ConfigError: If they are anything else; says what would do.
    """
    check_classes(num_classes)
    if not isinstance(labels, Tensor):
        raise ConfigError(
            f"labels are {type(labels).__name__}, wanted a tensor",
            "make one: torch.as_tensor(labels)",
        )
    shape = labels.shape
    if labels.is_floating_point():
        if shape == (count, num_classes):
            return labels
    elif (shape == (count,) or shape == (count, 1)) and not labels.is_complex():
        return labels if len(shape) == 1 else labels[:, 0]
    raise ConfigError(
        f"labels are {_name(labels.dtype)} {tuple(shape)} for {count} images, wanted integer "
        f"classes ({count},) or probabilities ({count}, {num_classes})",
        _remedy(labels, count, num_classes),
    )


def check_range(least: int, most: int, num_classes: int) -> None:
    """Refuse classes from ``least`` to ``most`` where they go beyond the number of classes.

    Raises:
        ConfigError: If they do.
    """
    if least < 0 or most >= num_classes:
        raise ConfigError(
            f"labels are from {least} to {most}, wanted classes 0 to {num_classes - 1}",
            "num_classes counts them from 0; leave out images without a class (-1, -100)",
        )


def _remedy(labels: Tensor, count: int, num_classes: int) -> str:
    """Return what to do about labels that were refused."""
    if labels.shape[:1] != (count,):
        return "give one label for each image, in their order"
    if labels.is_floating_point():
        if labels.numel() == count:
            return "class numbers want whole numbers: labels.long()"
        return f"num_classes is {num_classes}: probabilities have a column for each class"
    if labels.dim() == 2:
        return "rows of integers, if one-hot: labels.float(), or labels.argmax(1)"
    return "for example labels.long()"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
