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
    r"(?P<method>[a-z0-9_]+)"
    r"(@(?P<ratio>[0-9.]+(e-[0-9]+)?)(p(?P<probability>[0-9.]+(e-[0-9]+)?))?)?"
    r"(\+(?P<saliency>[a-z0-9_]+))?"
)


@dataclass(frozen=True)
class MixAction:
    """One epoch's mix.

    Attributes:
        method: A name in ``automix.mixes.MIXES``.
        ratio: Wanted mean share of the partner, ``E[1 - lam]``, in [0, 0.5]; 0 mixes nothing.
        saliency: ``"off"`` or a name in ``automix.saliency.SALIENCY``.
        mix_probability: Share of batches that are mixed at all, above 0 and at most 1; the others
            are trained on as they are. It multiplies the trainer's own
            (``MixSettings.mix_probability``). A property of single published recipes, such as
            CutMix with p = 0.5: no policy chooses it.

    Raises:
        ConfigError: If a name is unknown, or the ratio or the probability is out of range.
    """

    method: str
    ratio: float
    saliency: str = OFF
    mix_probability: float = 1.0

    def __post_init__(self) -> None:
        entry = MIXES.entry(self.method)
        if not 0.0 <= self.ratio <= MAX_RATIO:
            raise ConfigError(
                f"the ratio of {self.method} is {self.ratio}, wanted 0 to {MAX_RATIO}",
                "ratio is the wanted mean share of the partner image",
            )
        if not 0.0 < self.mix_probability <= 1.0:
            raise ConfigError(
                f"the mix probability of {self.method} is {self.mix_probability}, "
                "wanted above 0, at most 1",
                "it is the share of batches that are mixed; use none to mix no batch",
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
        """Return ``none`` or ``method@ratio[p<mix probability>][+saliency]``."""
        if not self.mixes:
            return "none"
        applied = "" if self.mix_probability == 1.0 else f"p{self.mix_probability:g}"
        guide = "" if self.saliency == OFF else f"+{self.saliency}"
        return f"{self.method}@{self.ratio:g}{applied}{guide}"

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
                "for example cutmix@0.5, rmix@0.5+gradient, or cutmix@0.5p0.5 for half the batches",
            )
        method = found["method"]
        default = 0.0 if method == "none" else MAX_RATIO
        ratio = _number(text, "ratio", found["ratio"]) if found["ratio"] else default
        applied = found["probability"]
        probability = _number(text, "mix probability", applied) if applied else 1.0
        return cls(method, ratio, found["saliency"] or OFF, probability).resolved()


def _number(text: str, what: str, digits: str) -> float:
    try:
        return float(digits)
    except ValueError:
        raise ConfigError(f"{text!r}: the {what} {digits!r} is not a number") from None


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
