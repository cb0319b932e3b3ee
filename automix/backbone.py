"""What a net offers to mix methods, label rules and saliency, and who asks for it.

An entry of those registries says with the tag ``requires``, a tuple of names, which of these
abilities the classifier must have; a mix method with ``unguided_requires`` those that it must have
besides where no saliency provider guides it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache

import torch.nn as nn

from automix.actions import OFF, MixAction
from automix.attention import has_attention
from automix.errors import ConfigError
from automix.feature_maps import has_features
from automix.labels import LABEL_RULES
from automix.mixes import MIXES
from automix.models import create_classifier
from automix.registry import Entry
from automix.saliency import SALIENCY
from automix.stages import has_stages

ABILITIES: Mapping[str, Callable[[nn.Module], bool]] = {
    "attention": has_attention,
    "features": has_features,
    "stages": has_stages,
}
"""Name -> whether a net has it."""

MODELS: Mapping[str, str] = {
    "attention": "vit_digits, swin_mini_patch2_32, deit_small_patch4_32",
    "features": "small_cnn_w8, vit_digits",
    "stages": "small_cnn_w8, vit_digits",
}
"""Name -> some nets that have it."""

INSTEAD: Mapping[str, str] = {"attention": "saliency cam or gradcam, or another method"}
"""Name -> what works without it."""


@lru_cache(maxsize=32)
def abilities_of(model: str, classes: int, shape: tuple[int, int, int]) -> frozenset[str]:
    """Return what a timm model for images (c, h, w) offers.

    Raises:
        ConfigError: If timm has no such model, or it cannot take such images.
    """
    net = create_classifier(model, num_classes=classes, shape=shape, seed=0)
    return frozenset(name for name, has in ABILITIES.items() if has(net))


def requirements(action: MixAction, label_rule: str) -> Iterator[tuple[str, str]]:
    """Yield (who, ability) for all that an action needs of a net.

    Args:
        action: Any.
        label_rule: The trainer's own, for actions that name none.
    """
    if not action.mixes:
        return
    entries: list[Entry[object]] = [MIXES.entry(action.method)]  # type: ignore[list-item]
    if action.saliency != OFF:
        entries.append(SALIENCY.entry(action.saliency))  # type: ignore[arg-type]
    if not MIXES.entry(action.method).tags.get("keeps_label"):
        entries.append(LABEL_RULES.entry(action.label_rule or label_rule))  # type: ignore[arg-type]
    for entry in entries:
        for ability in required(entry, guided=action.saliency != OFF):
            yield entry.name, ability


def required(entry: Entry[object], guided: bool = False) -> tuple[str, ...]:
    """Return what an entry of a registry needs of a net, for a mix with saliency or without."""
    found = entry.tags.get("requires", ())
    alone = () if guided else entry.tags.get("unguided_requires", ())
    assert isinstance(found, tuple)
    assert isinstance(alone, tuple)
    return found + alone


def check_backbone(
    action: MixAction, label_rule: str, model: str, classes: int, shape: tuple[int, int, int]
) -> None:
    """Refuse an action that needs what a net has not.

    Raises:
        ConfigError: If it does; names what would work.
    """
    for who, ability in requirements(action, label_rule):
        if ability not in abilities_of(model, classes, shape):
            raise ConfigError(
                f"{action} cannot be played: {who} needs the {ability} of the net, which "
                f"trainer.model={model} does not show",
                f"take a net that has it, for example {MODELS[ability]}, or "
                f"{_instead(who, ability)}",
            )


def _instead(who: str, ability: str) -> str:
    """Return what can be played without an ability in the place of who needs it."""
    rules = LABEL_RULES.entry(who).tags.get("instead") if who in LABEL_RULES else None
    if not isinstance(rules, tuple):
        return INSTEAD.get(ability, "another method")
    return f"the label rule {' or '.join(rules)}, with saliency of any kind"
