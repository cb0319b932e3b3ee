"""Guided masks stay on the device of the maps and wait for nothing there.

PyTorch's meta device has shapes but no numbers: whoever asks it for one, or mixes it with the
host, gets an error.
"""

from __future__ import annotations

import numpy as np
import torch

from tests.automix.mixes.drawing import drawn, random_maps
from tests.cases import each

GUIDED = [
    *("attentive_cutmix", "cutmix", "fmix", "grafting", "gridmix", "mixup", "rmix"),
    *("rmix_least", "rmix_paste", "smoothmix"),
]


@each("method", GUIDED)
def test_masks_are_made_where_the_maps_are(method):
    there = torch.device("meta")
    maps = [random_maps(6, (8, 12)).to(there) for _ in range(2)]
    masks = drawn(method, np.full(6, 0.4), (8, 12), ratio=0.4, guided=True, maps=maps)
    assert masks.area().device == there
    dense = masks.dense(there)
    assert dense.shape == (6, 1, 8, 12)
    assert dense.dtype == masks.area().dtype == torch.float32
