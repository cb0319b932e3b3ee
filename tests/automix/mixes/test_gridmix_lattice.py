"""GridMixup: a lattice of square holes."""

from __future__ import annotations

import numpy as np

from automix.core.seeding import generator
from tests.automix.mixes.drawing import SHARES, drawn, realised
from tests.cases import each
from tests.references import gridmix_lattice as reference


@each("size", [(32, 32), (24, 40), (7, 5), (1, 9)])
@each("share", SHARES)
def test_the_realised_share_is_off_by_less_than_a_column_and_right_in_the_mean(share, size):
    got = realised("gridmix_lattice", share, size)
    rows = np.ceil(size[0] * share**0.5)
    assert abs(got - share).max() < rows / (size[0] * size[1]) + 1e-6
    assert abs(got.mean() - share) < 0.004


@each("share, hole", [(1 / 16, 4), (1 / 4, 8), (9 / 16, 12)])
def test_the_mask_is_the_one_of_the_slow_twin(share, hole):
    """On 64 pixels with 4 holes a side the lattice fits: every hole is the square it should be."""
    masks = drawn("gridmix_lattice", np.full(30, share), (64, 64), holes=(4, 4))
    rng = generator(0, "mask")
    rng.integers(4, 5, 30)
    place = rng.random((2, 30), dtype=np.float32)
    for i in range(30):
        for open_, at in ((masks.rows, place[0, i]), (masks.columns, place[1, i])):
            wanted = reference.open_pixels(64, 16, (1 - at) * 16, hole)
            assert open_[i].tolist() == wanted
    assert {tuple(one) for one in masks.rows.tolist()} != {tuple(masks.rows[0].tolist())}


def test_as_many_holes_as_drawn_lie_along_the_longer_side():
    masks = drawn("gridmix_lattice", np.full(500, 0.2), (30, 60))
    around = np.diff(masks.columns, axis=1, append=masks.columns[:, :1], prepend=0)[:, 1:]
    holes = (around > 0).sum(1)
    assert set(holes.tolist()) == {2, 3, 4, 5, 6}
    lonely = drawn("gridmix_lattice", np.full(9, 0.25), (2, 3), holes=(6, 6))
    assert lonely.area().mean() > 0
