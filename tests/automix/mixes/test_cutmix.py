"""CutMix: a box that the border clips, somewhere or at the partner's saliency peak."""

from __future__ import annotations

import pytest
import torch

from automix.core.seeding import generator
from automix.mixing.batch import draw_share
from tests import contract
from tests.contract import Case, Form, mask_of, saliency_maps
from tests.mutants import Mutant
from tests.references import cutmix as reference

CUTMIX, GUIDED = Form("cutmix"), Form("cutmix", guided=True)


def test_the_border_clips_as_much_as_the_slow_twin_says():
    """Asked for 0.5, 0.30 is got at 32 pixels.

    Were there no pixels, it would be the integral of ``2 s (s - s^2 / 4)^2``, 0.321: a side s
    keeps ``s - s^2 / 4`` on average. A pixel lost of each odd side takes the rest.
    """
    case = Case(form=CUTMIX, b=2000, size=(32, 32), seed=1)
    share = torch.from_numpy(draw_share(0.5, case.b, generator(1, "share")))
    got = mask_of(case, share, 0.5).mean((1, 2, 3))
    assert bool((got <= share + 1e-6).all())
    assert abs(float(got.mean()) - 0.296) < 0.014
    for wanted in (0.1, 0.35, 0.8):
        case = Case(form=CUTMIX, b=3000, size=(7, 10), seed=2)
        mean = float(mask_of(case, torch.full((case.b,), wanted), wanted).mean())
        assert abs(mean - reference.mean_coverage(wanted, 7, 10)) < 0.006


@pytest.mark.parametrize("form", [CUTMIX, GUIDED], ids=str)
def test_each_mask_is_a_box_of_the_slow_twin(form):
    """Each mask is the box of its share around some pixel; guided, around the partner's peak."""
    case = Case(form=form, b=12, size=(7, 10), seed=4)
    share = torch.tensor([0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 0.95, 1.0])
    mask = mask_of(case, share, 0.5)[:, 0].tolist()
    maps = saliency_maps(case, 2).tolist()
    everywhere = [(y, x) for y in range(7) for x in range(10)]
    for i, wanted_share in enumerate(share.tolist()):
        centres = [reference.peak(maps[i])] if form.guided else everywhere
        boxes = [reference.box_mask(wanted_share, 7, 10, y, x) for y, x in centres]
        assert mask[i] in boxes, f"no box of share {wanted_share}"


HERE = "automix.mixes.cutmix"
PLACING = "automix.masks.placing"

MUTANTS = [
    Mutant(
        "the guided box is where the partner is dullest",
        PLACING,
        ".argmax(1)",
        ".argmin(1)",
        contract.the_partner_shows_more_where_it_is_salient,
    ),
    Mutant(
        "the guided box is where the own image is salient",
        HERE,
        "peak_of(inputs.partner)",
        "peak_of(inputs.own)",
        test_each_mask_is_a_box_of_the_slow_twin,
    ),
    Mutant(
        "row and column of the peak are swapped",
        PLACING,
        "[peak // width, peak % width]",
        "[peak % width, peak // width]",
        test_each_mask_is_a_box_of_the_slow_twin,
    ),
    Mutant(
        "height and width are swapped",
        HERE,
        "np.sqrt(share) * size)",
        "np.sqrt(share) * size[::-1])",
        test_each_mask_is_a_box_of_the_slow_twin,
    ),
    Mutant(
        "the box has the share as its side",
        HERE,
        "np.sqrt(share) * size",
        "share * size",
        test_the_border_clips_as_much_as_the_slow_twin_says,
    ),
    Mutant(
        "boxes are pushed inside instead of clipped",
        HERE,
        "Boxes(centre - half, centre + half",
        "Boxes(np.maximum(centre - half, 0), np.maximum(centre - half, 0) + 2 * half",
        test_the_border_clips_as_much_as_the_slow_twin_says,
    ),
    Mutant(
        "guided boxes are pushed inside instead of clipped",
        HERE,
        "Boxes(at - reach, at + reach",
        "Boxes((at - reach).clamp(min=0), (at - reach).clamp(min=0) + 2 * reach",
        test_each_mask_is_a_box_of_the_slow_twin,
    ),
    Mutant(
        "a share of 1 is a clipped box too",
        HERE,
        "inputs.share >= 1.0",
        "inputs.share > 1.0",
        contract.no_share_keeps_every_pixel_and_all_of_it_takes_every_pixel,
    ),
    Mutant(
        "all boxes of a batch are in one row",
        HERE,
        "inputs.rng.random((len(share), 2))",
        "inputs.rng.random((len(share), 2)) ** [0, 1]",
        contract.masks_vary_from_image_to_image,
    ),
]
