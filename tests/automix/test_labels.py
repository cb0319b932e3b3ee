"""Label rules: which weight the own label keeps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from automix.labels import LABEL_RULES, Shown, Weights
from automix.masks import Constant, Mask, as_mask
from automix.pairing import pair_batches
from automix.seeding import generator
from tests.references import blending
from tests.strategies import SEEDS


def masks(seed: int, b: int = 4, size: tuple[int, int] = (5, 3)) -> torch.Tensor:
    return torch.from_numpy(generator(seed).random((b, 1, *size), dtype="float32"))


def shown(mask: Mask | torch.Tensor, share: np.ndarray, **more: object) -> Shown:
    """What a rule is given about a batch of which each image has a mask of its own."""
    rng, n = generator(0, "rule"), len(mask)
    return Shown(as_mask(mask), share, pair_batches(n, n, "roll", rng), rng, **more)


@given(seed=SEEDS)
def test_area_is_what_is_left_of_the_own_pixels(seed):
    mask = masks(seed)
    wanted = [1 - blending.mean(one[0].tolist()) for one in mask]
    assert_close(LABEL_RULES["area"](shown(mask, np.ones(4))), torch.tensor(wanted))


def test_area_does_not_look_at_what_was_asked():
    mask = masks(0)
    lam = LABEL_RULES["area"](shown(mask, np.zeros(4)))
    assert torch.equal(lam, LABEL_RULES["area"](shown(mask, np.ones(4))))


def test_area_of_a_mask_with_one_weight_an_image_is_that_weight():
    share = np.array([0.0, 0.25, 1.0], np.float32)
    assert (LABEL_RULES["area"](shown(Constant(share), share)) == 1 - share).all()


@given(share=st.lists(st.floats(0, 1, width=32), min_size=1, max_size=5))
def test_requested_is_what_was_asked_whatever_the_mask(share):
    share = np.array(share, np.float32)
    for mask in (torch.zeros(len(share), 1, 2, 2), torch.ones(len(share), 1, 2, 2)):
        assert (LABEL_RULES["requested"](shown(mask, share)) == 1 - share).all()


@pytest.mark.parametrize("name", list(LABEL_RULES))
def test_every_rule_weighs_in_float32_between_nothing_and_all(name):
    mask = masks(1)
    maps = mask[:, 0] / mask.sum((1, 2, 3))[:, None, None]
    for given_mask in (mask, mask.bfloat16(), torch.zeros_like(mask), torch.ones_like(mask)):
        share = given_mask.float().mean((1, 2, 3)).numpy()
        told = LABEL_RULES[name](shown(given_mask, share, own=maps, partner=maps.flip(0)))
        for lam in (told.own, told.partner) if isinstance(told, Weights) else (told,):
            lam = torch.as_tensor(lam)
            assert lam.shape == (4,)
            assert lam.dtype == torch.float32
            assert bool(((lam >= 0) & (lam <= 1)).all())
