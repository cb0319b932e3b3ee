"""What the gallery draws: each mix, at each ratio, by each saliency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from automix.mixes import MIXES
from automix.mixing.actions import OFF, MixAction
from automix.saliency import SALIENCY

RATIOS = (0.25, 0.5)


@dataclass(frozen=True)
class GalleryRow:
    """One row of the gallery."""

    name: str
    """What was asked for: a mix method, or another name that ``MixAction.parse`` reads."""
    action: MixAction


def rows_of(
    mixes: Sequence[str] = (), ratios: Sequence[float] = RATIOS, saliency: Sequence[str] = ()
) -> list[GalleryRow]:
    """Return the rows, in the order of the names, each row once.

    Args:
        mixes: Names that ``MixAction.parse`` reads: a method, or a whole action such as
            ``cutmix@0.3+spectral``, which is taken as it is. Default all registered methods.
        ratios: Of what is not a whole action.
        saliency: Names of providers, and ``off``. Default all of them.

    Raises:
        ConfigError: If a name is unknown, or a ratio out of range.
    """
    providers = list(saliency) or [OFF, *SALIENCY]
    for provider in providers:
        if provider != OFF:
            SALIENCY.entry(provider)
    return list(
        dict.fromkeys(
            GalleryRow(name, action)
            for name in (mixes or list(MIXES))
            for action in _actions(name, ratios, providers)
        )
    )


def _actions(name: str, ratios: Sequence[float], providers: Sequence[str]) -> list[MixAction]:
    if "@" in name or "+" in name:
        return [MixAction.parse(name)]
    actions = []
    for ratio in ratios:
        plain = f"{name}@{ratio:g}"
        action = MixAction.parse(plain)
        if action.saliency != OFF or not MIXES.info(action.method).guided:
            actions.append(action)  # a name that says its saliency, or a method without any
        else:
            actions += [MixAction.parse(plain if p == OFF else f"{plain}+{p}") for p in providers]
    return actions
