"""R-Mix: cells above a random percentile of each of the two saliency maps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from automix.core.seeding import generator
from automix.masks.shapes import as_mask
from automix.mixes.rmix import _dropped, _quantiles, _random_cells, _row_quantile, at_percentiles
from automix.mixing.batch import draw_share
from tests import contract
from tests.cases import each
from tests.contract import Case, Form, draw_of, mask_of, masks_of, noise_images, saliency_maps
from tests.references import rmix as reference
from tests.strategies import SEEDS

RMIX, GUIDED = Form("rmix"), Form("rmix", guided=True)


def test_at_one_half_every_mask_and_label_is_that_of_the_slow_twin():
    """Every pair is mixed and labelled as the paper says, for some draw of it."""
    case = Case(form=GUIDED, b=12, channels=1, size=(8, 8), seed=6)
    images, partners = noise_images(case), noise_images(replace(case, seed=7))
    share = torch.from_numpy(draw_share(0.5, case.b, generator(0, "share")))
    mask = mask_of(case, share, 0.5)
    pixels = torch.lerp(images, partners, mask).tolist()
    lam = (1 - as_mask(mask).area()).tolist()
    own, partner = saliency_maps(case, 1).tolist(), saliency_maps(case, 2).tolist()
    drawn = set()
    for i, weight in enumerate(share.tolist()):
        pair = images[i].tolist(), partners[i].tolist()
        found = draw_behind((own[i], partner[i]), mask[i, 0].tolist(), weight)
        assert found is not None, "no draw of the paper's gives this mask"
        wanted_pixels, wanted_label = reference.rmix(
            pair, ([1, 0], [0, 1]), found, (1 - weight, weight)
        )
        assert_close(torch.tensor(pixels[i]), torch.tensor(wanted_pixels), atol=1e-5, rtol=0)
        assert abs(lam[i] - wanted_label[0]) < 1e-5, "the published label is the area label"
        drawn.add(str(found))
    assert len(drawn) > 1


def draw_behind(
    maps: tuple[list, list], mask: list[list[float]], weight: float
) -> tuple[list, list] | None:
    """Find salient masks of the image and its partner that make the given mask."""
    level = {(False, False): weight, (True, True): weight, (True, False): 0.0, (False, True): 1.0}
    for grid in (2, 4):
        of_own, of_partner = (
            [reference.salient(one, grid, q) for q in reference.PERCENTILES] for one in maps
        )
        for a in of_own:
            for b in of_partner:
                pixels = ((y, x) for y in range(len(mask)) for x in range(len(mask[0])))
                if all(abs(mask[y][x] - level[a[y][x], b[y][x]]) < 1e-6 for y, x in pixels):
                    return a, b
    return None


def test_flat_maps_make_it_mixup_and_disjoint_ones_a_hard_choice():
    """Ties count as salient, so that flat maps agree everywhere."""
    case = Case(form=GUIDED, b=400, size=(8, 8))
    flat, half = torch.full((case.b, 8, 8), 1 / 64), torch.zeros(case.b, 8, 8)
    half[:, :, :4] = 1 / 32
    share = torch.full((case.b,), 0.25)

    def levels(own: torch.Tensor, partner: torch.Tensor, seed: int) -> tuple[set, set]:
        masks = masks_of(case, share, 0.5, rng=generator(seed), maps=(own, partner))
        mask = masks.dense(contract.CPU)
        return set(mask[:, :, :, :4].unique().tolist()), set(mask[:, :, :, 4:].unique().tolist())

    # Constant saliency: both masks are all ones whatever the percentiles, so R-Mix is mixup.
    assert levels(flat, flat, 0) == ({0.25}, {0.25})
    # Disjoint masks: wherever the percentile drops the empty half, the salient image shows.
    assert levels(half, half.flip(2), 1) == ({0.0, 0.25}, {1.0, 0.25})
    # All of a flat image is salient: the partner never has a cell for itself.
    assert set.union(*levels(flat, half, 2)) == {0.0, 0.25}


@each("form", [RMIX, GUIDED])
def test_where_no_percentile_drops_a_cell_it_is_mixup(form):
    case = Case(form=form, b=40, size=(7, 10))
    share = torch.from_numpy(draw_share(0.3, case.b, generator(0, "share")))
    nothing = np.zeros((2, case.b), np.int64)
    mask = at_percentiles(draw_of(case, share, 0.3), nothing).dense(contract.CPU)
    assert torch.equal(mask, share[:, None, None, None].expand_as(mask))


@given(seed=SEEDS, n=st.sampled_from([4, 16, 7, 1]))
def test_each_row_has_its_own_quantile(seed, n):
    rng = generator(seed)
    rows = torch.from_numpy(rng.random((10, n), dtype=np.float32))
    q = torch.from_numpy(np.append(rng.random(8), [0.0, 1.0]).astype(np.float32))
    got = _row_quantile(rows, q)
    for i in range(10):
        assert_close(got[i], torch.quantile(rows[i], q[i]))
        assert float(got[i]) == pytest.approx(
            reference.quantile(rows[i].tolist(), float(q[i])), abs=1e-5
        )


@each("ratio", [0.1, 0.5, 0.7])
def test_percentiles_are_tilted_by_odds_and_one_half_keeps_them(ratio):
    q = np.array(reference.PERCENTILES)
    tilted = _quantiles(ratio)
    for row, tilt in zip(tilted, (1 - ratio, ratio), strict=True):
        np.testing.assert_allclose(row, [reference.tilted(x, tilt) for x in q], atol=1e-9)
    if ratio == 0.5:
        np.testing.assert_allclose(tilted, [q, q], atol=1e-12)
    assert ((tilted >= 0) & (tilted <= 1)).all()


@given(seed=SEEDS, grid=st.sampled_from([2, 4]))
def test_as_many_random_cells_are_kept_as_lie_above_the_quantile(seed, grid):
    cells = _random_cells(_dropped(0.3, grid), grid, generator(seed))
    assert cells.shape == (2, 10, grid * grid)
    for kept, one in zip(cells.reshape(20, -1), _quantiles(0.3).ravel(), strict=True):
        values = list(range(grid * grid))
        threshold = reference.quantile(values, one)
        assert kept.sum() == sum(value >= threshold - 1e-9 for value in values)


def test_every_random_cell_is_kept_alike():
    share = _random_cells(np.full((1, 4000), 3), 2, generator(0)).mean((0, 1))
    assert abs(share - 0.25).max() < 0.03  # four standard deviations
