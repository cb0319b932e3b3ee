"""DeiT-S for small images: timm's vision transformer with patches of 4 pixels.

Touvron et al. 2021, arXiv:2012.12877, table 1 (384 wide, 12 blocks, 6 heads) without the
distillation token; 32 pixels make 64 patches.
"""

from __future__ import annotations

from typing import Any

from timm.models import register_model
from timm.models.vision_transformer import VisionTransformer

from automix.nets.zoo.vit import ImageSize, whole_patches

PATCH = 4


@register_model
def deit_small_patch4_32(
    pretrained: bool = False,
    num_classes: int = 100,
    in_chans: int = 3,
    img_size: ImageSize = 32,
    **_: Any,
) -> VisionTransformer:
    """21.4 M weights: DeiT-S for sides that are multiples of 4, 32 by default."""
    return VisionTransformer(
        img_size=whole_patches("deit_small_patch4_32", img_size, PATCH),
        patch_size=PATCH,
        embed_dim=384,
        depth=12,
        num_heads=6,
        drop_path_rate=0.1,
        num_classes=num_classes,
        in_chans=in_chans,
    )
