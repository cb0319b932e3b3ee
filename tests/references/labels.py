"""What two labels weigh, for one image at a time, straight from the papers' formulas."""

from __future__ import annotations

from collections.abc import Sequence


def mass(weights: Sequence, saliency: Sequence, norm: float = 1.0) -> float:
    """Norm of a saliency map (h, w) where weights (h, w) let it be seen."""
    total = 0.0
    for row, seen in zip(weights, saliency, strict=True):
        for weight, value in zip(row, seen, strict=True):
            total += (weight * value) ** norm
    return total ** (1 / norm)


def inverse(mask: Sequence) -> list[list[float]]:
    """Weights of the own image."""
    return [[1 - weight for weight in row] for row in mask]


def saliency_mass(mask: Sequence, own: Sequence, partner: Sequence, norm: float = 1.0) -> float:
    """Saliency Grafting: weight of the own label."""
    mine, theirs = mass(inverse(mask), own, norm), mass(mask, partner, norm)
    if mine + theirs == 0:
        return 1 - sum(sum(row) for row in mask) / (len(mask) * len(mask[0]))
    return mine / (mine + theirs)


def cam_mass(mask: Sequence, own: Sequence, partner: Sequence) -> tuple[float, float]:
    """SnapMix: weights of the own and of the partner's label."""
    return 1 - mass(mask, own), mass(mask, partner)


def perturbed(
    area: float, own: float, partner: float, chance: float, strength: float, noise: float
) -> float:
    """LUMix: weight of the own label, from two class probabilities and a random number."""
    if area in (0, 1):
        return area
    seen = own / (own + partner)
    return (1 - strength - noise) * area + strength * seen + noise * chance


def sureness(visible: float, classes: int, power: float) -> float:
    """Soft Augmentation: probability of a label of whose image a fraction is seen."""
    return 1 - (1 - 1 / classes) * (1 - visible) ** power


def softened(label: int, visible: float, classes: int, power: float) -> list[float]:
    """Soft Augmentation: a label that shares what it lacks among the others."""
    sure = sureness(visible, classes, power)
    return [sure if i == label else (1 - sure) / (classes - 1) for i in range(classes)]
