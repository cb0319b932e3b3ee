"""The trained net that `trainer.teacher` names, read from a safetensors file."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn as nn
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from automix.core.errors import ConfigError, DataError
from automix.nets.create import create_classifier
from automix.nets.feature_maps import has_features
from automix.training.settings import TeacherSettings


@lru_cache(maxsize=1)  # every reset builds its stacks anew
def teacher_of(
    settings: TeacherSettings, shape: tuple[int, int, int], device: torch.device
) -> nn.Module:
    """Return a teacher in evaluation mode, for images of a shape (c, h, w).

    Its last layer keeps weights that were never trained: it has as many classes as the file's, or
    other ones, and its answers are not used.

    Raises:
        ConfigError: If no teacher is named, or the net shows no feature map.
        DataError: If the file is missing, is no safetensors file, or holds another net's weights.
    """
    if not settings.weights:
        raise ConfigError(
            "saliency 'teacher' needs a trained net, and trainer.teacher names none",
            "set trainer.teacher.model=<a timm model> and trainer.teacher.weights=<a safetensors "
            "file>; without weights: 'ema' (with trainer.model_ema=true) or 'gradient'",
        )
    net = create_classifier(settings.model, num_classes=1, shape=shape, seed=0)
    if not has_features(net):
        raise ConfigError(
            f"trainer.teacher.model is {settings.model!r}, which shows no last feature map",
            "take a net with forward_features and forward_head, as nearly all of timm's have",
        )
    path = Path(settings.weights)
    found = _read(path)
    head = _head(net)
    wanted = {name: one for name, one in net.state_dict().items() if not name.startswith(head)}
    body = {name: one for name, one in found.items() if not name.startswith(head)}
    _check(path, settings.model, wanted, body)
    net.load_state_dict(body, strict=False)
    return net.to(device).eval().requires_grad_(False)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except FileNotFoundError:
        raise DataError(
            f"trainer.teacher.weights is {path}, which is not there", "name a safetensors file"
        ) from None
    except (SafetensorError, OSError) as error:
        raise DataError(
            f"trainer.teacher.weights is {path}, which is not a safetensors file: {error}",
            "other formats can run code when they are loaded; convert them with safetensors",
        ) from None


def _head(net: nn.Module) -> tuple[str, ...]:
    """Return what the names of the last layer's weights begin with."""
    last = net.get_classifier()  # type: ignore[operator]
    layers = last if isinstance(last, tuple | list) else [last]
    named = [name for name, module in net.named_modules() if any(module is one for one in layers)]
    return tuple(f"{name}." for name in named)


def _check(
    path: Path, model: str, wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]
) -> None:
    """Refuse weights that are not those of the net, naming the first that is not."""
    strange = sorted(wanted.keys() ^ found.keys())
    if strange:
        name = strange[0]
        there, lacking = ("lacks", "has") if name in wanted else ("has", "lacks")
        raise DataError(
            f"{path} is not the weights of trainer.teacher.model {model!r}: it {there} {name!r}, "
            f"which the net {lacking} ({len(strange)} names differ)"
        )
    for name, one in wanted.items():
        if one.shape == found[name].shape:
            continue
        if one.dim() == 4 and one.shape[1] != found[name].shape[1]:
            raise DataError(
                f"the teacher in {path} was trained on images of {found[name].shape[1]} channels, "
                f"and those of the task have {one.shape[1]}",
                "take a teacher for such images, or saliency 'ema' or 'gradient'",
            )
        raise DataError(
            f"{name!r} in {path} is {tuple(found[name].shape)}, and trainer.teacher.model "
            f"{model!r} has {tuple(one.shape)} for images of this size",
            "take a teacher that was trained at this size, or one without a fixed size",
        )
