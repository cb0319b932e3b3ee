"""Where a policy is at home: what it was learned on, what it is asked for, what it never saw."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from automix.agents.config.settings import RunSettings
from automix.agents.config.worlds import compared_worlds
from automix.agents.learning.export import facts_of
from automix.policy.policy import MixPolicy

Facts = Mapping[str, Any]

COUNTS = {
    "log_train_size": ("training images", 7),
    "log_steps": ("optimizer steps", 8),
    "log_epochs": ("epochs", 4),
    "log_images_per_class": ("images per class", 7),
    "log_classes": ("classes", 4),
    "log_parameters": ("weights of the net", 9),
}
"""Observations that are log10 of a count over a number: what they count, and the number."""

NOTABLE = 0.05
"""Share of decisions from which a sentence says how far an observation is outside."""


def scope_of(
    policy: MixPolicy, settings: RunSettings, trials: Iterable[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """Return what a policy was learned on, what it is asked for, and what of that is outside.

    Args:
        policy: Of the contestant ``agent``.
        settings: Of the run; its compared worlds are what is asked for.
        trials: Of the comparison; the agent's hold its observations.

    Returns:
        ``learned_on`` and ``asked_for``: worlds, sets, nets and ranges. ``observations``: of each
        that left the range that the policy has seen, both ranges, and in which share of the
        decisions; None if the policy does not say what it has seen. ``outside``: sentences.
    """
    learned = _spans(policy.worlds)
    asked = _spans([facts_of(world) for world in compared_worlds(settings)])
    ranges = policy.about.get("observed")
    left = [*_left(policy, ranges, trials)] if isinstance(ranges, dict) else None
    return {
        "policy": policy.summary,
        "learned_on": learned,
        "asked_for": asked,
        "observations": left,
        "outside": [*_facts_outside(learned, asked), *_observations_outside(left or [])],
    }


def scope_lines(scope: Mapping[str, Any]) -> list[str]:
    """Return a scope in sentences, for a terminal or a page."""
    lines = [
        f"Policy ({scope['policy']}) learned on {_told(scope['learned_on'])}; asked for "
        f"{_told(scope['asked_for'])}."
    ]
    outside = scope["outside"]
    if outside:
        lines.append(f"Outside of what it was learned on: {'; '.join(outside)}.")
    if scope["observations"] is None:
        lines.append("It does not say which observations it has seen: an older version learned it.")
    elif not outside:
        lines.append("Nothing that it is asked about lies outside of what it has seen.")
    return lines


def _spans(worlds: Sequence[Facts]) -> dict[str, Any]:
    """Return what some worlds are between them."""

    def names(key: str) -> list[str]:
        return list(dict.fromkeys(str(world[key]) for world in worlds if key in world))

    def ends(key: str) -> list[float]:
        listed = [world.get(key) for world in worlds]
        own = [v for values in listed for v in (values if isinstance(values, list) else [values])]
        numbers = [value for value in own if isinstance(value, int | float)]
        return [min(numbers), max(numbers)] if numbers else []

    return {
        "worlds": len(worlds),
        "datasets": names("dataset"),
        "models": names("model"),
        "epochs": ends("budget"),
        "train_sizes": ends("train_sizes"),
        "label_noise": ends("label_noise"),
    }


def _told(spans: Facts) -> str:
    if not spans["worlds"]:
        return "what it does not say"
    worlds = "" if spans["worlds"] == 1 else f"{spans['worlds']} worlds: "
    parts = [_few(spans["datasets"]), _few(spans["models"])]
    parts += [f"{_range(spans['epochs'])} epochs"] if spans["epochs"] else []
    if sizes := spans["train_sizes"]:
        parts.append("all images" if sizes == [0, 0] else f"{_range(sizes)} images")
    if spans["label_noise"]:
        parts.append(f"{_range([100 * share for share in spans['label_noise']])} % wrong labels")
    return worlds + ", ".join(parts)


def _few(names: Sequence[str], most: int = 6) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return " + ".join(names[:most]) + rest


def _range(ends: Sequence[float]) -> str:
    return " to ".join(dict.fromkeys(f"{end:,.6g}" for end in ends))


def _facts_outside(learned: Facts, asked: Facts) -> list[str]:
    """Say what is known before a training starts and was not learned on."""
    found: list[str] = []
    if not learned["worlds"]:
        return found
    for key, word in (("datasets", "image set"), ("models", "net")):
        new = [name for name in asked[key] if name not in learned[key]]
        if new and learned[key]:
            found.append(f"{word} {_few(new)}; learned on {_few(learned[key])}")
    for key, text in (
        ("epochs", "budget {} epochs"),
        ("train_sizes", "{} training images"),
        ("label_noise", "label noise {}"),
    ):
        home, here = learned[key], asked[key]
        # 0 images are all that there are, however many.
        whole = key == "train_sizes" and 0 in (*home, *here)
        if home and here and not whole and (here[0] < home[0] or here[1] > home[1]):
            found.append(f"{text.format(_range(here))}; learned on {_range(home)}")
    return found


def _left(
    policy: MixPolicy, ranges: Mapping[str, Any], trials: Iterable[Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Yield the observations of the agent's trials that left the range that was learned on."""
    seen = [trial["observations"] for trial in trials if trial["kind"] == "agent"]
    if not seen:
        return
    rows = np.concatenate(seen)
    ends = np.cumsum(policy.form.observation_sizes)
    for name, part in zip(policy.form.observations, np.split(rows, ends[:-1], 1), strict=True):
        beyond = policy.beyond(name, part).any(1)
        if beyond.any():
            yield {
                "observation": name,
                "learned": list(policy.learned_range(name)),
                "asked": [float(part.min()), float(part.max())],
                "share": float(beyond.mean()),
            }


def _observations_outside(left: Iterable[Mapping[str, Any]]) -> list[str]:
    """Say which observations lie outside; the budget has been told with the facts."""
    found, rare = [], []
    for one in left:
        name = one["observation"]
        if name == "log_epochs":
            continue
        if one["share"] < NOTABLE:
            rare.append(name)
            continue
        word, over = COUNTS.get(name, (name, 0))
        ends = [one["asked"], one["learned"]]
        if over:
            ends = [[round(10 ** (over * end)) for end in pair] for pair in ends]
        share = f"{100 * one['share']:.0f} % of the decisions"
        found.append(f"{word} {_range(ends[0])} in {share}; learned on {_range(ends[1])}")
    if rare:
        found.append(f"{', '.join(rare)} in fewer than {100 * NOTABLE:.0f} % of the decisions each")
    return found
