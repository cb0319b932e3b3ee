"""mixup: a constant, which is the wanted share; guided, the odds of the two maps."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from automix.core.seeding import generator
from automix.mixing.batch import draw_share
from tests import contract
from tests.contract import Case, Form, mask_of, saliency_maps
from tests.mutants import Mutant
from tests.references import mixup as reference

MIXUP, GUIDED = Form("mixup"), Form("mixup", guided=True)


def test_the_weight_is_the_wanted_share():
    share = torch.from_numpy(draw_share(0.3, 2000, generator(1, "share")))
    got = mask_of(Case(form=MIXUP, b=2000), share, 0.3)
    assert torch.equal(got[:, 0, 0, 0], share)


@pytest.mark.parametrize("form", [MIXUP, GUIDED], ids=str)
def test_each_mask_is_that_of_the_slow_twin(form):
    """Unguided a constant; guided at one half ``p / (p + o)``, elsewhere tilted by the share."""
    case = Case(form=form, b=6, size=(5, 7))
    share = torch.tensor([0.5, 0.0, 1.0, 0.25, 0.9, 0.5])
    mask = mask_of(case, share, 0.5).expand(-1, 1, *case.size)[:, 0]
    own, partner = saliency_maps(case, 1).tolist(), saliency_maps(case, 2).tolist()
    for i, weight in enumerate(share.tolist()):
        if not form.guided:
            wanted = reference.constant_mask(weight, *case.size)
        elif weight == 0.5:
            wanted = reference.guided_mask(own[i], partner[i])
        else:
            wanted = reference.tilted_mask(own[i], partner[i], weight)
        assert_close(mask[i], torch.tensor(wanted), atol=1e-5, rtol=0)


HERE = "automix.mixes.mixup"

MUTANTS = [
    Mutant(
        "guided mixup ignores the share",
        HERE,
        "theirs, ours = weight * inputs.partner[:, None], (1 - weight) * inputs.own[:, None]",
        "theirs, ours = inputs.partner[:, None] + 0 * weight, inputs.own[:, None]",
        contract.no_share_keeps_every_pixel_and_all_of_it_takes_every_pixel,
    ),
    Mutant(
        "guided mixup weighs the dull image",
        HERE,
        "theirs, ours = weight * inputs.partner[:, None], (1 - weight) * inputs.own[:, None]",
        "theirs, ours = weight * inputs.own[:, None], (1 - weight) * inputs.partner[:, None]",
        test_each_mask_is_that_of_the_slow_twin,
    ),
    Mutant(
        "faint saliency is cut off",
        HERE,
        "theirs / total",
        "theirs / total.clamp_min(1e-30)",
        contract.no_share_keeps_every_pixel_and_all_of_it_takes_every_pixel,
    ),
    Mutant(
        "mixup gives every image the batch's mean share",
        HERE,
        "Constant(inputs.share)",
        "Constant(inputs.share * 0 + inputs.share.mean())",
        test_the_weight_is_the_wanted_share,
    ),
]
