"""mixup: a constant, which is the wanted share; guided, the odds of the two maps."""

from __future__ import annotations

import torch
from torch.testing import assert_close

from tests.cases import each
from tests.contract import Case, Form, mask_of, saliency_maps
from tests.references import mixup as reference

MIXUP, GUIDED = Form("mixup"), Form("mixup", guided=True)


@each("form", [MIXUP, GUIDED])
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
