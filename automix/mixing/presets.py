"""Published names: what a paper's method is made of here.

A name stands for ``method[+saliency][:label rule]`` wherever a method can be named: in
``MixAction.parse``, in the vocabulary of an environment, as a contestant.
"""

from __future__ import annotations

from collections.abc import Mapping

PRESETS: Mapping[str, str] = {
    "guidedmixup": "mixup+spectral",
    "guidedmixup_ap": "mixup+gradient",
    "lumix": "cutmix:perturbed",
    "saliency_grafting": "grafting+gradient:saliency_mass",
    "saliencymix": "cutmix+spectral",
    "snapmix": "asymmetric_cutmix+cam:cam_mass",
    "soft_augmentation": "soft_crop:visibility",
    "tlalign": "token_cutmix:token_aligned",
    "tokenmix_ema": "tokenmix+ema:cam_mass",
    "tokenmix_teacher": "tokenmix+teacher:cam_mass",
    "transmix": "cutmix:attention",
}
"""Name -> form; kept in the order of their letters."""
