"""A small pyramid transformer for images of 32 pixels: timm's PVT v2 without its last two stages.

Wang et al. 2021, arXiv:2106.13797, section 3: overlapping patches, and keys that stand for blocks
of tokens. Patches of 7 pixels lie 4 pixels apart, whatever the size of the images.
"""

from __future__ import annotations

from typing import Any

from timm.models import register_model
from timm.models.pvt_v2 import PyramidVisionTransformerV2


@register_model
def pvt_v2_mini(
    pretrained: bool = False, num_classes: int = 10, in_chans: int = 3, **_: Any
) -> PyramidVisionTransformerV2:
    """0.4 M weights: 8 x 8 tokens in 32 x 32 pixels, with a key for each 2 x 2, then 4 x 4."""
    return PyramidVisionTransformerV2(
        depths=(2, 2),
        embed_dims=(48, 96),
        num_heads=(2, 4),
        sr_ratios=(2, 1),
        mlp_ratios=(4, 4),
        drop_path_rate=0.05,
        num_classes=num_classes,
        in_chans=in_chans,
    )
