"""GridMix: whole random cells."""

from __future__ import annotations

import numpy as np

from tests.automix.mixes.drawing import SHARES, drawn, pixels, random_maps, realised
from tests.cases import each
from tests.references import gridmix as reference


@each("guided", [False, True])
@each("size", [(32, 32), (7, 5)])
@each("share", SHARES)
def test_the_realised_share_is_the_wanted_one(share, size, guided):
    got = realised("gridmix", share, size, guided=guided)
    assert abs(got.mean() - share) < 0.005
    if size == (32, 32):  # cells are equal: their number is rounded up or down
        assert set(got * 16) <= {np.floor(16 * share), np.ceil(16 * share)}


def test_whole_cells_are_taken():
    mask = drawn("gridmix", np.linspace(0, 1, 20), (8, 12), cells=3)
    assert mask.weight.shape == (20, 3, 3)
    assert set(mask.weight.ravel().tolist()) == {0.0, 1.0}


def test_every_cell_is_taken_alike_without_guide():
    often = drawn("gridmix", np.full(4000, 0.25), (16, 16)).weight.mean(0)
    assert abs(often - 0.25).max() < 0.03  # four standard deviations


def test_guided_cells_are_drawn_in_proportion_to_the_partners_saliency():
    """Two of four cells: the slow twin says how often each set of them is drawn."""
    maps = random_maps(1, (4, 4), seed=3).expand(20_000, -1, -1)
    share = np.full(20_000, 0.5)
    masks = drawn("gridmix", share, (4, 4), guided=True, maps=[maps.flip(1), maps], cells=2)
    wanted = reference.chances_of_pairs(maps[0].tolist(), 2)
    got = masks.weight.reshape(-1, 4)
    for (first, second), chance in wanted.items():
        both = float((got[:, first] * got[:, second]).mean())
        assert abs(both - chance) < 4 * (chance / 20_000) ** 0.5 + 1e-4


def test_cells_without_saliency_come_last():
    maps = random_maps(200, (8, 8))
    maps[:, 2:] = 0
    masks = drawn("gridmix", np.full(200, 0.4), (8, 8), guided=True, maps=[maps.flip(1), maps])
    assert bool((masks.weight[:, 0] == 1).all())
    # 6 or 7 of 16: two or three beyond the four salient ones, now here and now there.
    assert len({str(one) for one in pixels(masks)}) > 50
