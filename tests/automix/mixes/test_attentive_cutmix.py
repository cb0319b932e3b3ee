"""Attentive CutMix: the partner's most salient cells."""

from __future__ import annotations

import numpy as np

from automix.core.seeding import generator
from tests.automix.mixes.drawing import SHARES, drawn, pixels, random_maps, realised
from tests.cases import each
from tests.references import attentive_cutmix as reference


@each("guided", [False, True])
@each("size", [(28, 28), (9, 5)])
@each("share", SHARES)
def test_the_realised_share_is_the_wanted_one(share, size, guided):
    got = realised("attentive_cutmix", share, size, guided=guided)
    assert abs(got.mean() - share) < 0.003
    if size == (28, 28):  # cells are equal: their number is rounded up or down
        assert abs(got - share).max() < 1 / 49


@each("size", [(28, 28), (8, 12), (3, 2)])
def test_the_mask_is_the_one_of_the_slow_twin(size):
    share = np.linspace(0, 1, 12, dtype=np.float32)
    maps = random_maps(12, size)
    got = pixels(drawn("attentive_cutmix", share, size, guided=True, maps=[maps.flip(1), maps]))
    luck = generator(0, "mask").random(12, dtype=np.float32)
    for i in range(12):
        wanted = reference.mask(maps[i].tolist(), float(share[i]), 7, float(luck[i]))
        assert got[i] == wanted


def test_six_cells_of_49_are_the_papers():
    masks = drawn("attentive_cutmix", np.full(50, 6 / 49), (224, 224), guided=True)
    assert set(masks.weight.sum((1, 2)).tolist()) == {6.0}


def test_unguided_every_cell_is_taken_alike():
    often = drawn("attentive_cutmix", np.full(4000, 0.25), (16, 16), cells=4).weight.mean(0)
    assert abs(often - 0.25).max() < 0.03
