"""The images that all rows share, a classifier that knows a little about them, and their mixes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch.nn as nn
from torch import Tensor

from automix.agents.config.settings import RunSettings
from automix.agents.gallery.rows import GalleryRow
from automix.agents.parallel.devices import choose_device
from automix.core.errors import AutomixError, ConfigError
from automix.core.seeding import generator
from automix.data.tasks import Task, TaskFamily, TaskSpec
from automix.mixes import MIXES
from automix.mixing.actions import OFF, PLAIN
from automix.mixing.batch import MixSettings, mix_batch
from automix.mixing.targets import as_targets
from automix.nets.create import create_classifier
from automix.nets.stacking import frozen_running_statistics
from automix.saliency import SALIENCY, only_in_training
from automix.training.population import Trainer
from automix.training.requirements import check_backbone

IMAGES = 8

EPOCHS = 2
"""Plain epochs of the classifier: saliency of a net that has learned nothing is noise."""

MOST_TRAINED = 5000
"""Training images for that, at most, so that large sets do not take hours."""


@dataclass(frozen=True)
class Scene:
    """What all rows are made from."""

    images: Tensor
    """(n, c, h, w) float32, scaled as the classifier takes them."""
    labels: Tensor
    """(n,) int64."""
    task: Task
    classifier: nn.Module
    """In evaluation mode, on the host."""
    accuracy: float
    """Of the classifier, on the validation split."""
    settings: RunSettings
    _maps: dict[str, Tensor | AutomixError] = field(default_factory=dict)

    def maps(self, provider: str) -> Tensor:
        """Return a provider's maps of the images, (n, h, w), computed once.

        Raises:
            AutomixError: If the provider cannot be used here.
        """
        if only_in_training(provider):
            raise ConfigError(
                f"saliency {provider!r} is part of a training run; these images are mixed outside"
            )
        if provider not in self._maps:
            targets = as_targets(self.labels, self.task.images.num_classes)
            try:
                with frozen_running_statistics(self.classifier):
                    maps = SALIENCY[provider](self.images, targets, self.classifier)
                self._maps[provider] = maps.detach().float()
            except AutomixError as error:
                self._maps[provider] = error
        known = self._maps[provider]
        if isinstance(known, AutomixError):
            raise known
        return known

    def shown(self, images: Tensor) -> Tensor:
        """Return images as they can be looked at, (n, c, h, w) in [0, 1]."""
        return (images.float() * self.task.std + self.task.mean).clamp(0, 1)


@dataclass(frozen=True)
class Shot:
    """What one row made of the scene."""

    row: GalleryRow
    images: Tensor
    """(n, c, h, w) in [0, 1]."""
    mask: Tensor
    """(n, 1, h, w) or (n, 1, 1, 1): the weight of what is not the image's own."""
    partner: np.ndarray | None
    """(n,) int64, or None where something is erased or an image has several partners."""
    targets: np.ndarray
    """(n, k)."""
    maps: Tensor | None
    """(n, h, w) of the images, where guided."""


def draw_task(settings: RunSettings) -> Task:
    """Return a clean task of the configured images.

    Raises:
        AutomixError: If they cannot be used.
    """
    family = TaskFamily(settings.task)
    family.tell()
    most = max(MOST_TRAINED, family.images.num_classes)
    spec = TaskSpec(train_size=0, label_noise=0.0, seed=settings.seed)
    return family.task(replace(spec, train_size=min(family.train_size(spec), most)))


def build_scene(task: Task, settings: RunSettings, count: int = IMAGES) -> Scene:
    """Draw training images of a task, and train a classifier on it a little.

    Args:
        task: The images.
        settings: Trainer (its budget apart), seed and device.
        count: Images, of different classes as far as there are any.

    Raises:
        AutomixError: If the model or the device cannot be used.
    """
    index = _of_different_classes(task, count, generator(settings.seed, "gallery", "images"))
    classifier, accuracy = _trained(task, settings)
    return Scene(task.normalised(index), task.labels(index), task, classifier, accuracy, settings)


def _of_different_classes(task: Task, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return positions of training images: one of each class before a second of any."""
    index = rng.permutation(task.train_index)
    first = np.sort(np.unique(task.images.labels[index], return_index=True)[1])
    others = np.setdiff1d(np.arange(len(index)), first)
    return index[np.concatenate([first, others])[:count]]


def _trained(task: Task, settings: RunSettings) -> tuple[nn.Module, float]:
    plain = replace(settings.trainer, epochs=EPOCHS, warmup_epochs=0, compile=False)
    trainer = Trainer(task, plain, choose_device(settings.device))
    trainer.reset(settings.seed)
    for _ in range(EPOCHS):
        metrics = trainer.run_epoch(PLAIN)
    net = create_classifier(
        plain.model,
        num_classes=task.images.num_classes,
        shape=task.images.shape,
        seed=settings.seed,
    )
    (state,) = trainer.state_dict()["members"]
    net.load_state_dict(state["classifier"])
    return net.eval(), metrics.val_accuracy


def mix_rows(
    scene: Scene, rows: Sequence[GalleryRow], mix: MixSettings | None = None
) -> tuple[list[Shot], Mapping[str, str]]:
    """Mix the scene as each row says.

    All rows of a ratio draw from equal generators, so that they begin with equal wanted shares.

    Args:
        scene: The images.
        rows: What to show.
        mix: How actions are carried out; default the scene's ``trainer.mix``.

    Returns:
        What the rows show, and why others are left out, by their names.

    Raises:
        ConfigError: If none is left.
    """
    shots, skipped = [], {}
    for row in rows:
        try:
            shots.append(_shot(scene, row, mix or scene.settings.trainer.mix))
        except AutomixError as error:
            skipped[str(row.action)] = error.message
    if not shots:
        reason = next(iter(skipped.values()), "no mix was named")
        raise ConfigError(f"the gallery has nothing to show: {reason}")
    return shots, skipped


def _shot(scene: Scene, row: GalleryRow, mix: MixSettings) -> Shot:
    action, images = row.action, scene.task.images
    model, shape = scene.settings.trainer.model, images.shape
    check_backbone(action, mix.label_rule, model, images.num_classes, shape)
    maps = None if action.saliency == OFF else scene.maps(action.saliency)
    mixed = mix_batch(
        scene.images,
        scene.labels,
        action,
        num_classes=images.num_classes,
        rng=generator(scene.settings.seed, "gallery", f"{action.ratio:g}"),
        saliency=maps,
        classifier=scene.classifier,
        settings=mix,
    )
    return Shot(
        row,
        scene.shown(mixed.images),
        mixed.mask,
        mixed.partner.numpy() if _has_one_partner(action.method) else None,
        mixed.targets.numpy(),
        maps,
    )


def _has_one_partner(method: str) -> bool:
    """Return whether one other image shows in each, or lends it its style."""
    info = MIXES.info(method)
    erases = info.keeps_label and not info.constant
    return not (erases or info.layers)
