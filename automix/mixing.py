"""Mix a batch: the ratio law, one blend, and the one place where targets are made.

``lam`` is the share of an image's own content throughout; 1 is the untouched image
(docs/decisions/0001).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from automix.actions import OFF, MixAction
from automix.errors import ConfigError
from automix.labels import LABEL_RULES
from automix.mixes import MIXES
from automix.pairing import PAIRINGS
from automix.saliency import SALIENCY, Classifier
from automix.stacking import frozen_running_statistics


@dataclass(frozen=True, kw_only=True)
class MixSettings:
    """How an action is carried out; fixed for a training, not chosen by the policy."""

    concentration: float = 2.0
    """c of the ratio law; 2 makes ratio 0.5 the papers' Beta(1, 1). Above 0."""
    share_per: Literal["image", "batch"] = "image"
    """Whether each image or each batch has its own draw of the partner share."""
    pairing: str = "derange"
    """A name in ``automix.pairing.PAIRINGS``."""
    label_rule: str = "area"
    """A name in ``automix.labels.LABEL_RULES``."""
    mix_probability: float = 1.0
    """Share of batches that are mixed at all, in [0, 1]."""

    def __post_init__(self) -> None:
        if not 0 < self.concentration < float("inf"):
            raise ConfigError(f"concentration is {self.concentration}, wanted a number above 0")
        if not 0 <= self.mix_probability <= 1:
            raise ConfigError(
                f"mix_probability is {self.mix_probability}, wanted a number from 0 to 1"
            )
        if self.share_per not in ("image", "batch"):
            raise ConfigError(f"share_per is {self.share_per!r}, wanted 'image' or 'batch'")
        PAIRINGS.entry(self.pairing)
        LABEL_RULES.entry(self.label_rule)


DEFAULTS = MixSettings()


@dataclass(frozen=True)
class Mixed:
    """A mixed batch."""

    images: Tensor
    """(b, c, h, w), dtype of the input."""
    targets: Tensor
    """(b, k) class probabilities."""
    lam: Tensor
    """(b,) float32: weight of the own label."""
    mask: Tensor
    """(b, 1, h, w) or (b, 1, 1, 1) float32: the partner's weight per pixel."""
    partner: Tensor
    """(b,) int64: index of each image's partner in the batch."""


def draw_share(
    ratio: float, b: int, rng: np.random.Generator, concentration: float = 2.0
) -> Tensor:
    """Draw wanted partner shares, (b,) float32, with ``E[1 - lam] = ratio``.

    The law is ``1 - lam ~ Beta(c * ratio, c * (1 - ratio))`` with c the concentration;
    0 and 1 are exact.
    """
    if ratio in (0.0, 1.0):
        return torch.full((b,), ratio)
    return torch.from_numpy(
        rng.beta(concentration * ratio, concentration * (1 - ratio), b).astype(np.float32)
    )


def as_targets(labels: Tensor, num_classes: int, smoothing: float = 0.0) -> Tensor:
    """Return class probabilities, (b, k) float32, from int labels (b,) or from probabilities.

    Smoothing gives each class ``smoothing / k`` of the mass. It comes before mixing; both are
    linear, so the order would not matter.
    """
    if labels.is_floating_point():
        targets = labels.float()
    else:
        targets = F.one_hot(labels.long(), num_classes).float()
    return targets * (1 - smoothing) + smoothing / num_classes if smoothing else targets


def batch_pairs(
    n: int, batch_size: int, pairing: str, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Pair within each of the consecutive batches of ``n`` images.

    Returns:
        The partner's position, (n,) int64, and the batch that each image is in, (n,) int64.
    """
    pair = PAIRINGS[pairing]
    starts = range(0, n, batch_size)
    partner = [start + pair(min(batch_size, n - start), rng) for start in starts]
    return np.concatenate(partner), np.arange(n) // batch_size


def mix_batch(
    images: Tensor,
    labels: Tensor,
    action: MixAction,
    *,
    num_classes: int,
    rng: np.random.Generator,
    saliency: Tensor | None = None,
    classifier: Classifier | None = None,
    settings: MixSettings = DEFAULTS,
    batch_size: int | None = None,
) -> Mixed:
    """Mix one batch, or several consecutive batches at once.

    Args:
        images: (b, c, h, w) float, any range, any memory format; not modified.
        labels: (b,) int classes or (b, k) class probabilities; not modified.
        action: What to do.
        num_classes: k.
        rng: Every draw comes from here.
        saliency: (b, h, w) maps that sum to 1, for a guided action; an unguided one ignores them.
            Computed by the action's provider if not given.
        classifier: images -> logits, for providers that need one.
        settings: How the action is carried out.
        batch_size: Images are paired within consecutive batches of this size; default all.

    Returns:
        New tensors; for an action that mixes nothing, the images themselves.

    Raises:
        ConfigError: If the saliency provider needs a classifier and none is given.
    """
    action = action.resolved()
    targets = as_targets(labels, num_classes)
    partner, batch = batch_pairs(len(images), batch_size or len(images), settings.pairing, rng)
    partner_index = torch.from_numpy(partner).to(images.device)
    share = _shares(action.ratio, batch, rng, settings).to(images.device)
    if action.saliency == OFF:
        saliency = None
    elif saliency is None:
        saliency = _saliency_of(action, images, targets, classifier)
    mask = MIXES[action.method](
        share,
        (images.shape[2], images.shape[3]),
        ratio=action.ratio,
        rng=rng,
        own=saliency,
        partner=None if saliency is None else saliency[partner_index],
    )
    if settings.mix_probability < 1:
        played = _played(batch, rng, settings.mix_probability).to(share)
        mask, share = mask * played[:, None, None, None], share * played
    lam = LABEL_RULES[settings.label_rule](mask, share)
    return Mixed(
        images=blend(images, partner_index, mask) if action.mixes else images,
        targets=blend_targets(targets, partner_index, lam),
        lam=lam,
        mask=mask,
        partner=partner_index,
    )


def _shares(
    ratio: float, batch: np.ndarray, rng: np.random.Generator, settings: MixSettings
) -> Tensor:
    """Draw the wanted partner share of each image, (n,), one an image or one a batch."""
    unit = batch if settings.share_per == "batch" else np.arange(len(batch))
    share = draw_share(ratio, int(unit[-1]) + 1, rng, settings.concentration)
    return share[torch.from_numpy(unit)]


def _played(batch: np.ndarray, rng: np.random.Generator, probability: float) -> Tensor:
    """Draw which batches are mixed at all: 1 or 0 for each image, (n,)."""
    return torch.from_numpy((rng.random(int(batch[-1]) + 1) < probability)[batch])


def _saliency_of(
    action: MixAction, images: Tensor, targets: Tensor, classifier: Classifier | None
) -> Tensor:
    provider = SALIENCY.entry(action.saliency)
    if classifier is None:
        if provider.tags["needs_classifier"]:
            raise ConfigError(
                f"saliency {action.saliency!r} needs a classifier and got none",
                "pass classifier=..., or use 'spectral', which needs the images only",
            )
        classifier = torch.nn.Identity()
    if not isinstance(classifier, torch.nn.Module):
        return provider.value(images, targets, classifier)
    with frozen_running_statistics(classifier):
        return provider.value(images, targets, classifier)


def blend(images: Tensor, partner: Tensor, mask: Tensor) -> Tensor:
    """Return ``(1 - mask) * own + mask * partner``; exact where the mask is 0 or 1."""
    return torch.lerp(images, images[partner], mask.to(images.dtype))


def blend_targets(targets: Tensor, partner: Tensor, lam: Tensor) -> Tensor:
    """Return ``lam * own + (1 - lam) * partner`` of class probabilities (b, k)."""
    return torch.lerp(targets[partner], targets, lam[:, None].to(targets.dtype))
