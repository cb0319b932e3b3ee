"""Nets that timm has not, one file each, registered with timm: any net is a timm name.

They are for images of 4 to 64 pixels, where timm's own shrink the image too early, and in the forms
that the published mixing figures were measured with (docs/protocol.md). Only the small ones say
that they are ``stackable`` (``automix.nets.stacking``): the wide ones keep a processor busy by
themselves, so that members run one after the other.
"""

from automix.nets.zoo import deit, preact_resnet, pvt, resnext, small_cnn, swin, vit, wide_resnet

__all__ = ["deit", "preact_resnet", "pvt", "resnext", "small_cnn", "swin", "vit", "wide_resnet"]
