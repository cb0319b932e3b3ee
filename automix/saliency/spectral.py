"""Spectral residual saliency: what the spectrum's smooth trend does not predict.

Paper: Hou and Zhang 2007, "Saliency detection: a spectral residual approach", section 2; used by
GuidedMixup (arXiv:2306.16612) as its cheap provider.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from automix.saliency import SALIENCY, Classifier, SaliencyInfo, normalised

LARGEST = 128
"""Maps are computed at no more than this many pixels a side."""


@SALIENCY.register("spectral", SaliencyInfo(passes=(0, 0)))
def spectral(images: Tensor, targets: Tensor, classifier: Classifier) -> Tensor:
    """Back-transform of the log-amplitude residual of the grey image, blurred."""
    grey = images.detach().float().mean(1, keepdim=True)
    size = (grey.shape[2], grey.shape[3])
    if max(size) > LARGEST:
        grey = F.interpolate(grey, size=(min(size[0], LARGEST), min(size[1], LARGEST)), mode="area")
    spectrum = torch.fft.fft2(grey)
    amplitude = spectrum.abs().clamp_min(1e-8)
    trend = F.avg_pool2d(F.pad(amplitude.log(), (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    residual = torch.fft.ifft2(spectrum / amplitude * (amplitude.log() - trend).exp())
    saliency = _blurred(residual.abs().square())
    if saliency.shape[2:] != size:
        saliency = F.interpolate(saliency, size=size, mode="bilinear")
    return normalised(saliency[:, 0])


def _blurred(maps: Tensor) -> Tensor:
    """Blur (b, 1, h, w) by a Gaussian of 1/20 of the side, at least half a pixel (3 at 64)."""
    sigma = max(0.5, max(maps.shape[2:]) / 20)
    radius = max(1, round(2 * sigma))
    at = torch.arange(-radius, radius + 1, device=maps.device, dtype=maps.dtype)
    bell = (-(at**2) / (2 * sigma**2)).exp()
    bell = bell / bell.sum()
    # Replicated borders, because zeros outside would make every edge look plain.
    padded = F.pad(maps, (radius,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, bell[None, None, :, None]), bell[None, None, None, :])
