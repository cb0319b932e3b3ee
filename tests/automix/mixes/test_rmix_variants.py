"""R-Mix's settings, and its variants: choose-least, and cut and paste."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from automix.core.errors import ConfigError
from automix.core.seeding import generator
from automix.mixing.batch import draw_share
from tests.automix.mixes.drawing import CPU, SHARES, drawn, pixels, random_maps, realised
from tests.cases import each
from tests.references import cells
from tests.references import rmix as reference

VARIANTS = ["rmix", "rmix_least", "rmix_paste"]


@each("guided", [False, True])
@each("size", [(32, 32), (7, 5)])
@each("share", SHARES)
def test_pasted_cells_realise_the_wanted_share(share, size, guided):
    got = realised("rmix_paste", share, size, guided=guided)
    assert abs(got.mean() - share) < 0.009  # four standard errors
    if size == (32, 32):  # of 4 cells or of 16, rounded up or down
        numbers = {np.floor(n * share) / n for n in (4, 16)}
        assert set(got) <= numbers | {np.ceil(n * share) / n for n in (4, 16)}


@each("guided", [False, True])
@each("ratio", SHARES)
def test_choose_least_shares_as_much_as_choose_top(ratio, guided):
    """Which is about the ratio; more where little is asked for, because cells are whole."""
    least, top = (
        drawn(name, draw_share(ratio, 4000, generator(5)), (32, 32), ratio=ratio, guided=guided)
        for name in ("rmix_least", "rmix")
    )
    assert abs(float(least.area().mean()) - float(top.area().mean())) < 0.025
    assert abs(float(least.area().mean()) - ratio) < 0.04


def test_choose_least_is_its_slow_twin():
    """Each mask is that of one draw of grid and percentiles."""
    share, maps = np.full(20, 0.3, np.float32), [random_maps(20, (8, 8), seed) for seed in (1, 2)]
    masks = drawn("rmix_least", share, (8, 8), ratio=0.5, guided=True, maps=maps)
    found = set()
    for got, own, partner in zip(pixels(masks), *(one.tolist() for one in maps), strict=True):
        wanted = [
            reference.least_mask(
                reference.salient(own, grid, q), reference.salient(partner, grid, p), 0.3
            )
            for grid in (2, 4)
            for q in reference.PERCENTILES
            for p in reference.PERCENTILES
        ]
        assert any(np.allclose(got, one) for one in wanted)
        found.add(str(got))
    assert len(found) > 10


def test_choose_least_shows_the_partner_where_the_image_is_salient():
    half = torch.zeros(400, 8, 8)
    half[:, :, :4] = 1 / 32
    maps = [half, half.flip(2)]
    mask = drawn("rmix_least", np.full(400, 0.25), (8, 8), ratio=0.5, guided=True, maps=maps)
    shown = mask.dense(CPU)
    assert set(shown[:, :, :, :4].unique().tolist()) == {1.0, 0.25}
    assert set(shown[:, :, :, 4:].unique().tolist()) == {0.0, 0.25}


@each("size", [(8, 8), (7, 5)])
def test_pasted_cells_are_those_of_the_slow_twin(size):
    """The most salient of either grid, the last of them with luck."""
    share, maps = np.linspace(0, 1, 30, dtype=np.float32), random_maps(30, size)
    masks = pixels(drawn("rmix_paste", share, size, guided=True, maps=[maps.flip(1), maps]))
    grids = set()
    for got, one, wanted_share in zip(masks, maps.tolist(), share.tolist(), strict=True):
        possible = {}
        for grid in (2, 4):
            means = cells.pooled(one, grid, grid)
            order = sorted(range(len(means)), key=lambda cell: -means[cell])
            for luck in (0.0, 1 - 1e-9):
                taken = cells.mask(order, wanted_share, size, (grid, grid), luck)
                possible[str(taken)] = grid
        grids.add(possible[str(got)])
    assert grids == {2, 4}


@each("method", VARIANTS)
@each("guided", [False, True])
def test_grids_are_a_setting(method, guided):
    how = {"ratio": 0.5, "guided": guided, "grids": (3, 1, 6)}
    masks = drawn(method, np.full(60, 0.4), (12, 18), **how)
    assert masks.weight.shape == (60, 6, 6)
    flat = torch.as_tensor(masks.weight).reshape(60, -1)
    assert (flat == flat[:, :1]).all(1).any(), "one cell is all of the image"
    with pytest.raises(ConfigError, match="divide the last"):
        drawn(method, [0.5], (8, 8), ratio=0.5, guided=guided, grids=(3, 4))
    with pytest.raises(ConfigError, match="whole numbers"):
        drawn(method, [0.5], (8, 8), ratio=0.5, guided=guided, grids=())


def test_unguided_choose_least_is_the_random_ablation_of_both():
    share = np.full(50, 0.3)
    both = [pixels(drawn(name, share, (8, 8), ratio=0.3)) for name in ("rmix", "rmix_least")]
    assert both[0] == both[1]
