"""Co-Mixup: fill each output with the salient cells of several images of its batch.

Paper: Kim et al. 2021, "Co-Mixup: Saliency Guided Joint Mixup with Supermodular Diversity",
arXiv:2102.03065, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from automix.core.settings import Range, within
from automix.masks.grids import Grid, fitted, parts, summed
from automix.masks.recipes import Layers
from automix.masks.shapes import as_tensor
from automix.mixes import MIXES, MixInfo, MixInputs

GRID = 4
"""Cells a side."""

ALPHA = 2.0
"""Of the Dirichlet law of how popular each image is."""

NEVER = -1e4
"""The worth of what must not be chosen."""


_check = within(
    **dict.fromkeys(("beta", "gamma", "eta", "threshold", "niter"), Range(0)),
    **{"omega": Range(0, 1), "part": Range(2), "shown": Range(2)},
)


@MIXES.register("comixup", MixInfo(guided=True, looks=True, layers=True))
def comixup(
    inputs: MixInputs,
    *,
    beta: float = 0.32,
    gamma: float = 1.0,
    eta: float = 0.05,
    omega: float = 0.001,
    threshold: float = 0.83,
    niter: int = 4,
    part: int = 20,
    shown: int = 4,
) -> Layers:
    """Show the salient cells of several images of the batch, and none of them too often.

    All outputs of a part of the batch are chosen together: they show as much saliency as they can,
    in regions that hang together, and what others show already is worth less. Each image keeps the
    cells where it leads most, as many as its share leaves it, the last one blended; the rest go to
    the images that are worth most there.

    Formula:
        z maximises  sum z (S + eta a log p) - beta / (2 n) sum dz^2 - gamma n sum q c
        where q of the own image is 1 - s
        z: weight of an image in a cell of an output; dz: its step from a cell to the next
        S: the image's saliency in the cell; a: the cell's part of the image; n: cells, 4 x 4
        p ~ Dirichlet(2): how popular each image of the part is
        q = sum a z: share of an image in an output
        c = A (q of the other outputs), where that is above the threshold, else 0
        A = (1 - omega) I + omega D; D: distances of saliency peaks, rows summing to 1 in the mean

    Args:
        inputs: What was wanted.
        beta: What borders between two images cost, 0 or more.
        gamma: What showing an image that others show already costs, 0 or more.
        eta: What the prior weighs, random popularities of the images, 0 or more.
        omega: How much images count as alike the farther apart their peaks are, in [0, 1].
        threshold: From which share of an image on what others show of it counts; 0 or more.
        niter: How often every output is filled anew, 0 or more; 0 is the greedy start.
        part: Most images that are mixed with each other, 2 or more.
        shown: Most images in one output, itself included, 2 or more.

    Guided:
        S is the saliency of all images of the part. Unguided, it is random from cell to cell.

    Differs:
        - The paper's outputs belong to no image, and its shares are what they become. Here each
          belongs to one, which keeps what its share leaves it, so that the ratio means what it
          means elsewhere.
        - The official code cuts a graph for one output after the other. Here every output takes, in
          turn, what is best given the others, for all parts of all batches at once; of all rounds
          the best is kept, part by part.
        - Cells are whole, but for the one that meets the share; the official code may also halve
          them between images. An output shows ``shown`` images at most, which bounds what is
          blended.
        - The unguided form is ours.
    """
    _check(beta=beta, gamma=gamma, eta=eta, omega=omega, threshold=threshold)
    _check(niter=niter, part=part, shown=shown)
    n, grid = len(inputs.share), fitted(GRID, inputs.size)
    members, there = parted(n, n if inputs.pairs is None else inputs.pairs.batch_size, part)
    if members.shape[1] == 1:  # no other image to be mixed with
        return Layers(members, np.ones((n, 1, 1, 1), np.float32), inputs.size)
    popularity = np.where(there, inputs.rng.standard_gamma(ALPHA, there.shape), 0)
    popularity /= popularity.sum(1, keepdims=True)
    prior = (eta * np.log(popularity + 1e-8)).astype(np.float32)
    # An image alone stays as it is.
    own = np.where(there.sum(1, keepdims=True) > 1, 1 - inputs.share[members], np.float32(1))
    maps = _cells(inputs, grid)
    device = maps.device
    saliency, area = maps[as_tensor(members, device)], as_tensor(parts(inputs.size, grid), device)
    puzzle = Puzzle(
        worth=saliency + as_tensor(prior, device)[:, :, None, None] * area,
        alike=_alike(saliency, as_tensor(there, device), omega),
        there=as_tensor(there, device),
        own=as_tensor(own, device),
        area=area,
        beta=beta / area.numel(),
        gamma=gamma * area.numel(),
        threshold=threshold,
    )
    weights_of, others = solve(puzzle, niter, min(shown, members.shape[1]) - 1)
    return _layers(weights_of, others, members, there, inputs.size)


@dataclass(frozen=True, slots=True)
class Puzzle:
    """P parts of m images, and as many outputs: what it is worth to show which cell of which."""

    worth: Tensor
    """(P, m, rows, columns): what each image's cells are worth."""
    alike: Tensor
    """(P, m, m): how much showing one image counts as showing the other."""
    there: Tensor
    """(P, m) bool: false for places that a smaller part leaves empty."""
    own: Tensor
    """(P, m): how much of each output its own image gets, in [0, 1]."""
    area: Tensor
    """(rows, columns): each cell's part of an image."""
    beta: float
    """What a border costs."""
    gamma: float
    """What showing a whole image costs that others show once."""
    threshold: float
    """How much others must show of an image for that to count."""

    def __call__(self, weights: Tensor) -> Tensor:
        """Return the objective, (P,), of weights (P, m outputs, m images, rows, columns)."""
        covered = (weights * self.worth[:, None]).sum((1, 2, 3, 4))
        borders = sum((weights.diff(dim=axis) ** 2).sum((1, 2, 3, 4)) for axis in (3, 4))
        shares = self.shares(weights)
        elsewhere = self.counted(shares.sum(1, keepdim=True) - shares)
        return covered - self.beta / 2 * borders - self.gamma * (shares * elsewhere).sum((1, 2))

    def shares(self, weights: Tensor) -> Tensor:
        """Return how much each output shows of each image, (P, m outputs, m images)."""
        return (weights * self.area).sum((3, 4))

    def counted(self, elsewhere: Tensor) -> Tensor:
        """Return how much of what other outputs show of each image counts, (P, outputs, m)."""
        alike = elsewhere @ self.alike
        return torch.where(alike > self.threshold, alike, 0)


def solve(puzzle: Puzzle, niter: int, others: int) -> tuple[Tensor, Tensor]:
    """Fill the outputs one by one, then ``niter`` times anew, and keep each part's best.

    Args:
        puzzle: P parts of m images.
        niter: How often; 0 is the greedy start, which knows the outputs before it only.
        others: Most other images in an output.

    Returns:
        Weights (P, m outputs, m images, rows, columns), whose objective is never below that of
        the greedy start, part by part, and which the others are, (P, m outputs, others) int64.
    """
    p, m = puzzle.own.shape
    present = puzzle.there[:, :, None, None, None]
    weights = torch.diag_embed(puzzle.own)[..., None, None] * present
    weights = weights.repeat(1, 1, 1, *puzzle.area.shape)
    chosen = torch.zeros(p, m, others, dtype=torch.int64, device=weights.device)
    average = torch.zeros_like(weights)
    best, best_chosen, most = weights, chosen, torch.full_like(puzzle.own[:, 0], -torch.inf)
    for number in range(niter + 1):
        weights, chosen = weights.clone(), chosen.clone()
        shares = puzzle.shares(weights)
        # One output of every part at a time: the next must know what this one shows.
        for j in range(m):
            near = average[:, j] if number else torch.zeros_like(weights[:, j])
            elsewhere = puzzle.counted((shares.sum(1) - shares[:, j])[:, None])[:, 0]
            weights[:, j], chosen[:, j] = _filled(puzzle, j, near, elsewhere, others)
            weights[:, j] *= present[:, j]
            shares[:, j] = puzzle.shares(weights[:, j : j + 1])[:, 0]
        # All cells of an output answer at once: on the mean of what their neighbours have been, two
        # that wait for each other do not swing for ever.
        average = torch.lerp(average, weights, 2 / (number + 2))
        objective = puzzle(weights)
        better = objective > most
        most = torch.where(better, objective, most)
        best = torch.where(better[:, None, None, None, None], weights, best)
        best_chosen = torch.where(better[:, None, None], chosen, best_chosen)
    return best, best_chosen


def _filled(
    puzzle: Puzzle, j: int, near: Tensor, elsewhere: Tensor, others: int
) -> tuple[Tensor, Tensor]:
    """Fill the output j of every part with what is best given all other outputs.

    Args:
        puzzle: P parts of m images.
        j: Which output.
        near: (P, m, rows, columns): its weights so far, which the cells next to them follow.
        elsewhere: (P, m): how much of what other outputs show of each image counts.
        others: How many other images to choose.

    Returns:
        Its weights (P, m, rows, columns), and the others (P, others) int64.
    """
    crowded = (2 * puzzle.gamma * elsewhere)[:, :, None, None] * puzzle.area
    worth = puzzle.worth - crowded + puzzle.beta * _neighbours(near)
    mine, theirs = worth[:, j], worth.masked_fill(~puzzle.there[:, :, None, None], NEVER)
    theirs[:, j] = NEVER
    kept = _kept(puzzle, mine - theirs.amax(1), puzzle.own[:, j])
    rows = torch.arange(len(mine), device=mine.device)
    cover, picked = torch.full_like(mine, NEVER), []
    left = torch.ones_like(puzzle.there)
    left[:, j] = False
    for _ in range(others):
        # The image that adds most to those that were picked, where the own one does not show.
        gain = ((1 - kept)[:, None] * torch.maximum(cover[:, None], theirs)).sum((2, 3))
        picked.append(gain.masked_fill(~left, -torch.inf).argmax(1))
        left = left.scatter(1, picked[-1][:, None], False)
        cover = torch.maximum(cover, theirs[rows, picked[-1]])
    chosen = torch.stack(picked, 1)
    kept = _kept(puzzle, mine - cover, puzzle.own[:, j])
    first = theirs[rows[:, None], chosen].argmax(1)
    source = chosen.gather(1, first.flatten(1)).view_as(first)
    weights = torch.zeros_like(near).scatter(1, source[:, None], (1 - kept)[:, None])
    weights[:, j] = kept
    return weights, chosen


def _kept(puzzle: Puzzle, lead: Tensor, own: Tensor) -> Tensor:
    """Return what the own image keeps, (P, rows, columns), of cells that it leads by so much.

    The cells with most lead per pixel, until it has its share (P,); the last one is blended.
    """
    area = puzzle.area.flatten().expand(len(lead), -1)
    order = (lead.flatten(1) / area).argsort(stable=True, dim=1, descending=True)
    width = area.gather(1, order)
    kept = ((own[:, None] - (width.cumsum(1) - width)) / width).clamp(0, 1)
    kept = torch.where(own[:, None] >= 1, 1, kept)  # which a sum of parts may miss
    return torch.zeros_like(kept).scatter(1, order, kept).view_as(lead)


def _neighbours(values: Tensor) -> Tensor:
    """Return the sum of each cell's neighbours above, below, left and right of it."""
    padded = F.pad(values, (1, 1, 1, 1))
    down = padded[..., :-2, 1:-1] + padded[..., 2:, 1:-1]
    return down + padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:]


def parted(n: int, batch_size: int, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide consecutive batches into consecutive parts of nearly one size.

    Returns:
        Positions (P, m) int64 of the images of each part, and which are there, (P, m) bool:
        smaller parts are filled up with their first image.
    """
    found: list[np.ndarray] = []
    for start in range(0, n, batch_size):
        batch = np.arange(start, min(start + batch_size, n))
        found += np.array_split(batch, -(-len(batch) // most))
    m = max(map(len, found))
    there = np.arange(m) < np.array([len(part) for part in found])[:, None]
    members = np.stack([np.append(part, np.repeat(part[:1], m - len(part))) for part in found])
    return members, there


def _layers(
    weights: Tensor, others: Tensor, members: np.ndarray, there: np.ndarray, size: tuple[int, int]
) -> Layers:
    """Return the weights of each output's own image and of its others."""
    p, m = there.shape
    device = weights.device
    own = torch.arange(m, device=device).expand(p, m)[:, :, None]
    shown = torch.cat([own, others], 2)
    at = shown[..., None, None].expand(-1, -1, -1, *weights.shape[3:])
    # Parts are in the order of the images, so that what is there is, too.
    present = as_tensor(np.flatnonzero(there), device)
    sources = as_tensor(members, device)[:, None].expand(p, m, m).gather(2, shown)
    return Layers(
        sources.flatten(0, 1)[present], weights.gather(2, at).flatten(0, 1)[present], size
    )


def _alike(saliency: Tensor, there: Tensor, omega: float) -> Tensor:
    """Return (1 - omega) I + omega D, (P, m, m), with D the distances of the saliency peaks.

    They are scaled to a mean row sum of 1, as the official code scales them.
    """
    columns = saliency.shape[3]
    peak = saliency.flatten(2).argmax(2)
    at = torch.stack([peak // columns, peak % columns], 2).float()
    apart = torch.cdist(at, at) * (there[:, :, None] & there[:, None])
    scale = there.sum(1) / apart.sum((1, 2)).clamp(min=1e-12)
    same = torch.eye(there.shape[1], device=there.device)
    return (1 - omega) * same + omega * apart * scale[:, None, None]


def _cells(inputs: MixInputs, grid: Grid) -> Tensor:
    """Return the saliency of each image in each cell, (n, rows, columns), or random numbers."""
    if inputs.own is not None:
        return summed(inputs.own, grid)
    drawn = inputs.rng.random((len(inputs.share), *grid), dtype=np.float32)
    device = torch.device("cpu") if inputs.images is None else inputs.images.device
    return as_tensor(drawn / drawn.sum((1, 2), keepdims=True), device)
