"""Co-Mixup: objective and solver against a slow twin and planted cases; shares, parts, batches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch.testing import assert_close

from automix.core.seeding import generator
from automix.masks.pairing import Pairs
from automix.mixes import MixInputs
from automix.mixes.comixup import Puzzle, comixup, parted, solve
from tests.automix.mixes.drawing import mixed
from tests.cases import each
from tests.references import comixup as twin


def numbers(seed, *shape):
    return torch.from_numpy(generator(seed, "comixup").random(shape, dtype=np.float32))


def puzzle_of(seed, p=3, m=5, grid=(4, 4), **changes):
    worth = numbers(seed, p, m, *grid) ** 2
    g = grid[0] * grid[1]
    apart = numbers(seed + 1, p, m, m)
    return Puzzle(
        **{
            "worth": worth / worth.sum((2, 3), keepdim=True),
            "alike": 0.99 * torch.eye(m) + 0.01 * (apart + apart.mT),
            "there": torch.ones(p, m, dtype=torch.bool),
            "own": numbers(seed + 2, p, m),
            "area": torch.full(grid, 1 / g),
            "beta": 0.32 / g,
            "gamma": 1.0 * g,
            "threshold": 0.83,
        }
        | changes
    )


def images_of(n, size=(16, 16)):
    return numbers(9, n, 3, *size)


def draw_of(n, size=(16, 16), batch_size=None, guided=True, share=None):
    maps = numbers(7, n, *size) ** 3
    maps = maps / maps.sum((1, 2), keepdim=True)
    pairs = Pairs(np.roll(np.arange(n), 1), batch_size or n, neighbours=True)
    share = numbers(8, n).numpy() if share is None else np.full(n, share, np.float32)
    own = maps if guided else None
    return MixInputs(share, size, 0.5, generator(0, "draw"), own, own, images_of(n, size), pairs)


def test_the_objective_is_that_of_the_slow_twin():
    puzzle = puzzle_of(0)
    weights = numbers(5, 3, 5, 5, 4, 4) ** 4
    weights /= weights.sum(2, keepdim=True)
    for i, got in enumerate(puzzle(weights)):
        wanted = twin.objective(
            weights[i].tolist(),
            puzzle.worth[i].tolist(),
            puzzle.alike[i].tolist(),
            (0.32, 1.0, 0.83),
        )
        assert_close(float(got), wanted, atol=1e-4, rtol=1e-5)


@each("grid", [(4, 4), (2, 4), (1, 1)])
def test_more_rounds_are_never_worse_than_the_greedy_start(grid):
    puzzle = puzzle_of(10, p=20, m=9, grid=grid)
    found = [puzzle(solve(puzzle, niter, 3)[0]) for niter in (0, 1, 4)]
    assert bool((found[1] >= found[0]).all())
    assert bool((found[2] >= found[1]).all())
    if grid == (4, 4):
        assert found[2].mean() > found[0].mean() + 0.1


def test_weights_of_every_cell_sum_to_1_and_the_own_ones_to_the_own_share():
    puzzle = puzzle_of(20, p=20, m=9, gamma=0.0)
    for count in (1, 3):
        weights, others = solve(puzzle, 4, count)
        assert_close(weights.sum(2), torch.ones(20, 9, 4, 4))
        assert_close(puzzle.shares(weights).diagonal(dim1=1, dim2=2), puzzle.own)
        assert int((weights.sum((3, 4)) > 0).sum(2).max()) == 1 + count
        assert bool((others != torch.arange(9)[:, None]).all())


def test_planted_quarters_are_covered():
    """Each of four images has all its saliency in a quarter of its own, and keeps a quarter."""
    worth = torch.zeros(1, 4, 4, 4)
    for i, (y, x) in enumerate(((0, 0), (0, 2), (2, 0), (2, 2))):
        worth[0, i, y : y + 2, x : x + 2] = 0.25
    puzzle = puzzle_of(
        0, p=1, m=4, worth=worth, own=torch.full((1, 4), 0.25), alike=torch.eye(4)[None], gamma=0.0
    )
    weights, _ = solve(puzzle, 4, 3)
    assert_close(weights, (worth > 0).float()[:, None].expand(-1, 4, -1, -1, -1))


def test_a_popular_image_is_shown_less_where_showing_it_again_costs():
    """One image is worth more than all others everywhere; each keeps half of itself."""
    worth = numbers(30, 1, 8, 4, 4) * 0.01
    worth[:, 0] += 0.05
    puzzle = puzzle_of(
        0, p=1, m=8, worth=worth, own=torch.full((1, 8), 0.5), alike=torch.eye(8)[None]
    )
    shown = [
        float(p.shares(solve(p, 4, 3)[0])[0, 1:, 0].sum())
        for p in (replace(puzzle, gamma=0.0), puzzle)
    ]
    assert shown[0] > 3
    assert shown[1] < 1.5


def test_borders_that_cost_more_are_fewer():
    rough, smooth = (puzzle_of(40, p=20, gamma=0.0, beta=beta) for beta in (0.0, 0.1))
    borders = []
    for puzzle in (rough, smooth):
        weights, _ = solve(puzzle, 4, 3)
        borders.append(sum(float((weights.diff(dim=axis) ** 2).sum()) for axis in (3, 4)))
    assert borders[1] < 0.8 * borders[0]


@each("size", [(16, 16), (7, 5), (3, 2), (1, 9)])
@each("guided", [False, True])
def test_the_own_share_is_what_was_wanted_on_any_size(guided, size):
    draw = draw_of(30, size, guided=guided)
    layers = comixup(draw)
    assert_close(layers.areas()[:, 0], 1 - torch.from_numpy(draw.share), atol=1e-5, rtol=0)
    assert_close(layers.weights.sum(1), torch.ones_like(layers.weights[:, 0]))


@each("n, batch_size", [(50, 25), (45, 21), (9, 4), (1, 1), (3, 1)])
def test_sources_are_images_of_the_same_batch_the_image_itself_first(n, batch_size):
    layers = comixup(draw_of(n, batch_size=batch_size))
    sources = torch.as_tensor(layers.sources)
    assert torch.equal(sources[:, 0], torch.arange(n))
    assert bool((sources // batch_size == torch.arange(n)[:, None] // batch_size).all())
    # An image alone in its batch stays as it is; of the others, each shows some that differ.
    areas = layers.areas()
    alone = torch.arange(n) // batch_size * batch_size == n - 1
    if batch_size == 1:
        alone = torch.ones(n, dtype=torch.bool)
    assert torch.equal(areas[alone, 0], torch.ones(int(alone.sum())))
    assert bool((areas[~alone, 0] < 1).all())
    shown = torch.where(areas > 0, sources, -1 - torch.arange(sources.shape[1]))
    assert bool((shown.sort(1).values.diff(dim=1) != 0).all()), "an image is shown as two"


def test_parts_are_consecutive_and_nearly_of_one_size():
    members, there = parted(27, 21, 20)
    assert [row[kept].tolist() for row, kept in zip(members, there, strict=True)] == [
        list(range(11)),
        list(range(11, 21)),
        list(range(21, 27)),
    ]
    assert (members[1:, -1] == [11, 21]).all()


def test_as_many_images_are_shown_as_wanted_and_their_labels_say_how_much():
    value = torch.arange(12.0)
    images = value[:, None, None, None].expand(-1, 3, 9, 14).contiguous()
    result = mixed("comixup@0.5", images, options=["comixup.shown=3"], batch_size=5)
    assert_close(result.images.mean((1, 2, 3)), result.targets @ value)
    assert int((result.targets > 0).sum(1).max()) == 3
