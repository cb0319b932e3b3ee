"""CutMix: a box that the border clips, somewhere or at the partner's saliency peak."""

from __future__ import annotations

import torch

from automix.core.seeding import generator
from automix.mixing.batch import draw_share
from tests.cases import each
from tests.contract import Case, Form, mask_of, saliency_maps
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


@each("form", [CUTMIX, GUIDED])
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
