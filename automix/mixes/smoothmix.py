"""SmoothMix: paste the partner through a Gaussian bump, without hard edges.

Paper: Lee et al. 2020, "SmoothMix: a simple yet effective data augmentation to train robust
classifiers", CVPR workshops, section 3.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from automix.masks.placing import peak_of
from automix.masks.shapes import Outer, as_tensor
from automix.mixes import MIXES, MixInfo, MixInputs

NARROW_AND_WIDE = (24.0, -24.0)
"""Where log2 of ``1 / (2 sigma^2)`` is looked for; sigma in sides, from 1/6000 to 3000."""

HALVINGS = 26
"""After which the share is met to about a millionth."""


@MIXES.register("smoothmix", MixInfo(guided=True))
def smoothmix(inputs: MixInputs) -> Outer:
    """Weigh the partner by a Gaussian bump, as wide as makes its mean over the image ``share``.

    There is no edge that would tell a classifier where the partner begins. The centre is uniform
    over the image. Where even a bump of one pixel would show more than the share, it is lower.

    Formula:
        M = exp(-d^2 / (2 sigma^2))
        sigma: such that mean(M) = s, by bisection
        d: distance to the centre, in heights and widths of the image

    Guided:
        The centre is the partner's most salient pixel.

    Differs:
        - The paper draws the width, 0.25 to 0.5 of the side, and the share follows. Here the width
          follows from the wanted share, so that a ratio means what it means elsewhere.
        - On images that are not square the bump is as much longer as they are.
        - The guided form is ours; the paper has none.
    """
    if inputs.partner is None:
        centre = torch.from_numpy(inputs.rng.random((len(inputs.share), 2), dtype=np.float32))
        rows, columns = _bump(torch.from_numpy(inputs.share), centre, inputs.size)
        return Outer(rows.numpy(), columns.numpy())
    sides = zip(peak_of(inputs.partner).unbind(1), inputs.size, strict=True)
    centre = torch.stack([(at + 0.5) / side for at, side in sides], 1)
    return Outer(*_bump(as_tensor(inputs.share, centre.device), centre, inputs.size))


def _bump(share: Tensor, centre: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the rows (u, h) and columns (u, w) of bumps of the wanted shares.

    Args:
        share: (u,) in [0, 1].
        centre: (u, 2): row and column, in sides from the upper left corner.
        size: (h, w) of the images.
    """
    far = [
        (centre[:, axis, None] - (torch.arange(side, device=share.device) + 0.5) / side).square()
        for axis, side in enumerate(size)
    ]
    narrow, wide = (torch.full_like(share, edge) for edge in NARROW_AND_WIDE)
    for _ in range(HALVINGS):
        middle = (narrow + wide) / 2
        enough = _mean(far, middle.exp2()) >= share
        wide, narrow = torch.where(enough, middle, wide), torch.where(enough, narrow, middle)
    steepness = torch.where(share < 1, wide.exp2(), 0.0)
    rows, columns = (torch.exp(-steepness[:, None] * part) for part in far)
    mean = (rows.mean(1) * columns.mean(1)).clamp(min=torch.finfo(torch.float32).tiny)
    return rows * (share / mean).clamp(max=1)[:, None], columns


def _mean(far: list[Tensor], steepness: Tensor) -> Tensor:
    """Return the mean over the pixels, (u,), of bumps that are this steep."""
    rows, columns = (torch.exp(-steepness[:, None] * part).mean(1) for part in far)
    return rows * columns
