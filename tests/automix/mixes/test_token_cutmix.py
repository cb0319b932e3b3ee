"""Token CutMix: one box along the borders of tokens."""

from __future__ import annotations

import numpy as np

from tests.automix.mixes.drawing import CPU, SHARES, drawn, pixels, realised
from tests.cases import each

SIZES = [((8, 8), 2), ((224, 224), 16), ((32, 32), 4), ((28, 28), 4), ((24, 40), 4), ((8, 6), 1)]


def test_no_token_is_split():
    for size, patch in SIZES:
        for row in drawn("token_cutmix", np.linspace(0, 1, 40), size).dense(CPU)[:, 0]:
            cells = row.unflatten(0, (-1, patch)).unflatten(2, (-1, patch))
            assert bool((cells == cells[:, :1, :, :1]).all())


@each("size, patch", [*SIZES, ((64, 64), 16), ((31, 31), 4), ((100, 36), 4), ((3, 9), 1)])
def test_the_patch_that_an_image_is_given_is_the_finest_border_of_its_boxes(size, patch):
    mask = drawn("token_cutmix", np.full(500, 0.3), size)
    borders = {int(at) for part in (mask.first, mask.end) for at in np.ravel(part)} - {*size}
    assert np.gcd.reduce([*borders]) == patch


def test_a_patch_that_is_set_is_taken_and_what_reaches_beyond_the_image_is_cut_off():
    mask = drawn("token_cutmix", np.full(400, 0.2), (7, 10), patch=3)
    assert {*mask.first.ravel().tolist()} == {0, 3, 6, 9}
    assert {*mask.end[:, 0].tolist()} == {3, 6, 7}
    assert {*mask.end[:, 1].tolist()} == {3, 6, 9, 10}


@each("size", [(8, 8), (32, 32), (24, 40)])
@each("share", [*SHARES, 0.05, 0.9])
def test_the_realised_share_is_the_wanted_one(share, size):
    got = realised("token_cutmix", share, size)
    assert abs(got.mean() - share) < 5 * got.std() / len(got) ** 0.5 + 1e-6
    assert got.std() < 0.15


def test_a_box_is_as_high_as_it_is_wide_on_average_and_lies_anywhere():
    mask = drawn("token_cutmix", np.full(4000, 0.25), (64, 64), patch=4)
    sides = (mask.end - mask.first) / 4
    assert abs(sides.mean(0) - 8).max() < 0.1
    # Eight of sixteen: nine places, each as often as the others.
    even = (sides == 8).all(1)
    for axis in (0, 1):
        often = np.bincount(mask.first[even, axis] // 4, minlength=9) / even.sum()
        assert abs(often - 1 / 9).max() < 0.02


def test_a_grid_of_one_token_is_all_or_nothing_as_often_as_wanted():
    masks = np.array(pixels(drawn("token_cutmix", np.full(2000, 0.3), (4, 4), patch=4)))
    assert {*masks.mean((1, 2)).tolist()} == {0.0, 1.0}
    assert abs(masks.mean() - 0.3) < 0.04
