"""FMix: show the partner where smooth random noise is high.

Paper: Harris et al. 2020, arXiv:2002.12047, section 4.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from automix.core.settings import Range
from automix.masks.grids import grid_of, saliency_of_cells
from automix.masks.shapes import Array, Dense, as_tensor
from automix.mixes import MIXES, MixInfo, MixInputs

FAINTEST = 1e-4
"""Waves whose amplitude is below this part of the largest are left out: together they move the
border of a mask by less than a tenth of a pixel, and drawing all takes as long as all the rest."""

PASSES = 40
"""After which values that a threshold still does not tell apart are equal, or nearly so."""

PATCHES = 7
"""Cells per side that guide the noise: finer maps would fray the borders."""


@MIXES.register("fmix", MixInfo(guided=True))
def fmix(inputs: MixInputs, *, decay: float = 3.0, guidance: float = 1.0) -> Dense:
    """Show the partner in the ``share`` of the pixels where smooth random noise is highest.

    Low-frequency noise has few, round hills, so that the masks are blobs of any outline, each pixel
    belongs to one image, and hardly any mask comes twice. The number of pixels is the share's, to
    the pixel.

    Formula:
        Z = inverse FFT of complex normal numbers times max(f, 1 / max(h, w))^-d
        M = 1 at the n pixels where Z is highest, 0 elsewhere
        n = s h w, rounded up or down, one as likely as the other
        Z + g std(Z) S  in place of Z, guided
        f: frequency; d: decay; g: guidance; S: the partner's saliency in standard deviations

    Args:
        inputs: What was wanted, and what to draw from.
        decay: Power d of the law ``amplitude ~ frequency^-d``, 0 or more; larger is smoother.
        guidance: Weight of the saliency beside the noise, 0 or more.

    Guided:
        The noise is raised where the partner is salient. Its map is pooled to 7 x 7 cells and
        smoothed, so that borders stay round; a flat map changes nothing.

    Differs:
        - The guided form is ours; the paper has none.
        - Waves below 1e-4 of the largest amplitude are left out, which moves a border by less than
          a tenth of a pixel and takes half the time.
        - The official code's soft band around the border is left out, and its label is the share
          that was drawn; under the label rule ``area`` ours counts the pixels.
    """
    Range(0).check("decay", decay)
    Range(0).check("guidance", guidance)
    u, (height, width) = len(inputs.share), inputs.size
    waves = noise(u, inputs.size, decay, inputs.rng).reshape(u, -1)
    # In float32 as the shares are: a tenth of 100 pixels is 10, not a little more.
    wanted = inputs.share * np.float32(height * width)
    up = inputs.rng.random(u) < 0.5
    count = np.where(up, np.ceil(wanted), np.floor(wanted)).astype(np.int64)
    if inputs.partner is None:
        mask: Array = highest(waves, count)
    else:
        # In units of the noise's spread, which leaves the noise itself as it is.
        weight = as_tensor(guidance * waves.std(1, keepdims=True), inputs.partner.device)
        raised = as_tensor(waves, inputs.partner.device) + weight * _smoothed(inputs.partner)
        # Choosing is several times as fast in numpy; on another device nothing may wait for it.
        mask = highest(raised.numpy(), count) if raised.is_cpu else highest_there(raised, count)
    return Dense(mask.reshape(u, 1, height, width))


def noise(u: int, size: tuple[int, int], decay: float, rng: np.random.Generator) -> np.ndarray:
    """Return noise whose waves have amplitudes ``frequency^-decay``, (u, h, w) float32.

    Waves longer than the image are as high as the one that fits it, as in the official code.
    """
    rows, amplitude = _amplitudes(size, decay)
    drawn = rng.standard_normal((u, *amplitude.shape, 2), dtype=np.float32)
    spectrum = np.zeros((u, size[0], amplitude.shape[1]), np.complex64)
    spectrum[:, rows] = drawn.view(np.complex64)[..., 0] * amplitude
    # First along the few columns there are; the second fills up the rest with zeros.
    waves = np.fft.irfft(np.fft.ifft(spectrum, axis=1), size[1], axis=2)
    return waves.astype(np.float32, copy=False)


@lru_cache(maxsize=16)
def _amplitudes(size: tuple[int, int], decay: float) -> tuple[np.ndarray, np.ndarray]:
    """Return which rows of the spectrum are not faint, (k,), and their amplitudes, (k, columns)."""
    longest = 1 / max(size)
    down, across = np.fft.fftfreq(size[0]), np.fft.rfftfreq(size[1])
    frequency = np.maximum(np.hypot(down[:, None], across), longest)
    amplitude = (longest / frequency) ** decay
    rows = np.flatnonzero(amplitude[:, 0] >= FAINTEST)
    columns = np.count_nonzero(amplitude[0] >= FAINTEST)
    return rows, amplitude[rows, :columns].astype(np.float32)


def highest(values: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Return 1 at the ``count`` highest values of each row and 0 elsewhere, (u, n) float32."""
    # A pass over all rows for each bit costs half of sorting them; partitioning would need one
    # place for all rows.
    wanted = np.maximum(count, 1)
    low, high = values.min(1), np.nextafter(values.max(1), np.float32(np.inf))
    above = np.full(len(values), values.shape[1])
    for _ in range(PASSES):
        if (above == wanted).all():
            break
        middle = (low + high) / 2
        shown = np.count_nonzero(values >= middle[:, None], axis=1)
        enough = shown >= wanted
        low, high = np.where(enough, middle, low), np.where(enough, high, middle)
        above = np.where(enough, shown, above)
    mask = (values >= low[:, None]) & (count > 0)[:, None]
    tied = np.flatnonzero(above != wanted)
    if len(tied):
        rank = values[tied].argsort(1).argsort(1)
        mask[tied] = rank >= values.shape[1] - count[tied, None]
    return mask.astype(np.float32)


def highest_there(values: Tensor, count: np.ndarray) -> Tensor:
    """Return the same as ``highest`` on the device of the values, which is not waited for."""
    places = torch.arange(values.shape[1], device=values.device)
    chosen = (places < as_tensor(count, values.device)[:, None]).float()
    order = values.argsort(1, descending=True)
    return torch.empty_like(values).scatter_(1, order, chosen)


def _smoothed(maps: Tensor) -> Tensor:
    """Return maps (u, h * w) in standard deviations from their mean, pooled and smoothed."""
    size = (maps.shape[1], maps.shape[2])
    grid = grid_of(size, PATCHES)
    cells = saliency_of_cells(maps, grid)
    spread, mean = torch.std_mean(cells, 1, correction=0, keepdim=True)
    # A flat map is flat but for rounding, which must not be blown up.
    apart = (cells - mean) / torch.maximum(spread, 1e-3 * mean).clamp(min=1e-30)
    return F.interpolate(apart.unflatten(1, grid)[:, None], size, mode="bilinear").flatten(1)
