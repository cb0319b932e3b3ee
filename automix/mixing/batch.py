"""Mix a batch: the ratio law, one blend, and the one place where targets are made.

``lam`` is the share of an image's own content throughout; 1 is the untouched image
(docs/decisions/0001).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from automix.core.errors import ConfigError
from automix.core.settings import check_ranges, setting
from automix.labels import LABEL_RULES, MixRecord, Weights, check_label_rule
from automix.masks.method_steps import StepLoss
from automix.masks.pairing import PAIRINGS, Pairs, pair_batches
from automix.masks.recipes import Layers, Recipe, as_recipe, for_each
from automix.masks.shapes import Array, Mask, as_tensor
from automix.mixes import MIXES, MixInputs
from automix.mixing.actions import OFF, PLAIN, MixAction
from automix.mixing.blending import blend, blend_layers, blend_moved
from automix.mixing.checks import check_images, checked_labels
from automix.mixing.modes import autocast_off, differentiable, uncompiled
from automix.mixing.options import check_values, configured, configured_rule
from automix.mixing.targets import (
    Revised,
    as_targets,
    layered_targets,
    mix_targets,
    revise,
    weighed_targets,
)
from automix.nets.stacking import frozen_running_statistics, same_draws_afterwards
from automix.saliency import SALIENCY, Classifier, check_alone


@dataclass(frozen=True, kw_only=True)
class MixSettings:
    """How an action is carried out; fixed for a training run, not chosen by the policy."""

    concentration: float = setting(2.0, above=0)
    """c of the ratio law; 2 makes ratio 0.5 the papers' Beta(1, 1). Above 0."""
    share_per: Literal["image", "batch"] = "image"
    """Whether each image or each batch has its own draw: of the partner share and, unguided, of
    all that makes its mask."""
    pairing: str = "roll"
    """A name in ``masks.pairing.PAIRINGS``. In a shuffled batch, the order is a
    uniformly random cycle already, so that ``roll`` is ``derange`` in law and partners need not be
    gathered. Batches that are not shuffled want ``derange``."""
    label_rule: str = "area"
    """A name in ``automix.labels.LABEL_RULES``, for actions that name none."""
    options: Sequence[str] = ()
    """``name.parameter=value``: what the paper of a method or label rule leaves open, where not
    its default."""
    mix_probability: float = setting(1.0, least=0, most=1)
    """Share of batches that are mixed at all, in [0, 1]; an action's own multiplies it."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.share_per not in ("image", "batch"):
            raise ConfigError(f"share_per is {self.share_per!r}, wanted 'image' or 'batch'")
        PAIRINGS.entry(self.pairing)
        LABEL_RULES.entry(self.label_rule)
        check_values(self.options)
        object.__setattr__(self, "options", tuple(self.options))  # which can be looked up by


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
    record: MixRecord
    """What was drawn and what it shows."""
    revised: Revised | None = None
    """Makes the targets to train on, once the classifier has seen the mixed images, where the
    label rule lets it have a say; ``targets`` are what they are without it."""

    @property
    def masks(self) -> Mask:
        """What was drawn: one mask for each image, or one for each batch."""
        return self.record.mask

    @property
    def pairs(self) -> Pairs:
        """The partner of each image; of more than two images, the next one in the batch."""
        return self.record.pairs

    @property
    def own_share(self) -> Tensor:
        """(b,) float32: share of the image's own content; lam, under the label rule "area"."""
        return _for_each(1 - self.record.area, self.pairs, self.lam.device)

    @property
    def mask(self) -> Tensor:
        """(b, 1, h, w) or (b, 1, 1, 1) float32: the partner's weight per pixel; made anew."""
        return self.record.masks.dense(self.images.device)

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


@uncompiled
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
            nearest, halves up; or point clouds (b, points, coordinates), for the methods that mix
            them. Any memory format; not modified.
        labels: (b,) or (b, 1) int classes, or (b, k) class probabilities; not modified.
        action: What to do; with an empty batch nothing.
        num_classes: k.
        rng: Every draw comes from here.
        saliency: (b, h, w) maps that sum to 1, for an action that names a provider; others ignore
            them. Computed by the provider if not given.
        classifier: images -> logits, for providers that need one; those that look at the last
            feature map need the net itself.
        settings: How the action is carried out.
        batch_size: Images are paired within consecutive batches of this size; default all.
        out: As images, any strides, not sharing memory with them: the mixed images are written
            here and returned as ``Mixed.images``; by default new memory, whose first touch can
            cost more than the mix.

    Returns:
        New tensors, but for ``out``; for an action that mixes nothing and no ``out``, the images
        themselves.

    Raises:
        ConfigError: If images or labels are of another form or dtype, the method does not mix such
            images, the provider needs a classifier and none is given, or another one, or a trainer,
            the label rule does not fit, or ``out`` is not like the images.
    """
    check_images(images)
    n = images.shape[0]
    labels = checked_labels(labels, n, num_classes)
    _check(images, action, settings, out)
    if not n:
        action = PLAIN
    if action.saliency != OFF and saliency is None:
        saliency = saliency_of(action, images, as_targets(labels, num_classes), classifier)
    maps = saliency.detach() if saliency is not None and action.saliency != OFF else None
    pairs = pair_batches(n, batch_size or n or 1, settings.pairing, rng)
    given = images, labels, action, num_classes, pairs, rng, maps, settings, out
    outside = autocast_off(images)
    if outside is None:
        return _mixed(*given)
    with outside:
        return _mixed(*given)


def _mixed(
    images: Tensor,
    labels: Tensor,
    action: MixAction,
    num_classes: int,
    pairs: Pairs,
    rng: np.random.Generator,
    maps: Tensor | None,
    settings: MixSettings,
    out: Tensor | None,
) -> Mixed:
    """Mix a batch that has been checked."""
    inputs = _inputs_of(action, images, pairs, rng, settings, maps)
    found = configured(action.method, tuple(settings.options))(inputs)
    assert not isinstance(found, StepLoss)  # refused above
    chosen = _mixed_draws(
        len(inputs.share), pairs, rng, settings.mix_probability * action.mix_probability
    )
    if isinstance(found, Layers):
        return _layered(images, labels, num_classes, found, inputs, pairs, chosen, out)
    recipe = as_recipe(found)
    record = _record_of(recipe, inputs, pairs, action, settings, maps, chosen)
    mixed = _blended(images, action, recipe, record, out)
    rule = action.label_rule or settings.label_rule
    return Mixed(mixed, *label(labels, num_classes, record, rule, settings.options))


def label(
    labels: Tensor, num_classes: int, record: MixRecord, rule: str, options: Sequence[str] = ()
) -> tuple[Tensor, Tensor, MixRecord, Revised | None]:
    """Make the targets of a mixed batch.

    Args:
        labels: (b,) int classes or (b, k) class probabilities.
        num_classes: k.
        record: What the images show.
        rule: A name in ``automix.labels.LABEL_RULES``.
        options: Its settings, as ``MixSettings.options``.

    Returns:
        Targets (b, k), weights of the own labels (b,), the record, and what makes the targets
        anew once the classifier has seen the images: the last fields of ``Mixed``.
    """
    pairs, device = record.pairs, labels.device
    if record.keeps_label and not LABEL_RULES.info(rule).erasures:
        whole = torch.ones(len(labels), device=device)
        return as_targets(labels, num_classes).clone(), whole, record, None
    weights = configured_rule(rule, tuple(options))(record)
    if not isinstance(weights, Weights):
        lam = _for_each(weights, pairs, device)
        return mix_targets(labels, num_classes, pairs, lam), lam, record, None
    targets = weighed_targets(labels, num_classes, pairs, weights)
    revised = (
        revise(weights, record.masks, labels, num_classes, pairs) if weights.revision else None
    )
    return targets, weights.own.to(device), record, revised


def _check(images: Tensor, action: MixAction, settings: MixSettings, out: Tensor | None) -> None:
    """Refuse what cannot be mixed as it is asked."""
    if out is not None and (out.shape != images.shape or out.dtype != images.dtype):
        raise ConfigError(
            f"out is {tuple(out.shape)} {out.dtype}, "
            f"wanted that of the images: {tuple(images.shape)} {images.dtype}"
        )
    if not action.mixes:
        return
    check_action(action, settings)
    check_mask(action)
    points = MIXES.info(action.method).points
    if images.dim() != (3 if points else 4):
        wanted = "point clouds (b, points, coordinates)" if points else "images (b, c, h, w)"
        fits = [e.name for e in MIXES.entries() if e.info.points != points]
        raise ConfigError(
            f"{action.method} mixes {wanted}, got {tuple(images.shape)}",
            f"for that shape: {', '.join(fits)}",
        )


def check_action(action: MixAction, settings: MixSettings) -> None:
    """Refuse a trainer's label rule that does not fit an action; the action's own has been checked.

    Raises:
        ConfigError: If it does not.
    """
    if action.label_rule or not action.mixes:
        return
    if not MIXES.info(action.method).keeps_label:
        check_label_rule(settings.label_rule, action, action.method, action.saliency != OFF)


def check_mask(action: MixAction) -> None:
    """Refuse a method that makes training steps of its own, where batches are to be mixed alone.

    Raises:
        ConfigError: If it does; says what to call in its place.
    """
    if action.mixes and MIXES.info(action.method).step:
        raise ConfigError(
            f"{action.method} is a training step of its own: it needs the net, and mix_batch has "
            "images only",
            "train by this project's trainer, or call automix.loss_of in your own loop",
        )


def _inputs_of(
    action: MixAction,
    images: Tensor,
    pairs: Pairs,
    rng: np.random.Generator,
    settings: MixSettings,
    maps: Tensor | None,
) -> MixInputs:
    """Draw the wanted partner shares, one an image or one a batch, and bring what guides."""
    u = pairs.batches if settings.share_per == "batch" else len(images)
    share = draw_share(action.ratio, u, rng, settings.concentration)
    size = (images.shape[1], 1) if images.dim() == 3 else (images.shape[2], images.shape[3])
    inputs = MixInputs(share, size, action.ratio, rng)
    if maps is not None and action.guided:
        # Maps make one mask for each image, even if images have a wanted share in common.
        partner = maps[as_tensor(pairs.partner, maps.device)]
        inputs = replace(inputs, share=pairs.each(share), own=maps, partner=partner)
    if MIXES.info(action.method).looks:
        pixels = images if images.is_floating_point() else images.float()
        inputs = replace(inputs, share=pairs.each(share), images=pixels, pairs=pairs)
    return inputs


def _record_of(
    recipe: Recipe,
    inputs: MixInputs,
    pairs: Pairs,
    action: MixAction,
    settings: MixSettings,
    maps: Tensor | None,
    chosen: np.ndarray | None,
) -> MixRecord:
    """Put together what the label rule can know."""
    mask, share = recipe.mask, inputs.share
    keeps_label = MIXES.info(action.method).keeps_label
    if recipe.partner is not None and not keeps_label:
        # An image alone stays as it is, which a partner that is moved first would not leave it.
        meets = pairs.partner != np.arange(len(pairs.partner))
        if not meets.all():
            if len(mask) != len(meets):
                mask, share = mask[pairs.batch], pairs.each(share)
            chosen = meets if chosen is None else pairs.each(chosen) & meets
    if chosen is not None:
        mask, share = mask.only(chosen), share * chosen
    record = MixRecord(mask, share, pairs, inputs.rng, keeps_label)
    rule = action.label_rule or settings.label_rule
    if maps is None or not LABEL_RULES.info(rule).needs_maps:
        return record
    theirs = maps[as_tensor(pairs.partner, maps.device)]
    mine, theirs = (
        each if moved is None else for_each(moved, pairs).maps(maps, theirs)
        for each, moved in ((maps, recipe.own), (theirs, recipe.partner))
    )
    return replace(record, own=mine, partner=theirs)


def _blended(
    images: Tensor, action: MixAction, recipe: Recipe, record: MixRecord, out: Tensor | None
) -> Tensor:
    if not action.mixes:
        return images if out is None else out.copy_(images)
    if images.dim() == 3:  # points as rows of one column, coordinates as channels
        flat = images.mT[..., None]
        place = None if out is None else out.mT[..., None]
        mixed = blend_moved(flat, record.pairs, replace(recipe, mask=record.mask), place)
        return mixed[..., 0].mT.contiguous() if out is None else out
    if recipe.own is None and recipe.partner is None:
        return blend(images, record.pairs, record.mask, out)
    return blend_moved(images, record.pairs, replace(recipe, mask=record.mask), out)


def _layered(
    images: Tensor,
    labels: Tensor,
    num_classes: int,
    layers: Layers,
    inputs: MixInputs,
    pairs: Pairs,
    chosen: np.ndarray | None,
    out: Tensor | None,
) -> Mixed:
    """Blend more than two images, each labelled by what it shows."""
    layers = layers if chosen is None else layers.only(chosen)
    record = MixRecord(layers.masks(), inputs.share, pairs, inputs.rng)
    lam = _for_each(1 - record.area, pairs, images.device)
    targets = layered_targets(labels, num_classes, layers)
    return Mixed(blend_layers(images, layers, out), targets, lam, record)


def _mixed_draws(
    u: int, pairs: Pairs, rng: np.random.Generator, probability: float
) -> np.ndarray | None:
    """Draw which batches are mixed at all: (u,) bool for each draw of a mask, or None for all."""
    if probability == 1:
        return None
    chosen = rng.random(pairs.batches) < probability
    return chosen if u == len(chosen) else pairs.each(chosen)


def _for_each(values: Array, pairs: Pairs, device: torch.device) -> Tensor:
    """Return values for each image, (n,) on a device, from one for each draw of a mask."""
    if isinstance(values, np.ndarray):
        return as_tensor(pairs.each(values), device)
    return (
        values
        if len(values) == len(pairs.partner)
        else values[as_tensor(pairs.batch, values.device)]
    )


def saliency_of(
    action: MixAction, images: Tensor, targets: Tensor, classifier: Classifier | None
) -> Tensor:
    """Return the maps (b, h, w) of an action's provider, without a trace in the classifier.

    The classifier answers in the precision that autocast gives it; nothing else is in autocast.

    Raises:
        ConfigError: If the provider needs a classifier and none is given, or a trainer.
    """
    provider = SALIENCY.entry(action.saliency)
    check_alone(action.saliency)
    if classifier is None:
        if provider.info.needs_classifier:
            raise ConfigError(
                f"saliency {action.saliency!r} needs a classifier and got none",
                "pass classifier=..., or use 'spectral', which needs the images only",
            )
        classifier = torch.nn.Identity()
    if not provider.info.needs_classifier:
        with autocast_off(images) or nullcontext():
            return provider.value(images, targets, classifier)
    with differentiable(images, targets) as (images, targets):
        if not isinstance(classifier, torch.nn.Module):
            return provider.value(images, targets, classifier)
        with (
            frozen_running_statistics(classifier),
            same_draws_afterwards(images.device, enabled=classifier.training),
        ):
            return provider.value(images, targets, classifier)
