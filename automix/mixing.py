"""Mix a batch: the ratio law, one blend, and the one place where targets are made.

``lam`` is the share of an image's own content throughout; 1 is the untouched image
(docs/decisions/0001).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from automix.actions import OFF, MixAction
from automix.blending import blend, blend_rows
from automix.errors import ConfigError
from automix.labels import LABEL_RULES
from automix.masks import Array, Mask, as_mask, as_tensor
from automix.mixes import MIXES, Draw
from automix.pairing import PAIRINGS, Pairs, pair_batches
from automix.saliency import SALIENCY, Classifier
from automix.stacking import frozen_running_statistics


@dataclass(frozen=True, kw_only=True)
class MixSettings:
    """How an action is carried out; fixed for a training, not chosen by the policy."""

    concentration: float = 2.0
    """c of the ratio law; 2 makes ratio 0.5 the papers' Beta(1, 1). Above 0."""
    share_per: Literal["image", "batch"] = "image"
    """Whether each image or each batch has its own draw: of the partner share and, unguided, of
    all that makes its mask."""
    pairing: str = "roll"
    """A name in ``automix.pairing.PAIRINGS``. In a shuffled batch, who stands before whom is a
    uniformly random cycle already, so that ``roll`` is ``derange`` in law and partners need not be
    gathered. Batches that are not shuffled want ``derange``."""
    label_rule: str = "area"
    """A name in ``automix.labels.LABEL_RULES``."""
    mix_probability: float = 1.0
    """Share of batches that are mixed at all, in [0, 1]; an action's own multiplies it."""

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
    masks: Mask
    """What was drawn: one mask for each image, or one for each batch."""
    pairs: Pairs
    """Who was mixed with whom."""

    @property
    def mask(self) -> Tensor:
        """(b, 1, h, w) or (b, 1, 1, 1) float32: the partner's weight per pixel; made anew."""
        each = self.masks if len(self.masks) == len(self.lam) else self.masks[self.pairs.batch]
        return each.dense(self.images.device)

    @property
    def partner(self) -> Tensor:
        """(b,) int64: index of each image's partner in the batch."""
        return as_tensor(self.pairs.partner, self.images.device)


def draw_share(
    ratio: float, u: int, rng: np.random.Generator, concentration: float = 2.0
) -> np.ndarray:
    """Draw wanted partner shares, (u,) float32, with ``E[1 - lam] = ratio``.

    The law is ``1 - lam ~ Beta(c * ratio, c * (1 - ratio))`` with c the concentration;
    0 and 1 are exact.
    """
    if ratio in (0.0, 1.0):
        return np.full(u, ratio, dtype=np.float32)
    return rng.beta(concentration * ratio, concentration * (1 - ratio), u).astype(np.float32)


def as_targets(labels: Tensor, num_classes: int, smoothing: float = 0.0) -> Tensor:
    """Return class probabilities, (b, k) float32, from int labels (b,) or from probabilities.

    Smoothing gives each class ``smoothing / k`` of the mass. It comes before mixing; both are
    linear, so the order would not matter.
    """
    if labels.is_floating_point():
        targets = labels.float()
    else:
        targets = torch.zeros(len(labels), num_classes, device=labels.device)
        targets.scatter_(1, labels.long()[:, None], 1.0)
    return targets * (1 - smoothing) + smoothing / num_classes if smoothing else targets


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
    out: Tensor | None = None,
) -> Mixed:
    """Mix one batch, or several consecutive batches at once.

    Args:
        images: (b, c, h, w) float in any range, or uint8, whose blends are rounded to the
            nearest, halves up. Any memory format; not modified.
        labels: (b,) int classes or (b, k) class probabilities; not modified.
        action: What to do.
        num_classes: k.
        rng: Every draw comes from here.
        saliency: (b, h, w) maps that sum to 1, for a guided action; an unguided one ignores them.
            Computed by the action's provider if not given.
        classifier: images -> logits, for providers that need one.
        settings: How the action is carried out.
        batch_size: Images are paired within consecutive batches of this size; default all.
        out: (b, c, h, w), dtype and device of images, any strides, not sharing memory with
            images: the mixed images are written here and returned as ``Mixed.images``; by default
            new memory, whose first touch can cost more than the mix.

    Returns:
        New tensors, but for ``out``; for an action that mixes nothing and no ``out``, the images
        themselves.

    Raises:
        ConfigError: If the saliency provider needs a classifier and none is given, or ``out`` is
            not like the images.
    """
    if out is not None and (out.shape != images.shape or out.dtype != images.dtype):
        raise ConfigError(
            f"out is {tuple(out.shape)} {out.dtype}, "
            f"wanted that of the images: {tuple(images.shape)} {images.dtype}"
        )
    action = action.resolved()
    pairs = pair_batches(len(images), batch_size or len(images), settings.pairing, rng)
    draw = _draw(action, images, pairs, rng, settings)
    if action.saliency != OFF:
        if saliency is None:
            targets = as_targets(labels, num_classes)
            saliency = _saliency_of(action, images, targets, classifier)
        draw = _guided(draw, saliency.detach(), pairs)
    mask, share = as_mask(MIXES[action.method](draw)), draw.share
    probability = settings.mix_probability * action.mix_probability
    if probability < 1:
        played = _played(len(share), pairs, rng, probability)
        mask, share = mask.only(played), share * played
    lam = _lam(LABEL_RULES[settings.label_rule](mask, share), pairs, images.device)
    if action.mixes:
        mixed = blend(images, pairs, mask, out)
    else:
        mixed = images if out is None else out.copy_(images)
    return Mixed(mixed, mix_targets(labels, num_classes, pairs, lam), lam, mask, pairs)


def _draw(
    action: MixAction,
    images: Tensor,
    pairs: Pairs,
    rng: np.random.Generator,
    settings: MixSettings,
) -> Draw:
    """Draw the wanted partner shares, one an image or one a batch."""
    u = pairs.batches if settings.share_per == "batch" else len(images)
    share = draw_share(action.ratio, u, rng, settings.concentration)
    return Draw(share, (images.shape[2], images.shape[3]), action.ratio, rng)


def _guided(draw: Draw, saliency: Tensor, pairs: Pairs) -> Draw:
    """Let saliency guide the masks: one for each image, whoever shares the wanted share."""
    share = pairs.each(draw.share)
    partner = saliency[as_tensor(pairs.partner, saliency.device)]
    return replace(draw, share=share, own=saliency, partner=partner)


def _played(u: int, pairs: Pairs, rng: np.random.Generator, probability: float) -> np.ndarray:
    """Draw which batches are mixed at all: (u,) bool, for each draw of a mask."""
    played = rng.random(pairs.batches) < probability
    return played if u == len(played) else pairs.each(played)


def _lam(lam: Array, pairs: Pairs, device: torch.device) -> Tensor:
    """Return lam for each image, (n,) on the images' device, from one for each draw of a mask."""
    if isinstance(lam, np.ndarray):
        return as_tensor(pairs.each(lam), device)
    return lam if len(lam) == len(pairs.partner) else lam[as_tensor(pairs.batch, lam.device)]


def mix_targets(labels: Tensor, num_classes: int, pairs: Pairs, lam: Tensor) -> Tensor:
    """Return ``lam * own + (1 - lam) * partner`` of class probabilities, (b, k) float32.

    Args:
        labels: (b,) int classes or (b, k) class probabilities.
        num_classes: k.
        pairs: Who is mixed with whom.
        lam: (b,) float32.
    """
    if labels.is_floating_point():
        return blend_rows(labels.float(), pairs, lam)
    if labels.is_cpu:
        own, share = labels.numpy(), lam.numpy(force=not lam.is_cpu)
        return torch.from_numpy(_class_targets(own, num_classes, pairs.partner, share))
    columns = torch.stack([labels, labels[as_tensor(pairs.partner, labels.device)]], 1).long()
    parts = torch.stack([lam, 1 - lam], 1).to(labels.device)
    targets = torch.zeros(len(lam), num_classes, device=labels.device)
    return targets.scatter_add_(1, columns, parts)


def _class_targets(
    labels: np.ndarray, num_classes: int, partner: np.ndarray, lam: np.ndarray
) -> np.ndarray:
    """Return ``mix_targets`` of int classes on the host, (b, k) float32.

    Straight into zeros: each row gets lam at its own class and the rest at the partner's.
    """
    own = labels.astype(np.int64, copy=False)
    # One look for both ends: read without their sign, classes below 0 are the largest numbers.
    if own.view(np.uint64).max(initial=0) >= num_classes:
        raise RuntimeError(
            f"labels are from {own.min()} to {own.max()}, wanted classes 0 to {num_classes - 1}"
        )
    targets = np.zeros((len(own), num_classes), np.float32)
    # Places in the flat array cost half of pairs of row and column.
    flat, rows = targets.reshape(-1), _row_starts(len(own), num_classes)
    flat[rows + own] = lam
    flat[rows + own[partner]] += 1 - lam
    return targets


@lru_cache(maxsize=16)
def _row_starts(rows: int, columns: int) -> np.ndarray:
    """Return where each row of a (rows, columns) array starts in memory, (rows,) int64."""
    return np.arange(rows) * columns


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
