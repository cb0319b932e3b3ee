"""timm: its ``Mixup`` and its collating twin, playing a schedule.

They are what timm's loaders and ``train.py`` take them for: the prefetcher asks ``isinstance``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import timm.data
import torch
from torch import Tensor
from torch.utils.data import default_collate

from automix.core.errors import ConfigError
from automix.policy.mixer import BatchMixer


class Mixup(timm.data.Mixup):
    """Mixes batches where the net is trained (``train.py --no-prefetcher``).

    Args:
        mixer: Of a schedule or a policy; classes and label smoothing are its own.

    Raises:
        ConfigError: If it will want the net, now or in a later epoch: nobody here shows it.
    """

    def __init__(self, mixer: BatchMixer) -> None:
        if mixer.needs:
            raise ConfigError(
                f"the mixer wants: {', '.join(sorted(mixer.needs))}, which timm does not give",
                "call the mixer, or automix.MixedLoss(net, mixer), in a training loop of your own",
            )
        self.mixer = mixer
        super().__init__(num_classes=mixer.num_classes, label_smoothing=mixer.label_smoothing)

    @property
    def mixup_enabled(self) -> bool:
        """Whether anything is mixed; set anywhere, it reaches workers that run already."""
        return self.mixer.mixup_enabled

    @mixup_enabled.setter
    def mixup_enabled(self, enabled: bool) -> None:
        self.mixer.mixup_enabled = enabled

    def set_epoch(self, epoch: int) -> bool:
        """Tell how many epochs are done, before the loop over the loader, which fetches ahead.

        Returns:
            Whether the mixer's policy is to be asked now; never, for a schedule.
        """
        return self.mixer.set_epoch(epoch)

    def __call__(self, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Mix a batch of any size, odd ones included.

        Args:
            x: (b, c, h, w) float or uint8; not modified.
            target: (b,) classes.

        Returns:
            Mixed images, and targets (b, classes).
        """
        return self.mixer(x, target)


class FastCollateMixup(Mixup, timm.data.FastCollateMixup):
    """Mixes samples while they are collated, in the workers of timm's prefetching loader.

    Args:
        mixer: As of ``Mixup``.
    """

    def __call__(  # type: ignore[override]  # timm's own differs from its base in the same way
        self, batch: Sequence[tuple[Any, Any]], _: Any = None
    ) -> tuple[Tensor, Tensor]:
        """Collate and mix.

        Args:
            batch: Pairs of an image, (c, h, w) uint8 array or tensor, and its class.

        Returns:
            uint8 images (b, c, h, w), and targets (b, classes).
        """
        # One copy: default_collate would make another one, in shared memory, of what is then mixed.
        images = torch.stack([torch.as_tensor(image) for image, _ in batch])
        return self.mixer(images, default_collate([label for _, label in batch]))
