"""SmoothMix: a Gaussian bump of the wanted mean."""

from __future__ import annotations

import numpy as np
import torch
from torch.testing import assert_close

from automix.core.seeding import generator
from tests.automix.mixes.drawing import CPU, SHARES, drawn, random_maps, realised
from tests.cases import each
from tests.references import smoothmix as reference


@each("guided", [False, True])
@each("size", [(32, 32), (5, 12)])
@each("share", SHARES)
def test_every_image_realises_its_wanted_share(share, size, guided):
    assert abs(realised("smoothmix", share, size, guided=guided) - share).max() < 3e-6


@each("share", [1e-6, 0.003, 0.999, 1 - 1e-6])
@each("guided", [False, True])
def test_so_it_does_next_to_nothing_and_all(share, guided):
    """A bump of one pixel shows 0.017: below that, guided, it is lower."""
    assert abs(realised("smoothmix", share, (5, 12), guided=guided) - share).max() < 3e-6


@each("guided", [False, True])
def test_the_mask_is_the_one_of_the_slow_twin(guided):
    size, share, maps = (6, 9), np.float32([0.05, 0.2, 0.5, 0.8]), random_maps(4, (6, 9))
    masks = drawn("smoothmix", share, size, guided=guided, maps=[maps.flip(1), maps])
    centres = generator(0, "mask").random((4, 2), dtype=np.float32).tolist()
    if guided:
        peak = maps.flatten(1).argmax(1).tolist()
        centres = [((at // 9 + 0.5) / 6, (at % 9 + 0.5) / 9) for at in peak]
    for i, centre in enumerate(centres):
        sigma = reference.sigma_for(float(share[i]), centre, *size)
        wanted = torch.tensor(reference.bump(centre, sigma, *size))
        assert_close(masks.dense(CPU)[i, 0], wanted, atol=0.02, rtol=0)


def test_the_partner_shows_most_at_the_centre():
    """The published code of OpenMixup labels it the other way round."""
    maps = random_maps(50, (7, 9))
    mask = drawn("smoothmix", np.full(50, 0.3), (7, 9), guided=True, maps=[maps.flip(1), maps])
    shown = mask.dense(CPU).flatten(1)
    assert shown.argmax(1).tolist() == maps.flatten(1).argmax(1).tolist()
    assert_close(shown.amax(1), torch.ones(50))
