"""Targets: class probabilities from labels, before and after mixing; made nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor

from automix.labels import Seen, Watch, Weights
from automix.masks.pairing import Pairs
from automix.masks.recipes import Layers
from automix.masks.shapes import Mask, as_tensor
from automix.mixing.blending import blend_rows
from automix.mixing.checks import check_range


@dataclass(frozen=True, slots=True)
class Revised:
    """Makes targets once the classifier has seen the mixed images."""

    make: Callable[[Tensor, Tensor | None, slice], Tensor]
    watch: Watch | None = None
    """How the classifier has to be asked; None if its logits are enough."""
    mask: Mask | None = None
    """n masks: where the partner is, for the watch."""

    def __call__(self, logits: Tensor, rows: slice, watched: Tensor | None = None) -> Tensor:
        """Return targets (b, k).

        Args:
            logits: (b, k) of some of the mixed images.
            rows: Which of them.
            watched: (b,) what the watch saw; without it the targets are as if it saw the area.
        """
        return self.make(logits, watched, rows)

    def masks(self, rows: np.ndarray, images: Tensor) -> Tensor:
        """Return the masks (b, 1, h, w) of those rows for images (b, c, h, w)."""
        assert self.mask is not None
        dense = self.mask[rows].dense(images.device)
        return dense.expand(-1, -1, *images.shape[2:])

    def asked(self, net: nn.Module, images: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        """Return logits (b, k) and targets (b, k) of mixed images (b, c, h, w) in those rows."""
        if self.watch is None:
            logits = net(images)
            return logits, self(logits, rows)
        here = np.arange(rows.start or 0, (rows.start or 0) + len(images))
        logits, watched = self.watch(net, images, self.masks(here, images))
        return logits, self(logits, rows, watched)


def as_targets(labels: Tensor, num_classes: int, smoothing: float = 0.0) -> Tensor:
    """Return class probabilities, (b, k) float32, from int labels (b,) or from probabilities.

    Smoothing gives each class ``smoothing / k`` of the mass. It comes before mixing; both are
    linear, so the order would not matter.
    """
    if labels.is_floating_point():
        targets = labels.float()
    else:
        classes, targets = (
            labels.long(),
            torch.zeros(len(labels), num_classes, device=labels.device),
        )
        if len(classes) and not classes.is_cuda:
            check_range(int(classes.min()), int(classes.max()), num_classes)
        targets.scatter_(1, classes[:, None], 1.0)
    return targets * (1 - smoothing) + smoothing / num_classes if smoothing else targets


def mix_targets(labels: Tensor, num_classes: int, pairs: Pairs, lam: Tensor) -> Tensor:
    """Return ``lam * own + (1 - lam) * partner`` of class probabilities, (b, k) float32.

    Args:
        labels: (b,) int classes or (b, k) class probabilities.
        num_classes: k.
        pairs: The partner of each image.
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
    if len(own):  # where they are costs a third of what they are, in arrays as short as a batch
        check_range(own.item(own.argmin()), own.item(own.argmax()), num_classes)
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


def weighed_targets(labels: Tensor, num_classes: int, pairs: Pairs, weights: Weights) -> Tensor:
    """Return targets, (b, k) float32, of two labels with weights of their own.

    Args:
        labels: (b,) int classes or (b, k) class probabilities.
        num_classes: k.
        pairs: The partner of each image.
        weights: Of each label, and of its share that goes to all classes alike.
    """
    own = as_targets(labels, num_classes)
    partner = own[as_tensor(pairs.partner, own.device)]
    targets = _summed(weights.own, own, weights.partner, partner)
    if weights.blur is None:
        return targets
    # Rows that weigh more in the loss than others do so blurred, too.
    level = own.sum(1, keepdim=True) / num_classes, partner.sum(1, keepdim=True) / num_classes
    return targets + _summed(weights.blur[0], level[0], weights.blur[1], level[1])


def _summed(mine: Tensor, own: Tensor, theirs: Tensor, partner: Tensor) -> Tensor:
    """Return rows of two tables with weights, (b,) each, added up."""
    return mine.to(own)[:, None] * own + theirs.to(own)[:, None] * partner


def revise(weights: Weights, mask: Mask, labels: Tensor, num_classes: int, pairs: Pairs) -> Revised:
    """Return what makes the targets of mixed images anew once a classifier has seen them.

    Args:
        weights: With a ``revision``.
        mask: n masks.
        labels: (b,) int classes or (b, k) class probabilities.
        num_classes: k.
        pairs: The partner of each image.
    """
    revision = weights.revision
    assert revision is not None
    own = as_targets(labels, num_classes)
    # A row's sum is its weight in the loss, which says nothing about its classes.
    classes = own / own.sum(1, keepdim=True)
    other = as_tensor(pairs.partner, own.device)

    def make(logits: Tensor, watched: Tensor | None, rows: slice) -> Tensor:
        predicted, theirs = logits.detach().float().softmax(1), other[rows]
        mine, partner = (predicted * classes[rows]).sum(1), (predicted * classes[theirs]).sum(1)
        lam = revision(Seen(mine, partner, watched), rows)
        return _summed(lam, own[rows], 1 - lam, own[theirs])

    return Revised(make, weights.watch, mask)


def layered_targets(labels: Tensor, num_classes: int, layers: Layers) -> Tensor:
    """Return targets, (b, k) float32: each label weighs what its image shows."""
    own = as_targets(labels, num_classes)
    sources, areas = as_tensor(layers.sources, own.device), layers.areas().to(own.device)
    return torch.stack([areas[:, i, None] * own[sources[:, i]] for i in range(areas.shape[1])]).sum(
        0
    )
