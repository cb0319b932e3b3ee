"""What a policy decides once per epoch: which mix, how much of it, guided by which saliency."""

from __future__ import annotations

import re
from dataclasses import dataclass

from automix.errors import ConfigError
from automix.mixes import MIXES
from automix.saliency import SALIENCY

OFF = "off"
"""The saliency of an unguided mix."""

MAX_RATIO = 0.5
"""Beyond it the partner would be the main content: a smaller ratio with the names swapped."""

_FORM = re.compile(
    r"(?P<method>[a-z0-9_]+)(@(?P<ratio>[0-9.]+(e-[0-9]+)?))?(\+(?P<saliency>[a-z0-9_]+))?"
)


@dataclass(frozen=True)
class MixAction:
    """One epoch's mix.

    Attributes:
        method: A name in ``automix.mixes.MIXES``.
        ratio: Wanted mean share of the partner, ``E[1 - lam]``, in [0, 0.5]; 0 mixes nothing.
        saliency: ``"off"`` or a name in ``automix.saliency.SALIENCY``.

    Raises:
        ConfigError: If a name is unknown or the ratio is out of range.
    """

    method: str
    ratio: float
    saliency: str = OFF

    def __post_init__(self) -> None:
        entry = MIXES.entry(self.method)
        if not 0.0 <= self.ratio <= MAX_RATIO:
            raise ConfigError(
                f"the ratio of {self.method} is {self.ratio}, wanted 0 to {MAX_RATIO}",
                "ratio is the wanted mean share of the partner image",
            )
        if self.saliency != OFF:
            SALIENCY.entry(self.saliency)
            if not entry.tags.get("guided"):
                raise ConfigError(
                    f"{self.method} has no form guided by saliency, got {self.saliency!r}",
                    f"use saliency {OFF!r} with it",
                )

    @property
    def mixes(self) -> bool:
        """Whether any image is changed."""
        return self.ratio > 0.0 and self.method != "none"

    def resolved(self) -> MixAction:
        """Return the simplest action that trains in the same way.

        A ratio of 0, or the method ``none``, mixes nothing whatever else is asked.
        """
        return self if self.mixes else PLAIN

    def __str__(self) -> str:
        """Return ``method``, ``method@ratio`` or ``method@ratio+saliency``."""
        if not self.mixes:
            return "none"
        guide = "" if self.saliency == OFF else f"+{self.saliency}"
        return f"{self.method}@{self.ratio:g}{guide}"

    @classmethod
    def parse(cls, text: str) -> MixAction:
        """Read the form that ``str`` writes; a mix without ``@ratio`` gets the papers' 0.5.

        Raises:
            ConfigError: If the text has another form, or names something unknown.
        """
        found = _FORM.fullmatch(text)
        if found is None:
            raise ConfigError(
                f"{text!r} is not a mix action, wanted method@ratio or method@ratio+saliency",
                "for example cutmix@0.5 or rmix@0.5+gradient",
            )
        method = found["method"]
        default = 0.0 if method == "none" else MAX_RATIO
        try:
            ratio = float(found["ratio"]) if found["ratio"] else default
        except ValueError:
            raise ConfigError(f"{text!r}: the ratio {found['ratio']!r} is not a number") from None
        return cls(method, ratio, found["saliency"] or OFF).resolved()


def nearest_action(method: str, ratio: float, saliency: str) -> MixAction:
    """Return what three parts that were chosen apart mean together.

    A part without a meaning is dropped: saliency where the method has no guided form, everything
    where nothing mixes.
    """
    guided = bool(MIXES.entry(method).tags.get("guided"))
    ratio = 0.0 if method == "none" else ratio
    return MixAction(method, ratio, saliency if guided else OFF).resolved()


PLAIN = MixAction("none", 0.0, OFF)
"""No mixing."""
