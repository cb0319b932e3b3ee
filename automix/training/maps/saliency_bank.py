"""The last known saliency map of each training image, for each member that needs them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


class SaliencyBank:
    """Maps of one member, in the orientation of the untouched images.

    Args:
        n: Training images.
        size: (h, w) of the maps.
        device: Where.
    """

    def __init__(self, n: int, size: tuple[int, int], device: torch.device) -> None:
        # Uniform, for pixels that no view of an image has shown yet.
        self._maps = torch.full((n, *size), 1.0 / (size[0] * size[1]), device=device)
        # On the host, because it decides what to compute.
        self._known = np.zeros(n, dtype=bool)

    def knows(self, rows: np.ndarray) -> bool:
        """Return whether there is a map of each of these images, (b,) positions."""
        return bool(self._known[rows].all())

    def maps(self, index: Tensor) -> Tensor:
        """Return the maps (b, h, w) of images (b,)."""
        return self._maps[index]

    def store(self, index: Tensor, rows: np.ndarray, maps: Tensor, weight: Tensor) -> None:
        """Move the maps of some images towards new ones.

        Args:
            index: (b,) int64 on the device: which images, each once.
            rows: The same on the host.
            maps: (b, h, w) new maps.
            weight: (b, h, w) in [0, 1]: how far each pixel moves; 0 where it was not seen.
        """
        self._maps[index] = torch.lerp(self._maps[index], maps, weight)
        self._known[rows] = True

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of the maps and of which are known."""
        return {"maps": self._maps.clone(), "known": self._known.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a copy of the state of a bank of the same size."""
        self._maps.copy_(state["maps"])
        self._known[:] = state["known"]
