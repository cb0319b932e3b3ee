"""Cells of a grid: the share that they make up is the wanted one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from automix.core.errors import ConfigError
from automix.core.seeding import generator
from automix.masks.grids import first_cells, grid_of, saliency_of_cells
from automix.masks.shapes import Cells
from tests.cases import each
from tests.references import cells as reference
from tests.strategies import SEEDS, SIZES

CPU = torch.device("cpu")


@given(size=SIZES, seed=SEEDS, side=st.sampled_from([1, 3, 4, 7]), host=st.booleans())
def test_the_first_cells_are_those_of_the_slow_twin(size, seed, side, host):
    rng, grid = generator(seed), grid_of(size, side)
    keys = rng.random((6, grid[0] * grid[1]))
    share = np.append(rng.random(4, dtype=np.float32), np.float32([0, 1]))
    placed = keys if host else torch.from_numpy(keys)
    taken = first_cells(placed, share, size, grid, generator(seed, "luck"))
    assert isinstance(taken, np.ndarray) == host
    luck = generator(seed, "luck").random(6, dtype=np.float32)
    mask = Cells(np.float32(taken).reshape(6, *grid), size).dense(CPU)[:, 0].tolist()
    for i in range(6):
        order = sorted(range(len(keys[i])), key=keys[i].__getitem__)
        assert mask[i] == reference.mask(order, float(share[i]), size, grid, float(luck[i]))


@each("share", [0.03, 0.4, 0.97])
def test_the_mean_is_the_share_even_if_the_same_uneven_cells_always_come_first(share):
    size, grid = (5, 7), (3, 4)
    keys = np.tile(np.arange(12.0), (20_000, 1))
    taken = first_cells(keys, np.full(20_000, share, np.float32), size, grid, generator(0))
    area = Cells(np.float32(taken).reshape(-1, *grid), size).area().mean(dtype=np.float64)
    assert abs(area - share) < 0.002  # four standard errors; the largest cell is 4 of 35 pixels


@given(size=SIZES, seed=SEEDS, side=st.sampled_from([1, 3, 4, 7]))
def test_the_saliency_of_cells_is_that_of_the_slow_twin(size, seed, side):
    maps, grid = generator(seed).random((2, *size), dtype=np.float32), grid_of(size, side)
    wanted = [reference.pooled(one, *grid) for one in maps.tolist()]
    assert_close(saliency_of_cells(torch.from_numpy(maps), grid), torch.tensor(wanted))


def test_no_cell_is_smaller_than_a_pixel():
    assert grid_of((1, 32), 4) == (1, 4)
    assert grid_of((3, 2), 7) == (3, 2)


@each("cells", [0, -1, 2.5])
def test_cells_that_are_no_whole_number_are_refused(cells):
    with pytest.raises(ConfigError, match="whole number of 1 or more"):
        grid_of((8, 8), cells)
