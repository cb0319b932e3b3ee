"""PuzzleMix: energy, solver and transport against slow twins, exact minima and planted cases."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch.testing import assert_close

from automix.core.seeding import generator
from automix.masks.grids import spread, summed
from automix.masks.shapes import Constant
from automix.masks.transport import Moved, plan, transported
from automix.mixes import MixInputs
from automix.mixes.puzzlemix import GRIDS, energy_of, filled, puzzlemix, solve, with_pixels
from tests.automix.mixes.drawing import mixed
from tests.cases import each
from tests.references import puzzlemix as twin

CPU = torch.device("cpu")


def numbers(seed, *shape):
    return torch.from_numpy(generator(seed, "puzzlemix").random(shape, dtype=np.float32))


def maps(seed, *shape):
    found = numbers(seed, *shape) ** 2
    return found / found.sum((-2, -1), keepdim=True)


def energies(seed, u, grid, size, weight=0.6):
    """Energies with pixels, and what each starts from."""
    own, partner = maps(seed, 2 * u, *size).chunk(2)
    images, share = numbers(seed + 1, 2, u, 3, *size), numbers(seed + 2, u)
    energy = energy_of(own, partner, share, grid, eta=0.2, beta=1.2)
    start = filled(energy.of_each(), share, size)
    return with_pixels(energy, images[0], images[1], weight), start, share


@each("grid, size", [((2, 2), (5, 7)), ((4, 2), (8, 3)), ((1, 4), (1, 9))])
def test_the_energy_is_that_of_the_slow_twin(grid, size):
    own, partner = maps(1, 6, *size).chunk(2)
    share = torch.tensor([0.2, 0.5, 0.9])
    energy = energy_of(own, partner, share, grid, eta=0.3, beta=1.2)
    labels = (numbers(2, 3, *grid) * 3).floor() / 2
    for i, got in enumerate(energy(labels)):
        cells = [twin.pooled(one[i].tolist(), *grid) for one in (own, partner)]
        wanted = twin.energy(labels[i].tolist(), *cells, float(share[i]), (0.3, 1.2))
        assert_close(float(got), wanted, atol=1e-6, rtol=1e-5)


@each("grid, size", [((2, 2), (5, 7)), ((4, 2), (8, 3)), ((1, 4), (1, 9))])
def test_pixels_add_their_mean_distance_at_every_border_of_a_hard_mask(grid, size):
    """Up to what no mask changes, so that energies are compared with that of an empty mask."""
    images = numbers(3, 2, 1, 3, *size)
    bare = energy_of(*maps(1, 2, 1, *size), torch.tensor([0.4]), grid, eta=0.2, beta=0.0)
    full = with_pixels(bare, images[0], images[1], 0.7)
    none = torch.zeros(1, *grid)
    for seed in range(5):
        labels = (numbers(seed, 1, *grid) < 0.5).float()
        got = (full(labels) - bare(labels)) - (full(none) - bare(none))
        own, partner = (image[0].tolist() for image in images)
        with_mask, without = (
            twin.pixel_energy(mask[0].tolist(), own, partner, 0.7) for mask in (labels, none)
        )
        assert_close(float(got), with_mask - without, atol=1e-6, rtol=1e-4)


def test_what_each_label_costs_is_the_difference_of_energies():
    energy, labels, _ = energies(4, 1, (4, 4), (8, 8))
    each = energy.of_each(labels)[0, :, 1, 2]
    totals = []
    for label in (0.0, 0.5, 1.0):
        labels[0, 1, 2] = label
        totals.append(energy(labels)[0])
    assert_close(each - each[0], torch.stack(totals) - totals[0], atol=1e-6, rtol=0)


@each("grid", [(2, 2), (2, 4)])
def test_the_labels_are_all_but_always_the_best_of_their_share(grid):
    """All 81 labelings of a 2x2 grid, all 6561 of a 2x4 one."""
    u, size = 20, (8, 16)
    energy, start, share = energies(5, u, grid, size)
    got = solve(energy, start, share, size)
    every = torch.tensor(list(itertools.product((0, 0.5, 1), repeat=grid[0] * grid[1])))
    every = every.view(-1, *grid)
    costs = torch.stack([energy(labels.expand(u, *grid)) for labels in every], 1)
    alike = (every.mean((1, 2)) - got.mean((1, 2))[:, None]).abs() < 1e-6
    least = torch.where(alike, costs, torch.inf).amin(1)
    most = torch.where(alike, costs, -torch.inf).amax(1)
    over = (energy(got) - least) / (most - least).clamp(min=1e-9)
    assert (over < 1e-5).float().mean() >= 0.95
    assert over.max() < 0.02
    assert bool((energy(start) > least + 1e-5).any()), "the start was the best already"


@each("grid, size", [((2, 2), (4, 4)), ((16, 16), (31, 40)), ((4, 1), (9, 1))])
def test_the_energy_is_never_above_that_of_thresholded_saliency(grid, size):
    energy, start, share = energies(6, 40, grid, size)
    got = solve(energy, start, share, size)
    assert bool((energy(got) <= energy(start)).all())
    if grid[0] > 4:
        assert (energy(got) < energy(start)).float().mean() > 0.9


def test_the_start_is_thresholded_saliency_with_the_wanted_share():
    """Without a prior no cell is blended: the cells where the partner leads most."""
    own, partner = maps(7, 2, 1, 8, 8)
    energy = energy_of(own, partner, torch.tensor([0.25]), (4, 4), eta=0.0, beta=1.2)
    lead = (summed(partner, (4, 4)) - summed(own, (4, 4))).flatten()
    wanted = (lead >= lead.sort().values[-4]).float().view(1, 4, 4)
    assert torch.equal(filled(energy.of_each(), torch.tensor([0.25]), (8, 8)), wanted)


def test_a_planted_region_is_found():
    """Saliency lies in opposite halves: each image shows in its own, whatever the noise."""
    own = torch.zeros(1, 16, 16)
    own[:, :8] = 1
    partner = 1 - own
    noisy = [
        one + 0.2 * noise
        for one, noise in zip((own, partner), numbers(8, 2, 1, 16, 16), strict=True)
    ]
    noisy = [one / one.sum() for one in noisy]
    share = torch.tensor([0.5])
    energy = energy_of(*noisy, share, (8, 8), eta=0.2, beta=1.2)
    got = solve(energy, filled(energy.of_each(), share, (16, 16)), share, (16, 16))
    assert torch.equal(spread(got, (16, 16)), partner)


@each("size", [(32, 32), (7, 5), (1, 9), (4, 4)])
@each("guided", [False, True])
def test_the_wanted_share_is_met_to_half_a_cell(guided, size):
    u = 200
    share = numbers(9, u).numpy()
    own, partner = maps(10, 2, u, *size) if guided else (None, None)
    recipe = puzzlemix(MixInputs(share, size, 0.5, generator(0, "draw"), own, partner))
    off = np.abs(recipe.mask.area().numpy() - share)
    largest = 1 / min(GRIDS[0], size[0]) / min(GRIDS[0], size[1])
    if min(size) % 4 == 0:
        assert off.max() <= largest / 4 + 1e-6  # half of a half step
        assert off.mean() < 0.02
    assert off.max() <= largest / 2


def test_equal_maps_still_meet_the_share():
    flat = torch.full((50, 8, 8), 1 / 64)
    share = numbers(11, 50).numpy()
    recipe = puzzlemix(MixInputs(share, (8, 8), 0.5, generator(0, "draw"), flat, flat))
    assert np.abs(recipe.mask.area().numpy() - share).max() <= 1 / 16 + 1e-6


@each("share", [0.0, 1.0])
def test_no_share_and_all_of_it_are_exact_even_when_drawn(share):
    shares = np.full(40, share, np.float32)
    recipe = puzzlemix(MixInputs(shares, (9, 12), 0.4, generator(1, "draw")))
    assert bool((recipe.mask.dense(CPU) == share).all())
    for moved in (recipe.own, recipe.partner):
        assert torch.equal(moved.source, torch.arange(moved.source.shape[1]).expand(40, -1))
    whole = puzzlemix(MixInputs(shares, (9, 12), share, generator(1, "draw")))
    assert isinstance(whole, Constant), "of a law that draws nothing else nothing is solved"


# Transport --------------------------------------------------------------------------------------


@each("shape, eps", [((4, 4), 0.8), ((8, 8), 0.05), ((3, 7), 0.2), ((1, 5), 0.1)])
def test_the_plan_is_a_permutation_near_the_cheapest(shape, eps):
    u = 20
    weight = (numbers(12, u, *shape) < 0.5).float()
    mass = maps(13, u, *shape)
    source = plan(weight, mass, eps)
    places = np.arange(shape[0] * shape[1])
    saved = best = 0.0
    for i in range(u):
        costs = np.array(twin.transport_costs(weight[i].tolist(), mass[i].tolist(), eps))
        assert sorted(source[i].tolist()) == places.tolist()
        got, stay = costs[source[i].numpy(), places].sum(), costs.diagonal().sum()
        assert got <= stay + 1e-6
        saved += stay - got
        best += stay - costs[linear_sum_assignment(costs)].sum()
    assert saved >= 0.95 * best
    assert best > 0


def test_a_salient_block_moves_to_where_the_image_shows():
    weight, mass = torch.zeros(1, 2, 2), torch.zeros(1, 2, 2)
    weight[0, 0, 1], mass[0, 0, 0] = 1, 1
    assert plan(weight, mass, 0.1).tolist() == [[1, 0, 2, 3]]
    assert plan(weight, mass, 0.6).tolist() == [[0, 1, 2, 3]], "moving two blocks costs 1.2"


@each("size", [(8, 8), (9, 14), (4, 6), (3, 2), (1, 1), (40, 70)])
def test_transport_keeps_every_pixel(size):
    """Blocks keep their insides, and what fills no block its place."""
    u, saliency = 5, maps(14, 5, *size)
    moved = transported(
        (numbers(15, u, *size) < 0.5).float(), saliency, eps=0.001, side=4, of_partner=False
    )
    number = torch.arange(size[0] * size[1]).view(1, 1, *size).expand(u, 3, -1, -1)
    got = moved(number, number + 1000)
    assert torch.equal(got.flatten(2).sort().values, number.flatten(2))
    high, wide = (side - side % moved.side for side in size)
    assert torch.equal(got[:, :, high:], number[:, :, high:])
    assert torch.equal(got[:, :, :, wide:], number[:, :, :, wide:])
    if high and wide:
        corner = got[:, 0, 0, 0]
        assert torch.equal(
            got[:, 0, moved.side - 1, moved.side - 1] - corner,
            torch.full((u,), (moved.side - 1) * (size[1] + 1)),
        )
        if min(high, wide) > moved.side:
            assert not torch.equal(got, number)
    assert_close(moved.maps(saliency, saliency).sum((1, 2)), torch.ones(u))


def test_maps_move_as_their_pixels_do_and_only_those_of_the_image_that_moves():
    own, partner = maps(16, 2, 3, 8, 8)
    moved = Moved(torch.tensor([[1, 2, 3, 0]]).repeat(3, 1), 4, of_partner=True)
    shown = moved.maps(own, partner)
    assert torch.equal(shown, moved(own[:, None], partner[:, None])[:, 0])
    assert torch.equal(shown[:, :4, :4], partner[:, :4, 4:])
    assert torch.equal(moved[np.array([1])].maps(own[1:2], partner[1:2]), shown[1:2])


# Batches ----------------------------------------------------------------------------------------


def test_what_is_shown_is_the_moved_images_by_the_mask():
    images, saliency = numbers(17, 12, 3, 16, 16), maps(18, 12, 16, 16)
    with_moves, without = (
        mixed("puzzlemix@0.5+spectral", images, saliency=saliency, options=options)
        for options in (["puzzlemix.t_eps=0.01"], ["puzzlemix.transport=false"])
    )
    assert torch.equal(with_moves.mask, without.mask)
    assert torch.equal(with_moves.targets, without.targets)
    assert_close(without.images, torch.lerp(images, images[without.partner], without.mask))
    assert not torch.allclose(with_moves.images, without.images)


def test_each_image_shows_more_of_its_saliency_where_blocks_moved():
    """What transport is for: the label rules are told of maps that moved with the pixels."""
    own, partner = maps(19, 2, 60, 16, 16) ** 3
    own, partner = (one / one.sum((1, 2), keepdim=True) for one in (own, partner))
    share = np.full(60, 0.5, np.float32)
    recipe = puzzlemix(
        MixInputs(share, (16, 16), 0.5, generator(0, "draw"), own, partner), t_eps=0.0
    )
    mask = recipe.mask.dense(CPU)[:, 0]
    for weight, map_, moved in ((1 - mask, own, recipe.own), (mask, partner, recipe.partner)):
        blocks = summed(weight, (4, 4)) / 16
        before, after = (
            (blocks * summed(m, (4, 4))).sum((1, 2)) for m in (map_, moved.maps(own, partner))
        )
        assert bool((after >= before - 1e-6).all())
        assert after.mean() > before.mean() + 0.015
