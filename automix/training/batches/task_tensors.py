"""A task as training runs read it: images, targets and still maps on the device."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor

from automix.data.tasks import Task
from automix.mixing.checks import checked_labels
from automix.mixing.targets import as_targets
from automix.saliency import SALIENCY
from automix.training.settings import TrainerSettings


class TaskTensors:
    """What all training runs of one task share.

    Args:
        task: The data.
        settings: Batch size, probe and smoothing.
        device: Where.
    """

    def __init__(self, task: Task, settings: TrainerSettings, device: torch.device) -> None:
        self.task = task
        self.classes = task.images.num_classes
        self.train = task.split(task.train_index, device)
        labels = torch.from_numpy(task.train_labels)
        labels = checked_labels(labels, len(self.train), self.classes)
        self.targets = as_targets(labels, self.classes, settings.label_smoothing).to(device)
        self.trained = _trained(len(self.train), settings.batch_size)
        self.probe = min(settings.probe_size, len(self.train))
        # The probe comes first, the validation images after it, so that one pass measures both.
        seen = np.concatenate([task.train_index[: self.probe], task.val_index])
        self.seen = task.split(seen, device)
        probe_labels = labels[: self.probe].long()
        self.seen_labels = torch.cat([probe_labels, task.labels(task.val_index)]).to(device)
        self._still: dict[str, Tensor] = {}

    @property
    def form(self) -> tuple[object, ...]:
        """What the tasks of a stack have in common."""
        images = self.task.images
        return (images.shape, self.classes, self.trained, self.probe, len(self.seen))

    def still_maps(self, provider: str, index: Tensor, images: Tensor) -> Tensor:
        """Look up maps (b, h, w) of a provider that needs no classifier; each is computed once.

        Args:
            provider: A name in ``automix.saliency.SALIENCY``.
            index: (b,) positions in the training split.
            images: (b, c, h, w) of these positions, as the split gives them.
        """
        compute, everything = SALIENCY[provider], self.train.resident
        if everything is None:  # nor would the maps fit
            return compute(images, self.targets[index], nn.Identity())
        if provider not in self._still:
            self._still[provider] = compute(everything, self.targets, nn.Identity())
        return self._still[provider][index]


def _trained(n: int, batch_size: int) -> int:
    """Return how many images an epoch trains on: all, or all but one.

    An image alone in the last batch rests for the epoch. It would have no partner, and
    batch norm no statistics where its map is a single pixel.
    """
    return n - (batch_size > 1 and n % batch_size == 1)
