"""What can be known of an action before a training plays it: whether its settings allow it."""

from __future__ import annotations

import torch

from automix.core.errors import ConfigError
from automix.core.registry import Entry
from automix.mixing.actions import OFF, MixAction
from automix.mixing.batch import check_action
from automix.saliency import SALIENCY, Provider
from automix.training.backbone import check_backbone
from automix.training.maps.teacher import teacher_of
from automix.training.settings import TrainerSettings


def check_playable(
    action: MixAction,
    settings: TrainerSettings,
    classes: int,
    shape: tuple[int, int, int],
    device: torch.device,
) -> None:
    """Refuse an action that a training could not play.

    Args:
        action: Any.
        settings: Of the training.
        classes: Of the images.
        shape: (c, h, w) of the images.
        device: Where.

    Raises:
        ConfigError: If the net lacks what the action needs, the trainer's label rule does not fit,
            or the settings do not give what its saliency needs.
        DataError: If its saliency asks a teacher, and the file does not hold it.
    """
    if not action.mixes:
        return
    check_action(action, settings.mix)
    check_backbone(action, settings.mix.label_rule, settings.model, classes, shape)
    if action.saliency != OFF:
        check_provider(SALIENCY.entry(action.saliency), settings, shape, device)


def check_provider(
    entry: Entry[Provider],
    settings: TrainerSettings,
    shape: tuple[int, int, int],
    device: torch.device,
) -> None:
    """Refuse a saliency provider that a training cannot ask; as ``check_playable``."""
    if entry.tags.get("asks") == "teacher":
        teacher_of(settings.teacher, shape, device)
    if entry.tags.get("asks") == "average" and not settings.model_ema:
        raise ConfigError(
            f"saliency {entry.name!r} asks the moving average of the classifier's weights, "
            "which is not kept",
            "set trainer.model_ema=true, or use 'gradient'",
        )
    if "from_clean_step" not in entry.tags:
        return
    for setting in ("refresh", "scale"):
        value = getattr(settings.saliency, setting)
        if value > 1:
            raise ConfigError(
                f"saliency {entry.name!r} trains on the images that it looks at, all of them and "
                f"whole, and trainer.saliency.{setting} is {value}",
                f"set trainer.saliency.{setting}=1, or use 'gradient'",
            )
