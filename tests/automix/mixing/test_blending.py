"""The blend: whichever way it goes, it is the formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from automix.core.seeding import generator
from automix.masks.pairing import PAIRINGS, Pairs, pair_batches
from automix.masks.shapes import Constant, Dense
from automix.mixing import blending
from tests.automix.masks.test_shapes import KINDS, masks
from tests.cases import each
from tests.references import blending as reference
from tests.strategies import SEEDS

CPU = torch.device("cpu")

FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def noise(seed, shape=(7, 2, 5, 3), dtype=torch.float32):
    values = generator(seed, "images").integers(0, 256, shape).astype(np.float32)
    return torch.from_numpy(values).to(dtype)


def small_blocks(monkeypatch, block, big):
    """Let tiny batches go the ways of large ones."""
    monkeypatch.setattr(blending, "BLOCK", block)
    monkeypatch.setattr(blending, "BIG", big)


@each("kind", KINDS)
@each("pairing", list(PAIRINGS))
@each("block, big", [(1 << 20, 1 << 17), (1, 1 << 17), (150, 1 << 17), (300, 1)])
@settings(settings.get_profile("few"))
@given(n=st.integers(1, 9), batch_size=st.integers(1, 9), seed=SEEDS, per=st.booleans())
def test_every_way_is_the_slow_twin(kind, pairing, block, big, n, batch_size, seed, per):
    with pytest.MonkeyPatch.context() as monkeypatch:
        small_blocks(monkeypatch, block, big)
        pairs = pair_batches(n, batch_size, pairing, generator(seed))
        mask = masks(kind, (5, 3), seed, u=pairs.batches if per else n)
        images = noise(seed, (n, 2, 5, 3))
        mixed = blending.blend(images, pairs, mask)
    dense = mask.dense(CPU).expand(-1, 1, 5, 3)[:, 0].tolist()
    own = images.tolist()
    for i, j in enumerate(pairs.partner.tolist()):
        weights = dense[pairs.batch[i] if per else i]
        wanted = torch.tensor(reference.blended(own[i], own[j], weights))
        assert_close(mixed[i], wanted, atol=1e-3, rtol=0)


@each("kind", KINDS)
@each("block", [1 << 20, 150])
@settings(max_examples=8)
@given(n=st.integers(1, 9), batch_size=st.integers(1, 9), seed=SEEDS)
def test_neighbours_read_in_place_are_neighbours_gathered_bit_by_bit(
    kind, block, n, batch_size, seed
):
    pairs = pair_batches(n, batch_size, "roll", generator(seed))
    gathered = Pairs(pairs.partner, batch_size, neighbours=False)
    mask = masks(kind, (5, 3), seed, u=n)
    with pytest.MonkeyPatch.context() as monkeypatch:
        small_blocks(monkeypatch, block, 1 << 17)
        for dtype in FLOATS:
            images = noise(seed, (n, 2, 5, 3), dtype)
            mixed = blending.blend(images, pairs, mask)
            assert torch.equal(mixed, blending.blend(images, gathered, mask))


@given(seed=SEEDS)
def test_a_blend_is_exact_where_the_mask_is_nothing_or_all(seed):
    rng = generator(seed)
    images = torch.from_numpy(rng.normal(0, 1e3, (4, 2, 5, 3)))
    mask = torch.from_numpy(rng.integers(0, 2, (4, 1, 5, 3)).astype(np.float32))
    for pairing in PAIRINGS:
        pairs = pair_batches(4, 4, pairing, rng)
        for dtype in FLOATS:
            one = images.to(dtype)
            mixed = blending.blend(one, pairs, Dense(mask))
            assert mixed.dtype == dtype
            assert torch.equal(mixed, torch.where(mask > 0, one[pairs.partner], one))


@each("dtype", [torch.uint8, torch.bfloat16, torch.float16])
@each("pairing", list(PAIRINGS))
@each("block", [1 << 20, 300])
@settings(max_examples=8)
@given(seed=SEEDS, u=st.sampled_from([7, 2, 1]))
def test_boxes_of_short_numbers_are_copies_of_them(dtype, pairing, block, seed, u):
    """Of any bits, infinities and what is not a number among them."""
    rng = generator(seed)
    bits = torch.from_numpy(rng.integers(0, 256, (7, 2, 5, 3 * dtype.itemsize), dtype=np.uint8))
    images = bits.view(dtype)
    pairs = pair_batches(7, 4, pairing, rng)
    mask = masks("boxes", (5, 3), seed, u=u)
    with pytest.MonkeyPatch.context() as monkeypatch:
        small_blocks(monkeypatch, block, 1 << 17)
        mixed = blending.blend(images, pairs, mask)
    assert mixed.dtype == dtype
    mask = mask[pairs.batch] if u == 2 else mask
    partners = images[torch.from_numpy(pairs.partner)]
    wanted = torch.where(mask.dense(CPU) > 0, partners, images)
    assert torch.equal(mixed.view(torch.uint8), wanted.view(torch.uint8))


@each("pairing", list(PAIRINGS))
@given(seed=SEEDS, weight=st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]))
def test_blends_of_bytes_are_rounded_halves_up(pairing, seed, weight):
    """With weights of quarters the formula is exact in floats, so the rounding is all there is."""
    images = noise(seed, (3, 2, 4, 3), torch.uint8)
    pairs = pair_batches(3, 3, pairing, generator(seed))
    mixed = blending.blend(images, pairs, Constant(np.full(3, weight, np.float32)))
    own, mask = images.tolist(), [[weight] * 3] * 4
    for i, j in enumerate(pairs.partner.tolist()):
        assert mixed[i].tolist() == reference.blended_bytes(own[i], own[j], mask)


@each("pairing", list(PAIRINGS))
@given(seed=SEEDS, n=st.integers(1, 9))
def test_one_weight_for_all_is_that_weight_for_each_bit_by_bit(pairing, seed, n):
    """One is a number, many are a tensor, which has a kernel of its own."""
    pairs = pair_batches(n, 4, pairing, generator(seed))
    one = masks("constant", (5, 3), seed, u=1)
    for dtype in (*FLOATS, torch.uint8):
        images = noise(seed, (n, 2, 5, 3), dtype)
        each = blending.blend(images, pairs, one[np.zeros(n, dtype=np.int64)])
        assert torch.equal(blending.blend(images, pairs, one), each)


def test_rows_of_probabilities_are_blended_as_images_are():
    rows = torch.eye(3)
    pairs = pair_batches(3, 3, "roll", generator(0))
    lam = torch.tensor([1.0, 0.25, 0.0])
    wanted = torch.tensor([[1.0, 0.0, 0.0], [0.75, 0.25, 0.0], [0.0, 1.0, 0.0]])
    assert_close(blending.blend_rows(rows, pairs, lam), wanted)
