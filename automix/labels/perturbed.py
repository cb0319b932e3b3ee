"""Perturbed: a weight is a guess; the classifier and chance have a say, too.

After LUMix (Sun et al. 2022, arXiv:2211.15846). Its code was never published and its formula is
from memory: this is in its style, not a reproduction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from automix.core.errors import ConfigError
from automix.core.settings import Range
from automix.labels import LABEL_RULES, LabelInfo, MixRecord, Seen, Weights, watched_weights
from automix.labels.attention import partner_attended
from automix.masks.shapes import Array
from automix.nets.attention import carried


@LABEL_RULES.register("perturbed")
def perturbed(
    record: MixRecord, *, strength: float = 0.4, noise: float = 0.1, alpha: float = 1.0
) -> Array | Weights:
    """Move the area label towards what the classifier sees, and towards a random number.

    ``(1 - strength - noise) * area + strength * p(own) / (p(own) + p(partner)) + noise * r``. The
    probabilities are those of the step itself, so they cost no pass. Where nobody asks the
    classifier, the area stands for what it sees. An image that shows only one of the two keeps its
    label. With both settings at 0 this is the rule "area".

    Args:
        record: What the images show.
        strength: How much the classifier has to say, in [0, 1]. Of 0.4 to 0.5 that the paper is
            remembered to use, the smaller: a young classifier knows little.
        noise: How much chance has to say, in [0, 1 - strength].
        alpha: r is drawn from Beta(alpha, alpha); 1 is uniform, the law of the papers' shares.
    """
    how = Perturbation("perturbed", strength, noise, alpha)
    areas = record.areas
    return how.of(Weights(1 - areas, areas), record) if how.moves else 1 - record.area


@LABEL_RULES.register("perturbed_attention", LabelInfo(requires=("attention",)))
def perturbed_attention(
    record: MixRecord,
    *,
    strength: float = 0.4,
    noise: float = 0.1,
    alpha: float = 1.0,
    attention: float = 0.5,
) -> Weights:
    """Move the label of the rule "attention" as ``perturbed`` moves that of the area.

    With ``strength`` and ``noise`` at 0 this is the rule "attention"; with ``attention`` at 0,
    "perturbed".

    Args:
        record: What the images show.
        strength: How much the classifier's answer has to say, in [0, 1].
        noise: How much chance has to say, in [0, 1 - strength].
        alpha: Chance is drawn from Beta(alpha, alpha).
        attention: How much attention has to say within the label that is moved, in [0, 1].
    """
    how = Perturbation("perturbed_attention", strength, noise, alpha)
    Range(0, 1).check("perturbed_attention.attention", attention)
    return how.of(watched_weights(record, partner_attended, attention), record)


@LABEL_RULES.register("perturbed_token_aligned", LabelInfo(requires=("attention",)))
def perturbed_token_aligned(
    record: MixRecord, *, strength: float = 0.4, noise: float = 0.1, alpha: float = 1.0
) -> Weights:
    """Move the label of the rule "token_aligned" as ``perturbed`` moves that of the area.

    With ``strength`` and ``noise`` at 0 this is the rule "token_aligned".

    Args:
        record: What the images show.
        strength: How much the classifier's answer has to say, in [0, 1].
        noise: How much chance has to say, in [0, 1 - strength].
        alpha: Chance is drawn from Beta(alpha, alpha).
    """
    how = Perturbation("perturbed_token_aligned", strength, noise, alpha)
    return how.of(watched_weights(record, carried), record)


@dataclass(frozen=True, slots=True)
class Perturbation:
    """How far a label moves from the weight that a rule gives it.

    Raises:
        ConfigError: If the numbers mean nothing; names them as settings of the rule.
    """

    rule: str
    strength: float
    noise: float
    alpha: float

    def __post_init__(self) -> None:
        strength, noise = self.strength, self.noise
        if not (strength >= 0 and noise >= 0 and strength + noise <= 1):
            raise ConfigError(
                f"{self.rule}.strength is {strength} and {self.rule}.noise {noise}, "
                "wanted 0 or more, at most 1 together"
            )
        Range(above=0).check(f"{self.rule}.alpha", self.alpha)

    @property
    def moves(self) -> bool:
        """Whether anything moves."""
        return self.strength > 0 or self.noise > 0

    def of(self, base: Weights, record: MixRecord) -> Weights:
        """Return weights (n,) moved away from those of a base rule, which sum to 1."""
        if not self.moves:
            return base
        areas, lam = record.areas, base.own
        drawn = record.rng.beta(self.alpha, self.alpha, len(record.mask)).astype(np.float32)
        chance = torch.from_numpy(record.pairs.each(drawn)).to(areas.device, non_blocking=True)
        both = (areas > 0) & (areas < 1)

        def moved(lam: Tensor, seen: Tensor, rows: slice) -> Tensor:
            by_chance, mixed = (
                part[rows].to(seen.device, non_blocking=True) for part in (chance, both)
            )
            revised = (1 - self.strength - self.noise) * lam + self.strength * seen
            return torch.where(mixed, revised + self.noise * by_chance, lam).clamp(0, 1)

        def revision(seen: Seen, rows: slice) -> Tensor:
            given = lam[rows].to(seen.own.device, non_blocking=True)
            if base.revision:
                given = base.revision(seen, rows)
            total = seen.own + seen.partner
            return moved(given, torch.where(total > 0, seen.own / total, given), rows)

        own = moved(lam, lam, slice(None))
        asks = self.strength > 0 or base.revision is not None
        return Weights(own, 1 - own, revision=revision if asks else None, watch=base.watch)
