"""Amplitude mix: give an image some of its partner's low-frequency amplitude, and keep its phase.

Paper: Yang and Soatto 2020, FDA, arXiv:2004.05498, section 3.1, replaces the amplitude of low
frequencies; Xu et al. 2021, arXiv:2105.14159, section 3.2, mixes the amplitudes of all frequencies
linearly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from automix.core.settings import Range
from automix.masks.recipes import Recipe
from automix.masks.shapes import Constant, Rows
from automix.mixes import MIXES, MixInfo, MixInputs


@MIXES.register("amplitude_mix", MixInfo(keeps_label=True, constant=True))
def amplitude_mix(inputs: MixInputs, *, window: float = 0.1) -> Recipe:
    """Move the amplitude of low frequencies by ``share`` to the partner's; the label stays.

    Low-frequency amplitude is mostly light and tone, phase is where things are, so that what the
    label names is still there. Under the own phase, mixing amplitudes linearly is the same as
    blending the image with itself in the partner's amplitude.

    Formula:
        image = (1 - M) own + M restyled
        M = s
        restyled = inverse FFT of the partner's amplitude under the own phase, where the frequencies
                   along both sides are at most r, and of the own spectrum elsewhere
        r = max(1, floor(window min(h, w))) cycles per side

    Args:
        inputs: What was wanted, and what to draw from.
        window: Up to which frequency, in cycles per pixel of the shorter side, from 0 to 0.5; at
            least one cycle per side. 0.1 is that of FDA's code, 0.5 takes all.

    Differs:
        - FDA replaces, the other paper mixes all frequencies; ours mixes those of FDA's window.
        - The mean is mixed with its sign. The papers' pixels are never negative, so that theirs has
          none; this way normalised images are mixed as they would be before they were normalised.
    """
    cycles = "cycles per pixel; 0.1 is that of FDA, 0.5 takes all frequencies"
    Range(0, 0.5, hint=cycles).check("window", window)
    return Recipe(Constant(inputs.share), partner=InAmplitude(len(inputs.share), window))


@dataclass(frozen=True, slots=True)
class InAmplitude:
    """The own images with the low-frequency amplitude of their partners."""

    count: int
    """u."""
    window: float

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, rows: Rows) -> InAmplitude:
        return InAmplitude(len(np.arange(self.count)[rows]), self.window)

    def __call__(self, own: Tensor, partner: Tensor) -> Tensor:
        """Return restyled images, (u, c, h, w)."""
        h, w = size = own.shape[2:]
        spectrum, wanted = (torch.fft.rfft2(images.float()) for images in (own, partner))
        reach = max(1, int(min(size) * self.window))
        rows = torch.fft.fftfreq(h, 1 / h, device=own.device).abs() <= reach
        columns = torch.fft.rfftfreq(w, 1 / w, device=own.device) <= reach
        restyled = torch.polar(wanted.abs(), spectrum.angle())
        restyled[..., 0, 0] = wanted[..., 0, 0]
        low = rows[:, None] & columns
        return torch.fft.irfft2(torch.where(low, restyled, spectrum), size).to(own)

    def maps(self, own: Tensor, partner: Tensor) -> Tensor:
        """Return the own maps: what is seen, and where, stays."""
        return own
