"""Masks: each kind shows in pixels what it says in numbers."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from automix.core.seeding import generator
from automix.masks.shapes import Boxes, Cells, Constant, Dense, Outer, as_mask
from tests.cases import each
from tests.references import blending
from tests.references import cutmix as cutmix_reference
from tests.references import rmix as rmix_reference
from tests.strategies import SEEDS, SIZES

CPU = torch.device("cpu")

KINDS = ["constant", "boxes", "cells", "outer", "dense"]
every_kind = each("kind", KINDS)


def masks(kind: str, size: tuple[int, int], seed: int, u: int = 5):
    """Draw masks of one kind, boxes in part and wholly outside the image among them."""
    rng = generator(seed)
    match kind:
        case "constant":
            return Constant(rng.random(u, dtype=np.float32))
        case "boxes":
            first = rng.integers(-5, 20, (u, 2))
            return Boxes(first, first + rng.integers(0, 30, (u, 2)), size)
        case "cells":
            grid = rng.integers(1, 5, 2)
            return Cells(rng.random((u, *grid), dtype=np.float32), size)
        case "outer":
            return Outer(*(rng.random((u, side), dtype=np.float32) for side in size))
    return Dense(torch.from_numpy(rng.random((u, 1, *size), dtype=np.float32)))


def on_a_device(mask):
    """The same with tensors in place of arrays, as saliency on a device makes them."""
    match mask:
        case Boxes():
            return Boxes(torch.from_numpy(mask.first), torch.from_numpy(mask.end), mask.size)
        case Cells():
            return Cells(torch.from_numpy(mask.weight), mask.size)
        case Outer():
            return Outer(torch.from_numpy(mask.rows), torch.from_numpy(mask.columns))
        case Constant():
            return Constant(torch.from_numpy(mask.weight))
    return mask


@every_kind
@given(size=SIZES, seed=SEEDS)
def test_the_area_is_the_mean_of_the_pixels(kind, size, seed):
    mask = masks(kind, size, seed)
    pixels = mask.dense(CPU)
    assert pixels.dtype == torch.float32
    assert pixels.shape in {(5, 1, *size), (5, 1, 1, 1)}
    assert bool(((pixels >= 0) & (pixels <= 1)).all())
    wanted = [blending.mean(one.expand(1, *size)[0].double().tolist()) for one in pixels]
    area = torch.as_tensor(mask.area())
    assert area.dtype == torch.float32
    assert bool(((area >= 0) & (area <= 1)).all())
    assert_close(area, torch.tensor(wanted), atol=1e-6, rtol=1e-6)


@every_kind
@given(size=SIZES, seed=SEEDS)
def test_what_comes_from_a_device_is_what_comes_from_the_host(kind, size, seed):
    mask = masks(kind, size, seed)
    twin = on_a_device(mask)
    assert torch.equal(twin.dense(CPU), mask.dense(CPU))
    assert isinstance(twin.area(), torch.Tensor)
    assert_close(twin.area(), torch.as_tensor(mask.area()))
    played = generator(seed, "played").random(5) < 0.5
    assert torch.equal(twin.only(played).dense(CPU), mask.only(played).dense(CPU))


@every_kind
@given(size=SIZES, seed=SEEDS)
def test_some_masks_are_those_of_all(kind, size, seed):
    mask = masks(kind, size, seed)
    for rows in (slice(1, 4), np.array([4, 0, 0]), slice(0, 5, 2)):
        some = mask[rows]
        assert torch.equal(some.dense(CPU), mask.dense(CPU)[rows])
        assert len(some) == len(mask.dense(CPU)[rows])


@every_kind
@given(size=SIZES, seed=SEEDS)
def test_what_is_not_played_is_a_mask_of_zeros(kind, size, seed):
    mask = masks(kind, size, seed)
    played = generator(seed, "played").random(5) < 0.5
    only = mask.only(played)
    wanted = mask.dense(CPU) * torch.from_numpy(played)[:, None, None, None]
    assert torch.equal(only.dense(CPU), wanted)
    assert not torch.as_tensor(only.area())[torch.from_numpy(~played)].any()


@given(size=SIZES, seed=SEEDS, share=st.floats(0, 0.99))
def test_boxes_are_those_of_the_slow_twin(size, seed, share):
    rng = generator(seed)
    centre = np.stack([rng.integers(0, side, 5) for side in size], 1)
    half = np.array([int(side * share**0.5) // 2 for side in size])
    boxes = Boxes(centre - half, centre + half, size)
    for one, (y, x) in zip(boxes.dense(CPU), centre.tolist(), strict=True):
        assert one[0].tolist() == cutmix_reference.box_mask(share, *size, y, x)


@given(size=SIZES, seed=SEEDS, grid=st.sampled_from([1, 2, 3, 4]))
def test_cells_are_those_of_the_slow_twin(size, seed, grid):
    weight = generator(seed).random((3, grid, grid), dtype=np.float32)
    for one, cells in zip(Cells(weight, size).dense(CPU), weight.tolist(), strict=True):
        assert one[0].tolist() == rmix_reference.spread(cells, *one.shape[1:])


def test_a_coarse_grid_fits_on_a_fine_one():
    """Why R-Mix may put grids of 2 and of 4 cells into one array, whatever the size."""
    coarse = generator(0).random((3, 2, 2), dtype=np.float32)
    fine = coarse.repeat(2, 1).repeat(2, 2)
    for size in ((8, 12), (7, 5), (31, 31), (3, 2), (1, 1)):
        assert torch.equal(Cells(coarse, size).dense(CPU), Cells(fine, size).dense(CPU))


def test_plain_arrays_are_dense_masks_and_masks_stay_what_they_are():
    box = masks("boxes", (8, 8), 0)
    assert as_mask(box) is box
    weights = generator(0).random((2, 1, 3, 4), dtype=np.float32)
    for plain in (weights, torch.from_numpy(weights)):
        assert isinstance(as_mask(plain), Dense)
        assert torch.equal(as_mask(plain).dense(CPU), torch.from_numpy(weights))
