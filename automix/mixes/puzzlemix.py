"""PuzzleMix: the mask of least energy, and salient blocks moved to where they show.

Paper: Kim et al. 2020, "Puzzle Mix: Exploiting Saliency and Local Statistics for Optimal Mixup",
arXiv:2009.06962, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import numpy as np
import torch
from torch import Tensor

from automix.core.settings import Range, within
from automix.masks.grids import Grid, fitted, parts, spread, summed
from automix.masks.recipes import Recipe
from automix.masks.shapes import Cells, Constant, as_tensor
from automix.masks.transport import transported
from automix.mixes import MIXES, MixInfo, MixInputs

GRIDS = (2, 4, 8, 16)
"""Cells per side, one drawn per image; each divides the next."""

LABELS = (0.0, 0.5, 1.0)
"""What a cell's weight may be."""

ROUNDS = 8
"""How often the cells answer their neighbours."""


_check = within(t_size=Range(1), **dict.fromkeys(("eta", "beta", "gamma", "t_eps"), Range(0)))


@MIXES.register("puzzlemix", MixInfo(guided=True, looks=True, moves=True))
def puzzlemix(
    inputs: MixInputs,
    *,
    eta: float = 0.2,
    beta: float = 1.2,
    gamma: float = 0.5,
    transport: bool = True,
    t_eps: float = 0.8,
    t_size: int = 4,
) -> Recipe | Constant:
    """Show each image where it is salient, in smooth regions that salient blocks are moved into.

    Cells of a random grid get the weight 0, 1/2 or 1 of the partner, so that little saliency is
    hidden and borders are few and unseen. Then blocks of each image change places, so that salient
    ones come to where their image shows.

    Formula:
        M minimises, over cells of 0, 1/2 and 1 with a mean of s,
            sum M S_own + (1 - M) S_partner - eta / k^2 sum log Binomial(2 M; 2, s)
            + beta / (16 k) sum dM^2 + beta gamma / (16 k) sum d
        S: saliency in a cell; dM: step of M across a border of two cells
        d: mean distance of the pixels that meet there; k: cells a side, one of 2, 4, 8 and 16
        blocks: swaps lower  sum t_eps (distance moved)^2 - (how much shows) (saliency of the block)

    Args:
        inputs: What was wanted.
        eta: What the prior weighs, 0 or more; as the share is met, more means more blended cells.
        beta: What borders of the mask cost, 0 or more.
        gamma: What a border costs beside that where the pixels on its two sides differ.
        transport: Whether blocks are moved.
        t_eps: What it costs to move a block across the image, 0 or more.
        t_size: Pixels of a block's side, above 0; larger where an image had more than 16 of them.

    Guided:
        S is the saliency of the image and of its partner, in the mask and in the blocks. Unguided,
        maps that are random from cell to cell take its place.

    Differs:
        - The official code cuts graphs image by image. Here the same energy is lowered for all
          images at once, by rounds in which every cell answers its neighbours; the best round is
          kept.
        - The share, which the prior asks for, is also met to half a cell: only masks that meet it
          are compared.
        - The official transport may show a block twice and lose another. Here blocks change places
          in pairs, so that all are there in the end.
        - The unguided form is ours.
    """
    _check(eta=eta, beta=beta, gamma=gamma, t_eps=t_eps, t_size=t_size)
    if inputs.ratio in (0.0, 1.0):
        return Constant(inputs.share)
    grid_of = inputs.rng.integers(len(GRIDS), size=len(inputs.share))
    own, partner = _maps(inputs, grid_of)
    share = as_tensor(inputs.share, own.device)
    finest = fitted(GRIDS[-1], inputs.size)
    labels = own.new_empty(len(share), *finest)
    for number, cells in enumerate(GRIDS):
        chosen = np.flatnonzero(grid_of == number)
        if len(chosen) == 0:
            continue
        grid, rows = fitted(cells, inputs.size), as_tensor(chosen, own.device)
        energy = energy_of(own[rows], partner[rows], share[rows], grid, eta=eta, beta=beta)
        start = filled(energy.of_each(), share[rows], inputs.size)
        if inputs.images is not None and inputs.pairs is not None:
            theirs = as_tensor(inputs.pairs.partner[chosen], own.device)
            energy = with_pixels(energy, inputs.images[rows], inputs.images[theirs], beta * gamma)
        labels[rows] = spread(solve(energy, start, share[rows], inputs.size), finest)
    mask = Cells(labels, inputs.size)
    if not transport:
        return Recipe(mask)
    shown = spread(labels, inputs.size)
    return Recipe(
        mask,
        own=transported(1 - shown, own, eps=t_eps, side=t_size, of_partner=False),
        partner=transported(shown, partner, eps=t_eps, side=t_size, of_partner=True),
    )


@dataclass(frozen=True, slots=True)
class Energy:
    """What labels of u grids cost."""

    own: Tensor
    """(u, rows, columns): what each cell loses where the own image is not shown."""
    partner: Tensor
    """The same of the partner."""
    prior: Tensor
    """(u, 3): what a cell of each label costs, whichever it is."""
    down: Tensor
    """(u, rows - 1, columns): what a border between a cell and the one below it costs."""
    across: Tensor
    """(u, rows, columns - 1): between a cell and the one right of it."""

    def __call__(self, labels: Tensor) -> Tensor:
        """Return the energy, (u,), of labels (u, rows, columns)."""
        number = (labels * (len(LABELS) - 1)).long().flatten(1)
        cells = labels * self.own + (1 - labels) * self.partner
        borders = (self.down * labels.diff(dim=1) ** 2).sum((1, 2))
        borders = borders + (self.across * labels.diff(dim=2) ** 2).sum((1, 2))
        return cells.sum((1, 2)) + self.prior.gather(1, number).sum(1) + borders

    def of_each(self, near: Tensor | None = None) -> Tensor:
        """Return what each label of each cell costs, (u, 3, rows, columns).

        Up to what is the same for all labels, with the neighbours as in ``near``, (u, rows,
        columns) in [0, 1], or without any.
        """
        slope, square = self.own - self.partner, torch.zeros_like(self.own)
        if near is not None:
            for border, axis in ((self.down, 1), (self.across, 2)):
                n = border.shape[axis]
                for one, other in ((0, 1), (1, 0)):
                    square.narrow(axis, one, n).add_(border)
                    slope.narrow(axis, one, n).sub_(2 * border * near.narrow(axis, other, n))
        costs = torch.stack([label * slope + label**2 * square for label in LABELS], 1)
        return costs + self.prior[:, :, None, None]


def energy_of(
    own: Tensor, partner: Tensor, share: Tensor, grid: Grid, *, eta: float, beta: float
) -> Energy:
    """Return the energy without the pixels: saliency not shown, the prior, borders of the mask.

    Args:
        own: (u, h, w) saliency of the images; each sums to 1.
        partner: The same of the partners.
        share: (u,) wanted weight of the partner.
        grid: Rows and columns.
        eta: What the prior, -log Binomial(2, share), weighs.
        beta: What a border weighs.
    """
    lam = (1 - share.double()).clamp(1e-9, 1 - 1e-9)
    ours, theirs = lam.log(), (1 - lam).log()
    prior = -torch.stack([2 * ours, log(2) + ours + theirs, 2 * theirs], 1)
    border = beta / (max(grid) * 16)  # the official code's scale
    lost = summed(own, grid)
    return Energy(
        own=lost,
        partner=summed(partner, grid),
        prior=(prior * (eta / (grid[0] * grid[1]))).float(),
        down=torch.full_like(lost[:, 1:], border),
        across=torch.full_like(lost[:, :, 1:], border),
    )


def with_pixels(energy: Energy, own: Tensor, partner: Tensor, weight: float) -> Energy:
    """Add what unlike pixels on the two sides of a border cost.

    For labels of 0 and 1 it is, but for a constant, the mean distance of the pixels that meet at
    each border, in units of the two images' range. Like the paper's it is continued to 1/2 by a
    slope for each cell and a square for each border.

    Args:
        energy: Without the pixels.
        own: (u, c, h, w) the images.
        partner: The same of their partners.
        weight: beta * gamma.
    """
    rows, columns = energy.own.shape[1:]
    images = torch.stack([own, partner], 1)
    reach = (images.amax((1, 2, 3, 4)) - images.amin((1, 2, 3, 4))).float().clamp(min=1e-12)
    scale = (weight / (max(rows, columns) * 16) / reach)[:, None, None]
    mine, theirs = energy.own.clone(), energy.partner.clone()
    borders = []
    for axis, met in (
        (1, _meeting(images, rows, columns)),
        (2, [d.mT for d in _meeting(images.mT, columns, rows)]),
    ):
        both_own, own_first, own_last, both_partner = (scale * distance for distance in met)
        n = both_own.shape[axis]
        for one, shown, hidden in ((0, own_last, own_first), (1, own_first, own_last)):
            mine.narrow(axis, one, n).add_(shown + both_partner, alpha=0.5)
            theirs.narrow(axis, one, n).add_(hidden + both_own, alpha=0.5)
        borders.append((own_first + own_last - both_own - both_partner) / 2)
    return Energy(mine, theirs, energy.prior, energy.down + borders[0], energy.across + borders[1])


def _meeting(images: Tensor, rows: int, columns: int) -> list[Tensor]:
    """Return the mean distance of the pixels on the two sides of each border between rows.

    Args:
        images: (u, 2, c, h, w): the images and their partners.
        rows: Of the grid.
        columns: Of the grid.

    Returns:
        Four times (u, rows - 1, columns): own above own, own above partner, partner above own,
        partner above partner.
    """
    height, width = images.shape[3:]
    below = as_tensor(-(-np.arange(1, rows) * height // rows), images.device)
    # In one memory layout, as sums in another order would round otherwise.
    above, below = (images.index_select(3, at).float().contiguous() for at in (below - 1, below))
    part = summed(torch.ones(1, 1, width, device=images.device), (1, columns))[0]
    return [
        summed((above[:, i] - below[:, j]).abs().mean(1), (rows - 1, columns)) / part
        for i in (0, 1)
        for j in (0, 1)
    ]


def filled(costs: Tensor, share: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the labels that cost least among those that show the wanted share.

    Every cell goes from 0 to 1 in two half steps, each worth what it saves per pixel; the best are
    taken until the share is met as nearly as half steps allow. This finds the offset of the
    partner's cost at which the cheapest labels have that share, by one sort.

    Args:
        costs: (u, 3, rows, columns) of the labels 0, 1/2 and 1.
        share: (u,) wanted mean label.
        size: (h, w) of the images: cells count by their pixels.

    Returns:
        (u, rows, columns).
    """
    grid = (costs.shape[2], costs.shape[3])
    area = as_tensor(parts(size, grid), costs.device).flatten()
    none, half, full = costs.flatten(2).unbind(1)
    first, second = none - half, half - full
    # Where one half alone is worth less than both together, both are worth as much as each other.
    both = (none - full) / 2
    leaps = second > first
    steps = torch.stack([torch.where(leaps, both, step) for step in (first, second)], 1) / area
    order = steps.flatten(1).argsort(stable=True, dim=1, descending=True)
    width = (area / 2).repeat(2)[order]
    taken = width.cumsum(1) - width / 2 <= share[:, None]
    labels = torch.zeros_like(width).scatter(1, order, taken.float() / 2)
    return labels.unflatten(1, (2, *grid)).sum(1)


def solve(energy: Energy, start: Tensor, share: Tensor, size: tuple[int, int]) -> Tensor:
    """Lower the energy of labels that show the wanted share.

    Each round all cells answer what their neighbours have been so far, on the mean of all rounds,
    so that two that wait for each other do not swing for ever.

    Args:
        energy: What labels cost.
        start: (u, rows, columns) labels to begin with.
        share: (u,) wanted mean label.
        size: (h, w) of the images.

    Returns:
        Labels whose energy is never above that of the start, image by image.
    """
    best, least, near = start, energy(start), start
    for number in range(ROUNDS):
        labels = filled(energy.of_each(near), share, size)
        cost = energy(labels)
        better = cost < least
        best = torch.where(better[:, None, None], labels, best)
        least = torch.where(better, cost, least)
        near = torch.lerp(near, labels, 2 / (number + 3))
    return best


def _maps(inputs: MixInputs, grid_of: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return the saliency of the images and of their partners, or maps random on their grids."""
    if inputs.own is not None and inputs.partner is not None:
        return inputs.own, inputs.partner
    device = torch.device("cpu") if inputs.images is None else inputs.images.device
    finest = fitted(GRIDS[-1], inputs.size)
    cells = torch.empty(2, len(grid_of), *finest)
    for number, side in enumerate(GRIDS):
        chosen = np.flatnonzero(grid_of == number)
        drawn = inputs.rng.random((2 * len(chosen), *fitted(side, inputs.size)), dtype=np.float32)
        cells[:, chosen] = spread(torch.from_numpy(drawn), finest).unflatten(0, (2, -1))
    maps = spread(cells.flatten(0, 1).to(device), inputs.size)
    own, partner = (maps / maps.sum((1, 2), keepdim=True)).chunk(2)
    return own, partner
