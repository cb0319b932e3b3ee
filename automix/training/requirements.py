"""What an action requires of a net and of the trainer's settings, and what a net offers.

An entry of those registries states (``NetInfo.required``) which of these abilities the classifier
must have. Nothing else says it: what a net cannot do, which nets can, and what would work with this
one are found by asking entries and nets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from itertools import islice
from typing import Any

import timm
import torch
import torch.nn as nn

from automix.core.errors import AutomixError, ConfigError
from automix.core.registry import Entry, NetInfo, Registry
from automix.labels import LABEL_RULES
from automix.mixes import MIXES, MixInfo
from automix.mixing.actions import OFF, MixAction
from automix.mixing.batch import check_action
from automix.nets.attention import has_attention
from automix.nets.create import SMALL_NETS, SMALL_TRANSFORMERS, create_classifier
from automix.nets.feature_maps import has_features
from automix.nets.stages import has_stages
from automix.saliency import SALIENCY, Provider, SaliencyInfo
from automix.training.maps.teacher import teacher_of
from automix.training.settings import TrainerSettings

ABILITIES: Mapping[str, Callable[[nn.Module], bool]] = {
    "attention": has_attention,
    "features": has_features,
    "stages": has_stages,
}
"""Name -> whether a net has it."""

KINDS: Mapping[str, frozenset[str]] = {
    "cnn": frozenset({"features", "stages"}),
    "vit": frozenset({"attention", "features", "stages"}),
}
"""What convolutional nets and transformers have, as they come from timm."""

NAMED = 3
"""Nets that an error names, at most."""


@lru_cache(maxsize=32)
def abilities_of(model: str, classes: int, shape: tuple[int, int, int]) -> frozenset[str]:
    """Return what a timm model for images (c, h, w) offers.

    Raises:
        ConfigError: If timm has no such model, or it cannot take such images.
    """
    net = create_classifier(model, num_classes=classes, shape=shape, seed=0)
    return frozenset(name for name, has in ABILITIES.items() if has(net))


def supports(info: NetInfo) -> tuple[str, ...]:
    """Return what an entry works with: ``points``, or those of ``cnn`` and ``vit`` that do."""
    if isinstance(info, MixInfo) and info.points:
        return ("points",)
    needed = info.required(guided=False)
    return tuple(kind for kind, has in KINDS.items() if has.issuperset(needed))


def requirements(action: MixAction, label_rule: str) -> Iterator[tuple[str, str]]:
    """Yield (entry, ability) for all that an action needs of a net.

    Args:
        action: Any.
        label_rule: The trainer's own, for actions that name none.
    """
    for _, entry in _entries(action, label_rule):
        for ability in entry.info.required(guided=action.saliency != OFF):
            yield entry.name, ability


def _entries(
    action: MixAction, label_rule: str
) -> Iterator[tuple[Registry[Any, Any], Entry[Any, Any]]]:
    """Yield what an action is made of, and where each is registered."""
    if not action.mixes:
        return
    yield MIXES, MIXES.entry(action.method)
    if action.saliency != OFF:
        yield SALIENCY, SALIENCY.entry(action.saliency)
    if not MIXES.info(action.method).keeps_label:
        yield LABEL_RULES, LABEL_RULES.entry(action.label_rule or label_rule)


def check_backbone(
    action: MixAction, label_rule: str, model: str, classes: int, shape: tuple[int, int, int]
) -> None:
    """Refuse an action that needs what a net has not.

    Raises:
        ConfigError: If it does; names what would work.
    """
    for registry, entry in _entries(action, label_rule):
        needed = set(entry.info.required(guided=action.saliency != OFF))
        missing = sorted(needed - abilities_of(model, classes, shape)) if needed else []
        if missing:
            raise ConfigError(
                f"{action} cannot be played: {entry.name} needs the {' and the '.join(missing)} "
                f"of the net, which trainer.model={model} does not show",
                f"{_nets(needed, classes, shape)}; {_others(registry, model, classes, shape)}",
            )


def _nets(needed: set[str], classes: int, shape: tuple[int, int, int]) -> str:
    """Say which nets would do, those of this project first asked."""
    found = list(islice(nets_with(needed, classes, shape), NAMED))
    if not found:
        return f"no net of automix.nets.zoo shows it for images {shape}: take one of timm's"
    return f"nets that show it: {', '.join(found)}"


def nets_with(needed: set[str], classes: int, shape: tuple[int, int, int]) -> Iterator[str]:
    """Yield the nets of ``automix.nets.zoo`` that have all abilities needed, small ones first."""
    own = [
        name
        for name in timm.list_models()
        if timm.model_entrypoint(name).__module__.startswith("automix.nets.zoo")
    ]
    for model in dict.fromkeys([*SMALL_NETS, *SMALL_TRANSFORMERS, *own]):
        try:
            if needed <= abilities_of(model, classes, shape):
                yield model
        except AutomixError:  # it cannot take such images
            continue


def _others(
    registry: Registry[Any, Any], model: str, classes: int, shape: tuple[int, int, int]
) -> str:
    """Say what of the same kind the net can play."""
    has = abilities_of(model, classes, shape)
    names = [
        entry.name
        for entry in registry.entries()
        if has.issuperset(entry.info.required(guided=False))
        and "points" not in supports(entry.info)
    ]
    return f"each {registry.kind} that {model} can play: {', '.join(names)}"


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
    entry: Entry[Provider, SaliencyInfo],
    settings: TrainerSettings,
    shape: tuple[int, int, int],
    device: torch.device,
) -> None:
    """Refuse a saliency provider that a training cannot ask; as ``check_playable``."""
    if entry.info.asks == "teacher":
        teacher_of(settings.teacher, shape, device)
    if entry.info.asks == "average" and not settings.model_ema:
        raise ConfigError(
            f"saliency {entry.name!r} asks the moving average of the classifier's weights, "
            "which is not kept",
            "set trainer.model_ema=true, or use 'gradient'",
        )
    if entry.info.from_clean_step is None:
        return
    for setting in ("refresh", "scale"):
        value = getattr(settings.saliency, setting)
        if value > 1:
            raise ConfigError(
                f"saliency {entry.name!r} trains on the images that it looks at, all of them and "
                f"whole, and trainer.saliency.{setting} is {value}",
                f"set trainer.saliency.{setting}=1, or use 'gradient'",
            )
