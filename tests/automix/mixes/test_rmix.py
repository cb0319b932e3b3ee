"""R-Mix: cells above a random percentile of each of the two saliency maps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch.testing import assert_close

from automix.core.seeding import generator
from automix.masks.shapes import as_mask
from automix.mixes.rmix import at_percentiles
from automix.mixing.batch import draw_share
from tests import contract
from tests.cases import each
from tests.contract import Case, Form, draw_of, mask_of, masks_of, noise_images, saliency_maps
from tests.references import rmix as reference

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
