"""Random values in the place of an image: what erasing may leave instead of a plain colour."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from automix.masks.shapes import PerDraw


@dataclass(frozen=True, slots=True)
class Noise(PerDraw):
    """Normal random values, drawn where the images are."""

    seeds: np.ndarray
    """(u,) int64; images that are moved together share the first one's generator."""
    mean: float
    """In the units of the images."""
    spread: float
    """Standard deviation, in the units of the images."""
    plain: bool = False
    """Whether an image has one random colour, rather than one at each pixel."""

    def __call__(self, own: Tensor, partner: Tensor) -> Tensor:
        """Return new values, (u, c, h, w)."""
        shape = (*own.shape[:2], 1, 1) if self.plain else own.shape
        rng = torch.Generator(own.device).manual_seed(int(self.seeds[0]))
        values = torch.randn(shape, generator=rng, device=own.device)
        return (values * self.spread + self.mean).to(own).expand_as(own)

    def maps(self, own: Tensor, partner: Tensor) -> Tensor:
        """Return zeros: nothing is left to see."""
        return torch.zeros_like(own)


def draw_noise(
    u: int, rng: np.random.Generator, mean: float, spread: float, plain: bool = False
) -> Noise:
    """Return noise for u draws."""
    return Noise(rng.integers(2**31, size=u), mean, spread, plain)
