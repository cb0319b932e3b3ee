"""One training run of a classifier, taken batch by batch: look, choose percentiles, step.

What RL-Mix needs and a choice by the epoch does not: gradient maps and answers on the clean batch
before it is mixed, and the gradient map of the mixed batch at the same weights.
"""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from automix.core.seeding import borrowed_global_rng, derived_seed, generator
from automix.labels import MixRecord
from automix.masks.pairing import pair_batches
from automix.masks.shapes import as_tensor
from automix.mixes import MixInputs
from automix.mixes.rmix import at_percentiles
from automix.mixing.batch import draw_share, label
from automix.mixing.blending import blend
from automix.saliency.gradient import of_gradients
from automix.training.batches.loader import Batch
from automix.training.metrics import EpochLog, EpochMetrics
from automix.training.population import Population

GRID = 8
"""Cells per side of the maps that the agent sees and the reward compares; any image has them."""

RATIO = 0.5
"""Of the published mix: blends are uniform in [0, 1]."""


@dataclass(frozen=True)
class BatchSaliency:
    """What the classifier makes of a batch before it is mixed."""

    maps: Tensor
    """(b, h, w) saliency, each with the sum 1."""
    cells: Tensor
    """(b, GRID, GRID) root mean square gradients: not normalised, as the reward compares them."""
    logits: Tensor
    """(b, classes)."""


class BatchTraining:
    """A training run that waits before every batch for percentiles.

    Args:
        population: Of one member; it is started here.
        seed: Weights and batches are those of any training run with this seed.
        device: Where.
    """

    def __init__(self, population: Population, seed: int, device: str = "cpu") -> None:
        self.population = population
        self.history: list[EpochMetrics] = population.reset([seed])
        self._ensemble, self._settings = population.alone(), population.settings
        (self._shared,) = self._ensemble.shared_batches
        self._seed, self._device = seed, torch.device(device)
        trained, size = self._shared.data.trained, self._settings.batch_size
        self._parts = [slice(at, min(at + size, trained)) for at in range(0, trained, size)]
        self._at = len(self._parts)

    @property
    def finished(self) -> bool:
        """Whether the budget is spent."""
        return self.history[-1].epoch >= self._settings.epochs

    @property
    def epoch_over(self) -> bool:
        """Whether the next batch is one of another epoch."""
        return self._at == len(self._parts)

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch."""
        return len(self._parts)

    def begin_epoch(self) -> None:
        """Draw the order of an epoch."""
        epoch = self.history[-1].epoch
        self._shared.start(epoch, self._settings, self._device)
        self._rng = generator(self._seed, "mix", epoch)
        self._log = EpochLog(1, self._device)
        self._at = 0

    def look(self) -> BatchSaliency:
        """Send the next batch, unmixed, through the classifier and back."""
        shared = self._shared
        shared.take(self._parts[self._at])
        images = shared.images.detach().requires_grad_()
        with self._private_draws("look"):
            logits = self._ensemble.classify(0, images)
            loss = F.cross_entropy(logits, self._ensemble.targets(0), reduction="sum")
            (gradients,) = torch.autograd.grad(loss, images)
        self._log.count([0], len(images), (1, 1))
        self._seen = BatchSaliency(of_gradients(gradients), cells_of(gradients), logits.detach())
        return self._seen

    def step(self, percentile: np.ndarray) -> float:
        """Mix the batch that was looked at, train on it, and close the epoch after its last one.

        Args:
            percentile: (b,) int: which of ``automix.mixes.rmix.PERCENTILES`` for each image.

        Returns:
            Cosine similarity, in [0, 1], of the gradient maps of the clean and the mixed batch.
        """
        batch, lam = self._mixed(percentile)
        with self._private_draws("step"):
            gradients = self._ensemble.step(batch, self._log)
        assert gradients is not None  # the batch wants them
        self._log.mixed([0], lam)
        self._at += 1
        if self.epoch_over:
            self.history += self._ensemble.close_epoch(self._log)
        return similarity(self._seen.cells, cells_of(gradients[:, 0]))

    def _mixed(self, percentile: np.ndarray) -> tuple[Batch, Tensor]:
        """Return the mixed batch and the own shares (b,)."""
        shared, settings, rng = self._shared, self._settings.mix, self._rng
        b, _, *size = shared.images.shape
        pairs = pair_batches(b, b, settings.pairing, rng)
        draws = 1 if settings.share_per == "batch" else b
        share = pairs.each(draw_share(RATIO, draws, rng, settings.concentration))
        maps = self._seen.maps
        partners = maps[as_tensor(pairs.partner, maps.device)]
        inputs = MixInputs(share, (size[0], size[1]), RATIO, rng, maps, partners)
        # As published, an image keeps its percentile where it is the partner of another.
        mask = at_percentiles(inputs, np.stack([percentile, percentile[pairs.partner]]))
        if settings.mix_probability < 1:
            played = np.full(b, rng.random() < settings.mix_probability)
            mask, share = mask.only(played), share * played
        record = MixRecord(mask, share, pairs, rng, own=maps, partner=partners)
        targets, lam, _, revised = label(
            self._ensemble.targets(0),
            shared.data.classes,
            record,
            settings.label_rule,
            settings.options,
        )
        revisions = [([0], revised, slice(None))] if revised else []
        images = blend(shared.images, pairs, mask)[:, None]
        return Batch(images, targets[:, None], True, revisions), lam

    def _private_draws(self, what: str) -> AbstractContextManager[None]:
        """Lend nets that draw, for dropout, a private state of the global generator."""
        if not self._ensemble.draws:
            return contextlib.nullcontext()
        epoch = self.history[-1].epoch
        return borrowed_global_rng(derived_seed(self._seed, "dropout", epoch, self._at, what))


def cells_of(gradients: Tensor) -> Tensor:
    """Turn gradients of the loss (b, c, h, w) into root mean squares on a grid, (b, GRID, GRID)."""
    maps = gradients.detach().float().square().mean(1, keepdim=True).sqrt()
    return F.adaptive_avg_pool2d(maps, GRID)[:, 0]


def similarity(clean: Tensor, mixed: Tensor) -> float:
    """Return the cosine between two batches of maps as long vectors; 0 where it means nothing.

    Maps without a gradient, and those of a training run that diverges, are like nothing at all: a
    reward that is not a number would end the agent too.
    """
    # By the peak first, so that the squares of small gradients do not vanish.
    a, b = (maps.flatten() / maps.max() for maps in (clean, mixed))
    cosine = float(F.cosine_similarity(a, b, dim=0))
    return min(max(cosine, 0.0), 1.0) if np.isfinite(cosine) else 0.0
