"""MUM: which tiles go where, that they come back, and what the head is asked."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn as nn
from torch.testing import assert_close

from automix.core.errors import ConfigError
from automix.core.seeding import borrowed_global_rng, generator
from automix.masks.method_steps import soft_losses
from automix.mixes.mum import _nearest, exchanged, shifts, sources
from automix.nets.create import create_classifier
from automix.nets.zoo.pooled import PooledNet
from tests.automix.mixes.drawing import noise
from tests.automix.mixes.own_steps import CLASSES, MODELS, images, made, step_of
from tests.automix.nets.test_stages import NETS, net_of
from tests.cases import each

GRIDS = [(4, 4), (2, 3), (1, 4), (8, 12)]


def drawn(share, grid, b=11, group=4, seed=0):
    """Return sources (b, places)."""
    wanted = np.broadcast_to(np.float32(share), b // group)
    return sources(shifts(wanted, grid, group, generator(seed, "mum")), group, b)


def pointwise(*more: nn.Module) -> PooledNet:
    """Sees each pixel by itself."""
    with borrowed_global_rng(0):
        return PooledNet([nn.Conv2d(2, 5, 1), *more, nn.ReLU(), nn.Conv2d(5, 4, 1)], 4, CLASSES)


@each("grid", GRIDS)
@each("share", [0.3, 0.75, 1.0])
def test_unmixing_brings_every_tile_back(grid, share):
    source = drawn(share, grid)
    mosaics = exchanged(images(11), source, grid)
    assert torch.equal(exchanged(mosaics, source.argsort(0), grid), images(11))
    assert not torch.equal(mosaics, images(11))


@each("grid", [(4, 4), (2, 3)])
def test_mosaics_are_those_of_a_slow_twin(grid):
    whole, source = images(9), drawn(0.5, grid, b=9)
    rows, columns = grid
    high, wide = 8 // rows, 12 // columns
    wanted = whole.clone()
    for i in range(9):
        for place in range(rows * columns):
            top, left = place // columns * high, place % columns * wide
            here = (slice(top, top + high), slice(left, left + wide))
            wanted[i][:, here[0], here[1]] = whole[source[i, place]][:, here[0], here[1]]
    assert torch.equal(exchanged(whole, source, grid), wanted)


def test_tiles_move_within_their_group_and_all_at_a_place_or_none():
    source = drawn(0.5, (4, 4), b=11)
    assert (source[8:] == np.arange(8, 11)[:, None]).all()
    for first in (0, 4):
        group = source[first : first + 4]
        assert (np.sort(group, 0) == np.arange(first, first + 4)[:, None]).all()
        moving = (group != np.arange(first, first + 4)[:, None]).sum(0)
        assert set(moving) == {0, 4}
        assert (moving == 4).sum() == 8


@each("share", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_the_share_of_foreign_tiles_is_the_wanted_one(share):
    seeds = range(200)
    foreign = [(drawn(share, (2, 3), 8, seed=s) != np.arange(8)[:, None]).mean() for s in seeds]
    assert np.mean(foreign) == pytest.approx(share, abs=0.02)
    assert max(foreign) - min(foreign) < 1 / 6 + 1e-9


def test_every_place_and_every_other_image_are_as_likely():
    moves = shifts(np.full(3000, 0.5, np.float32), (2, 2), 4, generator(0, "mum"))
    assert (moves > 0).mean(0) == pytest.approx([0.5] * 4, abs=0.04)
    assert [(moves == by).mean() for by in (1, 2, 3)] == pytest.approx([1 / 6] * 3, abs=0.02)


@each("b", [8, 11, 3])
def test_a_net_that_sees_pixels_takes_the_plain_step(b):
    net, step = pointwise(), step_of(images(b), 0.6)
    told = made("mum", net, step)
    assert_close(told.losses, soft_losses(net(step.images), step.targets))
    told.losses.mean().backward()
    found = [weight.grad.clone() for weight in net.parameters()]
    net.zero_grad()
    soft_losses(net(step.images), step.targets).mean().backward()
    for slope, weight in zip(found, net.parameters(), strict=True):
        assert_close(slope, weight.grad)


def test_statistics_of_pixels_do_not_mind_where_they_are():
    net, plain = pointwise(nn.BatchNorm2d(5)).train(), pointwise(nn.BatchNorm2d(5)).train()
    step = step_of(images(8), 0.6)
    assert_close(made("mum", net, step).losses, soft_losses(plain(step.images), step.targets))
    for one, other in zip(net.buffers(), plain.buffers(), strict=True):
        assert_close(one, other)


def test_a_net_that_sees_neighbours_meets_strangers():
    with borrowed_global_rng(0):
        net = PooledNet([nn.Conv2d(2, 5, 3, padding=1), nn.ReLU()], 5, CLASSES)
    step = step_of(images(11), 0.6)
    told, plain = made("mum", net, step), soft_losses(net(step.images), step.targets)
    assert not torch.isclose(told.losses[:8], plain[:8]).any()
    assert_close(told.losses[8:], plain[8:])


def test_the_head_is_asked_of_each_image_by_its_own_places():
    """Image i is the constant i, and the head is a mean: the logits are those of whole images."""
    net = PooledNet([nn.AvgPool2d(2)], 1, CLASSES)
    constants = torch.arange(8.0)[:, None, None, None].expand(8, 1, 8, 8).contiguous()
    step = step_of(constants, 1.0)
    assert_close(made("mum", net, step).losses, soft_losses(net(constants), step.targets))


def test_the_own_share_is_what_is_left():
    step = step_of(images(10), (0.1, 0.2, 0.3, 0.4, *[1.0] * 4, 0.5, 0.5))
    told = made("mum", pointwise(), step)
    assert told.own_share[4:].tolist() == [0, 0, 0, 0, 1, 1]
    assert set(told.own_share[:4].tolist()) in ({0.75}, {0.75 - 1 / 16}, {0.75 + 1 / 16})
    assert told.passes == (0, 0)


@each("model", MODELS)
def test_without_foreign_tiles_it_is_the_plain_step(model):
    """The look at the map's size leaves no trace either, in dropout and in statistics."""
    net, plain = (
        create_classifier(model, num_classes=CLASSES, shape=(2, 8, 12), seed=0).train()
        for _ in range(2)
    )
    step = step_of(images(8), 1e-9)
    with borrowed_global_rng(4):
        told = made("mum", net, step)
    with borrowed_global_rng(4):
        wanted = soft_losses(plain(step.images), step.targets)
    assert_close(told.losses, wanted)
    for one, other in zip(net.buffers(), plain.buffers(), strict=True):
        assert_close(one, other)


@each("kind", sorted(set(NETS) - {"drop in the head"}))
def test_tiles_are_cut_of_every_layout(kind):
    """Moved and brought back, features are as they were."""
    net = net_of(kind).eval()
    step = step_of(noise(1, 4, 2, *NETS[kind][1]), 1e-9)
    assert_close(made("mum", net, step).losses, soft_losses(net(step.images), step.targets))


@each(
    "places, tiles, wanted",
    [(8, 4, 4), (2, 4, 2), (6, 4, 3), (7, 4, 7), (14, 4, 7), (1, 4, 1), (8, 2, 2), (5, 4, 5)],
)
def test_tiles_hold_whole_places(places, tiles, wanted):
    assert _nearest(places, tiles) == wanted


@each(
    "net, size, message",
    [
        (PooledNet([nn.AdaptiveAvgPool2d(1)], 2, CLASSES), (8, 12), "1 x 1 places"),
        (PooledNet([nn.Conv2d(2, 4, 3, stride=2)], 4, CLASSES), (8, 12), "3 x 5 places"),
    ],
)
def test_images_that_cannot_be_cut_are_refused(net, size, message):
    with pytest.raises(ConfigError, match=f"mum cannot cut images of 8 x 12 .*{message}"):
        made("mum", net, step_of(images(8, size=size), 0.5))


def test_half_precision():
    net, step = pointwise(), step_of(noise(1, 8, 2, 4, 4), 0.5)
    with torch.autocast("cpu", torch.bfloat16):
        told = made("mum", net, step)
    assert told.losses.dtype == torch.float32
    assert_close(told.losses, soft_losses(net(step.images), step.targets), rtol=0.05, atol=0.05)
