"""Label rules, one file each: how much of the target each of the two labels gets.

A rule has the signature::

    rule(record) -> Array or Weights

``record`` is a ``MixRecord``: what was drawn and what the mixed image shows. An array is lam,
float32 in [0, 1], one for each draw (u,) or each image (n,): the weight of the own label, the
partner gets the rest. ``Weights`` say more. What a paper leaves open are keyword-only parameters
with defaults, which ``trainer.mix.options=["rule.parameter=value"]`` sets.

Whatever a rule weighs by, a mask of zeros must leave the own label whole: it is what a batch that
is not mixed has. What its users ask about a rule it states in its ``LabelInfo``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor

from automix.core.errors import ConfigError
from automix.core.registry import NetInfo, Registry
from automix.masks.pairing import Pairs
from automix.masks.shapes import Array, Mask
from automix.mixes import MIXES

Watch = Callable[[nn.Module, Tensor, Tensor], tuple[Tensor, Tensor]]
"""``watch(net, images, masks)``: sends mixed images (b, c, h, w) through the net that trains and
looks at what happens inside; masks (b, 1, h, w) say where the partner is. Returns logits (b, k),
whose gradients reach the weights, and what it saw of the partner, (b,) float32 without a graph."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the classifier makes of some of the mixed images."""

    own: Tensor
    """(b,) float32: the probability of their own labels."""
    partner: Tensor
    """(b,) float32: of their partners'."""
    watched: Tensor | None = None
    """(b,) float32: what the rule's ``watch`` saw, if it was there."""


Revision = Callable[[Seen, slice], Tensor]
"""``revision(seen, rows)``: lam (b,) of the images in those rows of the n."""


@dataclass(frozen=True)
class MixRecord:
    """What a rule can know: u draws for n images, where u is n or the number of batches."""

    mask: Mask
    """The partner's weight that was really used, u masks."""
    share: np.ndarray
    """(u,) float32: the wanted partner share that the mask was made from."""
    pairs: Pairs
    """The partner of each image."""
    rng: np.random.Generator
    """Every draw of the rule comes from here."""
    keeps_label: bool = False
    """Whether the mask says what was erased or restyled, rather than where another class is."""
    own: Tensor | None = None
    """(n, h, w) saliency maps of the images, lying as their pixels do in the mixed images; the
    mass of what is cut away is missing. None unless the rule says ``needs_maps``."""
    partner: Tensor | None = None
    """The same of the partners."""

    @property
    def masks(self) -> Mask:
        """N masks, one for each image."""
        n = len(self.pairs.partner)
        return self.mask if len(self.mask) == n else self.mask[self.pairs.batch]

    @cached_property
    def area(self) -> Array:
        """(u,) float32: each mask's mean weight."""
        return self.mask.area()

    @property
    def areas(self) -> Tensor:
        """(n,) float32: the mean weight of each image's mask."""
        return torch.as_tensor(self.masks.area())


@dataclass(frozen=True, slots=True)
class Weights:
    """What the labels of n images weigh."""

    own: Tensor
    """(n,) float32, 0 or more."""
    partner: Tensor
    """(n,) float32, 0 or more."""
    blur: tuple[Tensor, Tensor] | None = None
    """Further weight of the own and of the partner's label, (n,) each, that goes to all classes
    alike. Where all weights of an image together differ from 1, their sum is also the weight of
    the image in the loss."""
    revision: Revision | None = None
    """What lam becomes when the classifier has seen the mixed images, if it has a say."""
    watch: Watch | None = None
    """How the classifier is to be asked for that, if its logits do not say it."""


LabelRule = Callable[[MixRecord], Array | Weights]


@dataclass(frozen=True, kw_only=True)
class LabelInfo(NetInfo):
    """What a label rule states about itself."""

    needs_maps: bool = False
    """It weighs by saliency, so the action must name a provider."""
    erasures: bool = False
    """It has something to say about mixes that erase or restyle and show no other class
    (``keeps_label`` of the mix). Under any other rule those keep their label whole."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Everything that the rule asks of a training run."""
        return super().needs + ("saliency",) * self.needs_maps


LABEL_RULES: Registry[LabelRule, LabelInfo] = Registry("label rule", LabelInfo, __name__)


def watched_weights(record: MixRecord, watch: Watch, strength: float = 1.0) -> Weights:
    """Return weights of which the classifier has a say by what is watched inside it.

    Args:
        record: What the images show.
        watch: Sees the partner's share.
        strength: How much it has to say, in [0, 1]; the area has the rest, and says it alone where
            nobody watches, and where the image shows only one of the two.
    """
    areas = record.areas

    def revision(seen: Seen, rows: slice) -> Tensor:
        area = areas[rows].to(seen.own.device, non_blocking=True)
        if seen.watched is None:
            return 1 - area
        both = (area > 0) & (area < 1)
        return 1 - torch.where(both, torch.lerp(area, seen.watched.clamp(0, 1), strength), area)

    if not strength:
        return Weights(1 - areas, areas)
    return Weights(1 - areas, areas, revision=revision, watch=watch)


def check_label_rule(rule: str, action: object, method: str, has_maps: bool) -> None:
    """Refuse a rule that cannot work for an action.

    Args:
        rule: Its name.
        action: How an error names the action; converted to text only then.
        method: Its mix method.
        has_maps: Whether it names a saliency provider.

    Raises:
        ConfigError: If there is no such rule, or it does not fit the method.
    """
    if rule == "area":
        return
    info, mix = LABEL_RULES.info(rule), MIXES.info(method)
    other, fitting = "area", "images"
    if mix.keeps_label and not info.erasures:
        why, other = f"weighs two labels, and {method} shows no other class", "visibility"
        fitting = "cutmix"
    elif info.needs_maps and mix.points:
        why = (
            "weighs labels by saliency, and no provider looks at the point clouds that "
            f"{method} mixes"
        )
    elif info.requires and mix.points:
        why = f"looks inside nets of images, and {method} mixes point clouds"
    elif mix.step:
        fitting = "cutmix"
        why = (
            f"weighs the labels of mixed images, and {method} makes training steps of its own, "
            "with targets of their own"
        )
    elif info.needs_maps and not has_maps:
        raise ConfigError(
            f"label rule {rule!r} weighs labels by saliency, and {action} names none",
            f"add a provider, for example {method}@0.5+gradient:{rule}, or use the rule 'area'",
        )
    elif mix.layers:
        why, fitting = f"weighs two labels, and {method} shows more images than two", "two images"
    else:
        return
    raise ConfigError(
        f"label rule {rule!r} {why}",
        f"use the rule {other!r} with it, or this rule with {fitting}: {_fitting(rule)}",
    )


def _fitting(rule: str) -> str:
    """Return an action that a rule fits."""
    guide = "+gradient" if LABEL_RULES.info(rule).needs_maps else ""
    return f"cutmix@0.5{guide}:{rule}"
