"""How much of the partner a mix really shows, by what was asked for.

The mean of what is not the image's own, over all digits and several draws each. Guided mixes get
spectral saliency, which needs no classifier. At 32 pixels the digits are the same ones, enlarged.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor

from automix.core.errors import AutomixError
from automix.core.seeding import generator
from automix.mixes import MIXES
from automix.mixing.actions import OFF, MixAction
from automix.mixing.batch import MixSettings, mix_batch
from automix.saliency import SALIENCY
from automix.training.requirements import supports

SIZES, RATIOS, GUIDE = (8, 32), (0.1, 0.25, 0.5), "spectral"

SETTINGS = MixSettings(pairing="derange")  # the digits come in the order in which they were written

ROUNDS = 6
"""Draws an image; 1 797 images make 10 782 draws, a standard error of 0.003 or less."""


def share_forms(method: str) -> list[str]:
    """Return a method's forms, such as ``cutmix`` and ``cutmix+spectral``.

    None if it mixes nothing, or point clouds, which digits are not, or makes a training step of its
    own, whose share may be the net's.
    """
    info = MIXES.info(method)
    if not MixAction.parse(method).mixes or info.points or info.step:
        return []
    return [method, f"{method}+{GUIDE}"] if info.guided else [method]


def drawn(method: str) -> bool:
    """Return whether a method has a picture: a mask or layers, on images, by any net or none."""
    entry = MIXES.entry(method)
    return not entry.info.step and "cnn" in supports(entry.info)


def realised_share(form: str, ratio: float, side: int, rounds: int = ROUNDS) -> float | None:
    """Return the mean realised share of a form, or None where it cannot mix such images.

    Args:
        form: As ``share_forms`` writes it.
        ratio: What is asked for.
        side: Pixels of the images' sides.
        rounds: Draws an image.
    """
    method, _, guide = form.partition("+")
    action = MixAction(method, ratio, guide or OFF)
    images, labels, maps = _digits(side)
    shares = []
    for r in range(rounds):
        try:
            mixed = mix_batch(
                images,
                labels,
                action,
                num_classes=10,
                rng=generator(r, "realised"),
                saliency=maps if guide else None,
                settings=SETTINGS,
            )
        except AutomixError:
            return None
        # Not lam: what erases shows less of the image and keeps the label whole.
        shares.append(1 - mixed.own_share)
    return float(torch.cat(shares).mean())


@lru_cache(maxsize=len(SIZES))
def _digits(side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return images, labels and maps."""
    digits = load_digits()
    small = torch.from_numpy(digits.images.astype(np.float32) / 16)[:, None]
    images, labels = (
        F.interpolate(small, size=side, mode="bilinear"),
        torch.from_numpy(digits.target),
    )
    return images, labels, SALIENCY[GUIDE](images, F.one_hot(labels).float(), torch.nn.Identity())
