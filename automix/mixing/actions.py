"""What a policy decides once per epoch: which mix, how much of it, guided by which saliency."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from automix.core.errors import ConfigError, did_you_mean
from automix.labels import LABEL_RULES, check_label_rule
from automix.mixes import MIXES
from automix.saliency import SALIENCY

OFF = "off"
"""The saliency of an unguided mix."""

MAX_RATIO = 0.5
"""Beyond it the partner would be the main content: a smaller ratio with the names swapped."""

PRESETS: Mapping[str, str] = {
    "guidedmixup": "mixup+spectral",
    "guidedmixup_ap": "mixup+gradient",
    "lumix": "cutmix:perturbed",
    "saliency_grafting": "grafting+gradient:saliency_mass",
    "saliencymix": "cutmix+spectral",
    "snapmix": "asymmetric_cutmix+cam:cam_mass",
    "soft_augmentation": "soft_crop:visibility",
    "tlalign": "token_cutmix:token_aligned",
    "tokenmix_ema": "tokenmix+ema:cam_mass",
    "tokenmix_teacher": "tokenmix+teacher:cam_mass",
    "transmix": "cutmix:attention",
}
"""Published names: what a paper's method is made of here, ``method[+saliency][:label rule]``.

A name stands for its form wherever a method can be named: in ``MixAction.parse``, in the vocabulary
of an environment, as a contestant. Kept in the order of the letters."""

_FORM = re.compile(
    r"(?P<method>[a-z0-9_]+)"
    r"(@(?P<ratio>[0-9.]+(e-[0-9]+)?)(p(?P<probability>[0-9.]+(e-[0-9]+)?))?)?"
    r"(\+(?P<saliency>[a-z0-9_]+))?"
    r"(:(?P<label_rule>[a-z0-9_]+))?"
)


@dataclass(frozen=True)
class MixAction:
    """One epoch's mix.

    What mixes nothing, by a ratio of 0 or the method ``none``, is one action, ``PLAIN``, whatever
    else was asked for.

    Attributes:
        method: A name in ``automix.mixes.MIXES``.
        ratio: Wanted mean share of the partner, ``E[1 - lam]``, in [0, 0.5]; 0 mixes nothing.
        saliency: ``"off"`` or a name in ``automix.saliency.SALIENCY``.
        mix_probability: Share of batches that are mixed at all, above 0 and at most 1; the others
            are trained on as they are. It multiplies the trainer's own
            (``MixSettings.mix_probability``). A property of single published recipes, such as
            CutMix with p = 0.5: no policy chooses it.
        label_rule: A name in ``automix.labels.LABEL_RULES``, or ``""`` for the trainer's own
            (``MixSettings.label_rule``).

    Raises:
        ConfigError: If a name is unknown, the ratio or the probability is out of range, or the
            parts do not fit each other.
    """

    method: str
    ratio: float
    saliency: str = OFF
    mix_probability: float = 1.0
    label_rule: str = ""

    def __post_init__(self) -> None:
        MIXES.entry(self.method)
        if not 0.0 <= self.ratio <= MAX_RATIO:
            raise ConfigError(
                f"the ratio of {self.method} is {str(self.ratio)[:40]}, wanted 0 to {MAX_RATIO}",
                "ratio is the wanted mean share of the partner image",
            )
        if not 0.0 < self.mix_probability <= 1.0:
            raise ConfigError(
                f"the mix probability of {self.method} is {str(self.mix_probability)[:40]}, "
                "wanted above 0, at most 1",
                "it is the share of batches that are mixed; use none to mix no batch",
            )
        if self.saliency != OFF:
            SALIENCY.entry(self.saliency)
            if not (self.guided or self._labels_look):
                raise ConfigError(
                    f"{self.method} has no form guided by saliency, got {self.saliency!r}",
                    f"use saliency {OFF!r} with it",
                )
        if self.label_rule:
            check_label_rule(self.label_rule, self, self.method, self.saliency != OFF)
        if not self.mixes:
            nothing = {"method": "none", "ratio": 0.0, "saliency": OFF}
            vars(self).update(nothing, mix_probability=1.0, label_rule="")

    @property
    def guided(self) -> bool:
        """Whether the method has a form guided by saliency."""
        return MIXES.info(self.method).guided

    @property
    def _labels_look(self) -> bool:
        """Whether maps are for the labels, whatever they do to the mask."""
        rule = self.label_rule
        return bool(rule) and LABEL_RULES.info(rule).needs_maps

    @property
    def mixes(self) -> bool:
        """Whether any image is changed."""
        return self.ratio > 0.0 and self.method != "none"

    def __str__(self) -> str:
        """Return ``none`` or ``method@ratio[p<mix probability>][+saliency][:label rule]``."""
        if not self.mixes:
            return "none"
        applied = "" if self.mix_probability == 1.0 else f"p{self.mix_probability:g}"
        provider = "" if self.saliency == OFF else f"+{self.saliency}"
        rule = f":{self.label_rule}" if self.label_rule else ""
        return f"{self.method}@{self.ratio:g}{applied}{provider}{rule}"

    @classmethod
    def parse(cls, text: str) -> MixAction:
        """Read the form that ``str`` writes; a mix without ``@ratio`` gets the papers' 0.5.

        A published name (``PRESETS``) may stand for the method.

        Raises:
            ConfigError: If the text has another form, or names something unknown.
        """
        found = _FORM.fullmatch(text)
        if found is None:
            raise ConfigError(
                f"{text!r} is not a mix action, wanted method@ratio, method@ratio+saliency or "
                "method@ratio+saliency:label_rule",
                "for example cutmix@0.5, rmix@0.5+gradient, or cutmix@0.5p0.5 for half the batches",
            )
        form = form_of(found["method"])
        default = 0.0 if form.method == "none" else MAX_RATIO
        ratio = _number(text, "ratio", found["ratio"]) if found["ratio"] else default
        applied = found["probability"]
        probability = _number(text, "mix probability", applied) if applied else 1.0
        saliency = found["saliency"] or form.saliency or OFF
        rule = found["label_rule"] or form.label_rule
        return cls(form.method, ratio, saliency, probability, rule)


@dataclass(frozen=True)
class ActionForm:
    """What a vocabulary's entry names: a method, with whatever goes with it."""

    method: str
    saliency: str | None
    """Fixed, or None where it is chosen apart."""
    label_rule: str

    def matches(self, action: MixAction) -> bool:
        """Return whether an action is of this form."""
        return (
            action.method == self.method
            and self.saliency in (None, action.saliency)
            and action.label_rule == self.label_rule
        )


@lru_cache
def form_of(entry: str) -> ActionForm:
    """Return what ``method[+saliency][:label rule]`` or a published name stands for.

    Raises:
        ConfigError: If it names something unknown, or the parts do not fit each other.
    """
    found = _FORM.fullmatch(PRESETS.get(entry, entry))
    if found is None or found["ratio"] is not None:
        raise ConfigError(
            f"{entry!r} is not a mix method, wanted method, method+saliency or "
            "method+saliency:label_rule",
            "for example cutmix, cutmix+spectral, or snapmix; ratios are listed apart",
        )
    method, saliency, rule = found["method"], found["saliency"], found["label_rule"] or ""
    if method in PRESETS:
        raise ConfigError(
            f"{entry!r} adds to {method!r}, which is a published name and stands alone",
            f"name the parts: {method} stands for {PRESETS[method]}",
        )
    if method not in MIXES:
        known = sorted({*MIXES, *PRESETS})
        raise ConfigError(
            f"{method!r} is not a mix method.{did_you_mean(method, known)}",
            f"known: {', '.join(known)}",
        )
    if method != "none":  # else whatever goes with it means nothing
        MixAction(method, MAX_RATIO, saliency or OFF, label_rule=rule)
    return ActionForm(method, saliency, rule)


def index_of(action: MixAction, entries: Sequence[str]) -> int | None:
    """Return the position of the vocabulary entry that an action belongs to, or None.

    If it belongs to several, it is the narrowest.
    """
    forms = [form_of(entry) for entry in entries]
    matching = [i for i, form in enumerate(forms) if form.matches(action)]
    return max(matching, key=lambda i: forms[i].saliency is not None, default=None)


def _number(text: str, what: str, digits: str) -> float:
    try:
        return float(digits)
    except ValueError:
        raise ConfigError(f"{text!r}: the {what} {digits!r} is not a number") from None


def nearest_action(entry: str, ratio: float, saliency: str) -> MixAction:
    """Return what three parts that were chosen apart mean together.

    A part without a meaning is dropped: saliency where the method has no guided form or the entry
    brings its own, everything where nothing mixes.

    Args:
        entry: ``method[+saliency][:label rule]``, or a published name.
        ratio: Wanted partner share, in [0, 0.5].
        saliency: ``off`` or a provider.
    """
    form = form_of(entry)
    guided = MIXES.info(form.method).guided
    ratio = 0.0 if form.method == "none" else ratio
    provider = form.saliency or (saliency if guided else OFF)
    return MixAction(form.method, ratio, provider, label_rule=form.label_rule)


PLAIN = MixAction("none", 0.0)
"""No mixing."""
