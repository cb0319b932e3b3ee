"""MUM: mix tiles of images, and unmix the features.

Paper: Kim et al. 2022, "MUM: Mix Image Tiles and UnMix Feature Tiles for Semi-Supervised Object
Detection", arXiv:2111.10958, section 3.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor

from automix.core.errors import ConfigError
from automix.core.settings import Range, within
from automix.masks.method_steps import Step, StepLoss, soft_losses, unseen
from automix.masks.shapes import as_tensor
from automix.mixes import MIXES, MixInfo
from automix.nets.feature_maps import as_map
from automix.nets.stages import Staged, stages

Grid = tuple[int, int]
"""Rows and columns."""


@MIXES.register(
    "mum",
    MixInfo(
        step=True,
        requires=("stages",),
        keeps_label=True,
        check=within(group=Range(2), tiles=Range(2)),
    ),
)
def mum(net: nn.Module, step: Step, *, group: int = 4, tiles: int = 4) -> StepLoss:
    """Exchange tiles among the images of a group, and put the features of each back together.

    The net sees mosaics, but its head sees the features of whole images, in which every tile was
    looked at among strangers; so the label stays.

    Formula:
        y = label of the image
        logits = head(unmix(trunk(mix(images))))
        mix: at each of T places of a group, with T s of them drawn at random, the tiles of its
            images move on by 1 to group - 1 images, drawn for the place; all others stay
        s: mean share of the group

    Args:
        net: The classifier.
        step: The batch.
        group: Images that exchange tiles, above 1. Of a batch that is no multiple of it the last
            images stay whole.
        tiles: Tiles a side, above 1. Where they would cut a place of the last feature map, it is
            the number nearest in ratio that does not.

    Differs:
        - The paper trains detectors without labels, on those that a teacher gives.
        - In the paper every place is permuted at random, which leaves a quarter of the tiles where
          they were: a share of 0.75, more than an action asks for. Here the share says how many
          move, the same number for all images of a group.
        - Maps that no number of tiles fits are refused, where the official code resizes them.
        - A class token, which is of no place, is that of the mosaic, and reads the features of the
          image in the last block.
    """
    images, count = step.images, len(step.images) // group
    if count == 0:
        return StepLoss(soft_losses(net(images), step.targets), torch.ones_like(step.own_share))
    staged = stages(net)
    grid = _tiles(net, staged, images, tiles)
    wanted = step.share[: count * group].reshape(count, group).mean(1)
    shift = shifts(wanted, grid, group, step.rng)
    source = sources(shift, group, len(images))
    found = staged.forward_to(staged.count, exchanged(images, source, grid))
    shown, back = as_map(net, found, images)
    logits = staged.forward_from(staged.count, back(exchanged(shown, source.argsort(0), grid)))
    own = (source == np.arange(len(images))[:, None]).mean(1, dtype=np.float32)
    return StepLoss(soft_losses(logits, step.targets), as_tensor(own, images.device))


def shifts(share: np.ndarray, grid: Grid, group: int, rng: np.random.Generator) -> np.ndarray:
    """Draw by how many images the tiles of each place move on, (groups, places) int64.

    Args:
        share: (groups,) wanted share of places where tiles move, met in the mean.
        grid: Tiles.
        group: Images of a group.
        rng: Every draw.
    """
    places = grid[0] * grid[1]
    moving = np.floor(share * places + rng.random(len(share)))
    rank = rng.random((len(share), places)).argsort(1).argsort(1)
    return rng.integers(1, group, rank.shape) * (rank < moving[:, None])


def sources(shift: np.ndarray, group: int, b: int) -> np.ndarray:
    """Return whose tile each image shows at each place, (b, places) int64; of some their own."""
    groups, places = shift.shape
    within = (np.arange(group)[:, None] + shift[:, None]) % group
    first = np.arange(groups)[:, None, None] * group
    source = np.arange(b)[:, None].repeat(places, 1)
    source[: groups * group] = (first + within).reshape(-1, places)
    return source


def exchanged(maps: Tensor, source: np.ndarray, grid: Grid) -> Tensor:
    """Return maps (b, c, h, w) with each tile from the same place of another; source (b, places).

    Rows and columns of the grid divide h and w.
    """
    (rows, columns), (b, c, h, w) = grid, maps.shape
    tiles = maps.reshape(b, c, rows, h // rows, columns, w // columns).permute(0, 2, 4, 1, 3, 5)
    index = as_tensor(source * (rows * columns) + np.arange(rows * columns), maps.device)
    moved = tiles.flatten(0, 2).index_select(0, index.flatten()).view(tiles.shape)
    return moved.permute(0, 3, 1, 4, 2, 5).reshape(b, c, h, w)


def _tiles(net: nn.Module, staged: Staged, images: Tensor, tiles: int) -> Grid:
    """Return rows and columns of tiles that hold whole places of the last feature map."""
    places, size = _places(net, staged, images), images.shape[2:]
    rows, columns = (_nearest(n, tiles) for n in places)
    whole = all(pixels % n == 0 for pixels, n in zip(size, places, strict=True))
    if rows * columns == 1 or not whole:
        raise ConfigError(
            f"mum cannot cut images of {size[0]} x {size[1]} pixels into tiles: "
            f"{type(net).__name__} makes a last feature map of {places[0]} x {places[1]} places "
            "of them, wanted several, of equally many pixels each",
            "set task.image_size, or take a net that shrinks the image less",
        )
    return rows, columns


def _nearest(places: int, tiles: int) -> int:
    """Return the divisor of the places, above 1 if there is one, that is nearest to the tiles."""
    divisors = [n for n in range(2, places + 1) if places % n == 0]
    return min(divisors, key=lambda n: max(n / tiles, tiles / n), default=1)


def _places(net: nn.Module, staged: Staged, images: Tensor) -> Grid:
    """Return rows and columns of the last feature map, by a look at two images."""
    with torch.no_grad(), unseen(net):
        found = staged.forward_to(staged.count, images[:2])
    high, wide = as_map(net, found, images)[0].shape[2:]
    return high, wide
