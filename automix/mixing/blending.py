"""The blend: ``(1 - mask) * own + mask * partner``, near the speed of a copy.

What costs is memory: reading each image once more, or writing anything beside the result. So
partners are read where they are if they are neighbours, and gathered a few at a time into memory
that stays in the cache if not; masks that need more than that are made a few at a time as well.
Boxes of short numbers need no mask at all: they are copied.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from automix.masks.pairing import Pairs
from automix.masks.recipes import Layers, Recipe, for_each
from automix.masks.shapes import Boxes, Constant, Mask, as_tensor

BLOCK = 1 << 20
"""Bytes of partners, or of masks, that are made at a time on a CPU: what stays in its cache."""

BIG = 1 << 17
"""Bytes of an image from which on a call for each costs less than gathering several."""


def blend(images: Tensor, pairs: Pairs, mask: Mask, out: Tensor | None = None) -> Tensor:
    """Return ``(1 - mask) * own + mask * partner``; exact where the mask is 0 or 1.

    Args:
        images: (n, c, h, w) float, or uint8, whose blends are rounded to the nearest, halves up.
        pairs: The partner of each image.
        mask: One for each image, for each batch, or for all.
        out: As ``images``, any strides; must not share memory with it. By default new memory.

    Returns:
        ``out``.
    """
    if len(mask) not in (1, len(images)):
        mask = mask[pairs.batch]
    if images.requires_grad:  # autograd takes no ``out``
        partner = images[as_tensor(pairs.partner, images.device)]
        mixed = torch.lerp(images, partner, mask.dense(images.device).to(images.dtype))
        return mixed if out is None else out.copy_(mixed)
    if out is None:
        out = torch.empty_like(images)
    # A lerp of float32 is as fast as copies of large images, and faster than those of small ones.
    if isinstance(mask, Boxes) and mask.on_host and images.is_cpu and images.element_size() < 4:
        _paste(images, pairs.partner, mask, out)
    elif pairs.neighbours and images.is_floating_point():
        _blend_neighbours(images, pairs.batch_size, mask, out)
    else:
        _blend_gathered(images, pairs.partner, mask, out)
    return out


def blend_moved(images: Tensor, pairs: Pairs, recipe: Recipe, out: Tensor | None = None) -> Tensor:
    """Blend what a recipe puts in the place of the images and of their partners; as ``blend``.

    An image whose mask is empty stays as it is.
    """
    own = images if images.is_floating_point() else images.float()
    mask = recipe.mask if len(recipe.mask) == len(images) else recipe.mask[pairs.batch]
    partner = own[as_tensor(pairs.partner, images.device)]
    mine, theirs = (
        image if moved is None else for_each(moved, pairs)(own, partner)
        for image, moved in ((own, recipe.own), (partner, recipe.partner))
    )
    weight = mask.dense(images.device).to(own.dtype)
    mixed = torch.lerp(mine, theirs, weight)
    if recipe.own is not None:
        empty = (weight == 0).flatten(1).all(1)[:, None, None, None]
        mixed = torch.where(empty, own, mixed)
    return _as_images(mixed, images, out)


def blend_layers(images: Tensor, layers: Layers, out: Tensor | None = None) -> Tensor:
    """Return the weighted sum of the layers' images; ``out`` as in ``blend``."""
    own = images if images.is_floating_point() else images.float()
    sources = as_tensor(layers.sources, images.device)
    mixed = layers.layer(0).dense(images.device).to(own.dtype) * own
    for i in range(1, sources.shape[1]):
        weight = layers.layer(i).dense(images.device).to(own.dtype)
        mixed = mixed.addcmul(weight, own[sources[:, i]])
    return _as_images(mixed, images, out)


def _as_images(mixed: Tensor, images: Tensor, out: Tensor | None) -> Tensor:
    """Return mixed images in the dtype of the images: bytes are rounded, halves up."""
    if not images.is_floating_point():
        mixed = mixed.add_(0.5).short()
    if out is None and mixed.dtype == images.dtype:
        return mixed
    return (torch.empty_like(images) if out is None else out).copy_(mixed)


def blend_rows(rows: Tensor, pairs: Pairs, lam: Tensor) -> Tensor:
    """Return ``lam * own + (1 - lam) * partner`` of rows (n, k)."""
    # Rows are short: gathered, they are mixed in one call, where neighbours would take three.
    partner = rows.index_select(0, as_tensor(pairs.partner, rows.device))
    return rows.lerp(partner, (1 - lam)[:, None])


def _paste(images: Tensor, partner: np.ndarray, boxes: Boxes, out: Tensor) -> None:
    """Copy each image, and its box from its partner while it is in the cache."""
    n, (source, target) = len(images), (_as_ints(images), _as_ints(out))
    corners = np.broadcast_to(np.hstack([boxes.first, boxes.end]), (n, 4)).tolist()
    partners = partner.tolist()
    step = max(1, BLOCK // (images.numel() // n * images.element_size()))
    for start in range(0, n, step):
        rows = range(start, min(start + step, n))
        out[start : rows.stop].copy_(images[start : rows.stop])
        for i in rows:
            top, left, bottom, right = corners[i]
            box = source[partners[i], :, top:bottom, left:right]
            target[i, :, top:bottom, left:right] = box


def _as_ints(images: Tensor) -> np.ndarray:
    """Return the same memory in numpy, which has no bfloat16."""
    return images.view(torch.uint8 if images.element_size() == 1 else torch.int16).numpy()


def _blend_neighbours(images: Tensor, batch_size: int, mask: Mask, out: Tensor) -> None:
    """Blend each image with the one before it, the first of each batch with its last."""
    n = len(images)
    weight, step = _weights(mask, images)
    # All as one long row of neighbours first; the first of each batch is then written over.
    for start in range(1, n, step):
        own = slice(start, min(start + step, n))
        torch.lerp(images[own], images[start - 1 : own.stop - 1], weight(own), out=out[own])
    full = n - n % batch_size
    if full:
        firsts = slice(0, full, batch_size)
        lasts = images[batch_size - 1 : full : batch_size]
        torch.lerp(images[firsts], lasts, weight(firsts), out=out[firsts])
    if full < n:
        first = slice(full, full + 1)
        torch.lerp(images[first], images[n - 1 :], weight(first), out=out[first])


def _blend_gathered(images: Tensor, partner: np.ndarray, mask: Mask, out: Tensor) -> None:
    """Blend with partners from anywhere."""
    n = len(images)
    weight, _ = _weights(mask, images)
    index = as_tensor(partner, images.device)
    step = _gathered_at_once(images)
    for start in range(0, n, step):
        own = slice(start, min(start + step, n))
        if step == 1:
            at = int(partner[start])
            theirs = images[at : at + 1]
        else:
            theirs = images.index_select(0, index[own])
        if images.is_floating_point():
            torch.lerp(images[own], theirs, weight(own), out=out[own])
        else:
            mixed = images[own].float().lerp_(theirs.float(), weight(own)).add_(0.5)
            # This cuts off what is behind the point. Straight into bytes it takes eight times as
            # long: for those torch has no vectors.
            out[own].copy_(mixed.short())


def _weights(mask: Mask, images: Tensor) -> tuple[Callable[[slice], Any], int]:
    """Return what gives the weights of some images, and for how many it should be asked at once.

    Weights are a tensor, or a number if it is one for all.
    """
    n = len(images)
    dtype = images.dtype if images.is_floating_point() else torch.float32
    if isinstance(mask, Constant) and len(mask) == 1 and dtype in (torch.float32, torch.float64):
        one = float(mask.weight[0])  # would not be rounded to half precision, as a tensor is
        return (lambda rows: one), n
    if len(mask) > 1 and images.is_cpu and not isinstance(mask, Constant):
        step = max(1, BLOCK // (4 * images.shape[2] * images.shape[3]))
        if step < n:
            return lambda rows: mask[rows].dense(images.device).to(dtype), step
    weight = mask.dense(images.device).to(dtype)
    return (lambda rows: weight) if len(mask) == 1 else weight.__getitem__, n


def _gathered_at_once(images: Tensor) -> int:
    """Return how many partners are gathered at once; a single one is read where it is."""
    if not images.is_cpu:
        return len(images)
    each = images.numel() // len(images) * max(4, images.element_size())
    return 1 if each >= BIG else max(1, BLOCK // each)
