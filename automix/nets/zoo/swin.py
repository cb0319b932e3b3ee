"""A small Swin transformer for images of 32 pixels: timm's, with patches of 2 and windows of 4.

Liu et al. 2021, arXiv:2103.14030, section 3: windows that are shifted in every second block, and
tokens that merge between the stages. The paper's four stages would end at a single token.
"""

from __future__ import annotations

from typing import Any

from timm.models import register_model
from timm.models.swin_transformer import SwinTransformer

from automix.nets.zoo.vit import ImageSize, whole_patches


@register_model
def swin_mini_patch2_32(
    pretrained: bool = False,
    num_classes: int = 10,
    in_chans: int = 3,
    img_size: ImageSize = 32,
    **_: Any,
) -> SwinTransformer:
    """0.3 M weights: 16 x 16 tokens in 32 x 32 pixels, then 8 x 8; two blocks with each."""
    return SwinTransformer(
        img_size=whole_patches("swin_mini_patch2_32", img_size, 2),
        patch_size=2,
        embed_dim=48,
        depths=(2, 2),
        num_heads=(3, 6),
        window_size=4,
        drop_path_rate=0.05,
        num_classes=num_classes,
        in_chans=in_chans,
    )
