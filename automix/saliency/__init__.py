"""Saliency providers, one file each: which pixels carry the content.

A provider has the signature::

    provider(images, targets, classifier) -> Tensor

    images      (b, c, h, w) float, not modified
    targets     (b, k) class probabilities
    classifier  images -> (b, k) logits; running statistics stay untouched while it is called
    returns     (b, h, w) float32, non-negative, sums to 1 for each image

A provider that looks at the last feature map or at attention asks for more by
``staged(classifier)``; nets of timm have the one, transformers the other. What its
users ask about a provider it states in its ``SaliencyInfo``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from automix.core.errors import ConfigError
from automix.core.registry import NetInfo, Registry
from automix.nets.attention import Query
from automix.nets.feature_maps import FeatureNet

Classifier = Callable[[Tensor], Tensor]
Provider = Callable[[Tensor, Tensor, Classifier], Tensor]
ReadOff = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class SaliencyInfo(NetInfo):
    """What a saliency provider states about itself."""

    passes: tuple[int, int]
    """How many forward and backward passes over the samples it costs. A backward pass through a
    net's head alone, one layer of many, is not counted."""
    from_step: ReadOff | None = None
    """Where it can be read off a training step: makes maps (b, h, w) from gradients of the loss at
    the images, (b, c, h, w)."""
    from_clean_step: ReadOff | None = None
    """The same, where its pass over the clean images also trains: the trainer makes that pass."""
    asks: Literal["average", "teacher"] | None = None
    """Which classifier a trainer gives it, if not the one in training."""

    @property
    def needs_classifier(self) -> bool:
        """Whether it asks a classifier."""
        return self.passes[0] > 0

    @property
    def needs(self) -> tuple[str, ...]:
        """Everything that the provider asks of a training run."""
        answer = "gradient" if self.passes[1] else "classifier"
        asked = (answer,) * self.needs_classifier
        return super().needs + asked + ((self.asks,) if self.asks else ())

    @property
    def facts(self) -> dict[str, Any]:
        """The facts that can be printed."""
        return super().facts | {"needs_classifier": self.needs_classifier}


SALIENCY: Registry[Provider, SaliencyInfo] = Registry("saliency provider", SaliencyInfo, __name__)


class Staged(Protocol):
    """A classifier that shows what happens inside: its last feature map, its attention."""

    def __call__(self, images: Tensor) -> Tensor:
        """Return logits, (b, k), of images (b, c, h, w)."""
        ...

    def features(self, images: Tensor) -> Tensor:
        """Return the last feature map, (b, c', h', w')."""
        ...

    def scored(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return that map, and the gradients there of the logits weighted by targets (b, k).

        In a net that ends in global average pooling and a linear layer, these are the weights
        of the class divided by h' w', the same at every place.
        """
        ...

    def attended(self, images: Tensor, query: Query) -> Tensor:
        """Return where the last block looks, (b, h', w'); each map sums to 1."""
        ...

    def spoken_for(self, images: Tensor, targets: Tensor) -> Tensor:
        """Return where attention speaks for the targets (b, k), (b, h', w'), which sums to 1."""
        ...


def staged(classifier: Classifier) -> Staged:
    """Return a classifier as one that shows what happens inside.

    That of the parallel modules of torch is the net in them: a look has no gradients to share.

    Raises:
        ConfigError: If it is only a function of the images.
    """
    if isinstance(classifier, nn.DataParallel | DistributedDataParallel):
        classifier = classifier.module
    if isinstance(classifier, nn.Module):
        return FeatureNet(classifier)
    if all(hasattr(classifier, one) for one in ("features", "scored", "attended", "spoken_for")):
        return cast(Staged, classifier)
    raise ConfigError(
        "the classifier is a function of the images, and this saliency looks inside the net",
        "pass the net itself (one of timm's), or use 'gradient', which works with every function",
    )


def only_in_training(name: str) -> bool:
    """Return whether a provider needs what only a trainer has: another classifier, or the step."""
    info = SALIENCY.info(name)
    return info.asks is not None or info.from_clean_step is not None


def check_alone(name: str) -> None:
    """Refuse a provider that cannot be asked outside a training.

    Raises:
        ConfigError: If it cannot.
    """
    if only_in_training(name):
        raise ConfigError(
            f"saliency {name!r} is part of a training by this project's trainer; "
            "mix_batch alone cannot compute it",
            "pass maps of your own by saliency=..., or use 'gradient'",
        )


def enlarged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring maps (b, h', w') to a size (b, h, w), bilinearly, as float32."""
    maps = maps.float()
    if maps.shape[1:] == size:
        return maps
    return F.interpolate(maps[:, None], size=size, mode="bilinear")[:, 0]


def normalised(saliency: Tensor) -> Tensor:
    """Scale each map, (b, h, w), to sum to 1; a map of zeros becomes uniform."""
    saliency = torch.nan_to_num(saliency.float(), nan=0.0, posinf=0.0, neginf=0.0)
    # By the peak first: gradients of a sure classifier come near the smallest float32, those of a
    # diverging one near the largest, and neither sum can be divided by.
    saliency = saliency / saliency.amax((1, 2), keepdim=True)
    total = saliency.sum((1, 2), keepdim=True)
    uniform = 1.0 / (saliency.shape[1] * saliency.shape[2])
    return torch.where(total > 0, saliency / total, uniform)
