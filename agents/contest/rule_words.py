"""A distilled rule in words: which observation, in which unit, against which number."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from automix.policy.rule import Leaf, Rule, Split, rule_of

Write = Callable[[float], str]


@dataclass(frozen=True)
class RuleLine:
    """One line of a rule, with what is indented below it."""

    text: str
    mix: str | None = None
    """The choice, if the line is one."""
    note: str = ""
    """How often it comes to it, and how often it is right."""
    below: Sequence[RuleLine] = field(default_factory=list)


def _percent(value: float) -> str:
    return f"{100 * value:.3g} %"


def _points(value: float) -> str:
    return f"{100 * value:+.3g} points".replace("-", "\N{MINUS SIGN}").replace("+0 ", "0 ")


def _guesses(value: float) -> str:
    text = f"{value:.3g}".replace("-", "\N{MINUS SIGN}")
    return f"{text} (1 is what guessing costs)"


def _images(value: float) -> str:
    return f"about {float(f'{10 ** (7 * value):.3g}'):,.0f}"


def _norm(value: float) -> str:
    return f"{value / (1 - value):.3g}" if value < 1 else "infinity"


def _plain(value: float) -> str:
    return f"{value:.3g}".replace("-", "\N{MINUS SIGN}")


UNITS: Mapping[str, tuple[str, Write]] = {
    "progress": ("the share of epochs done", _percent),
    "train_loss": ("training loss", _guesses),
    "val_loss": ("validation loss", _guesses),
    "mixed_loss": ("the loss on mixed batches", _guesses),
    "loss_gap": ("validation minus training loss", _guesses),
    "train_loss_change": ("the last change of training loss", _guesses),
    "val_loss_change": ("the last change of validation loss", _guesses),
    "train_accuracy": ("training accuracy", _percent),
    "val_accuracy": ("validation accuracy", _percent),
    "val_confidence": ("mean confidence on validation images", _percent),
    "partner_share": ("the realised partner share of the last epoch", _percent),
    "accuracy_gap": ("training minus validation accuracy", _points),
    "val_accuracy_change": ("the last change of validation accuracy", _points),
    "best_val_accuracy_gap": ("best so far minus present validation accuracy", _points),
    "gradient_norm": ("the gradient norm", _norm),
    "log_train_size": ("the number of training images", _images),
    "last_ratio": ("the last ratio", _plain),
    "last_method": ("the last method", _plain),
    "last_saliency": ("the last saliency", _plain),
}
"""What an observation is called in a sentence, and its values; others go by their own name."""


def called(observation: str) -> str:
    """Return what an observation is called."""
    return UNITS.get(observation, (observation.replace("_", " "), _plain))[0]


def rule_lines(content: Mapping[str, Any], where: str = "rule") -> list[RuleLine]:
    """Return a rule as lines.

    Args:
        content: The rule as ``explain`` returns it and ``rule.json`` holds it.
        where: Names it in messages.

    Raises:
        DataError: If it is not a rule.
    """
    rule = rule_of(content, where)
    first = rule.nodes[0]
    if isinstance(first, Leaf):
        return [RuleLine(f"always play {first.choice}", str(first.choice), _note(first))]
    return _lines(rule, 0, content)


def used_observations(rule: Rule) -> list[str]:
    """Return the observations that a rule asks for, in the order in which it does."""
    return list(dict.fromkeys(n.observation for n in rule.nodes if isinstance(n, Split)))


def fidelity_sentences(content: Mapping[str, Any]) -> list[str]:
    """Say how well a rule copies the net, and how well simpler copies do."""
    held_out, fitted, usual = content["held_out"], content["fitted"], content["majority"]
    low, high = content["ci95"]
    return [
        f"On {held_out['trials']} held-out training runs that it was not fitted to, the rule "
        f"chooses what the agent chose in {_share(content['fidelity'])} "
        f"[95 % interval {_share(low)} to {_share(high)}] of {held_out['states']} choices.",
        f"Always {usual['choice']}, the agent's most frequent choice, agrees in "
        f"{_share(usual['fidelity'])}; the most frequent choice of each epoch, whatever the "
        f"training run looks like, in {_share(content['by_epoch'])}.",
        f"The rule was fitted to {fitted['states']} choices in {fitted['trials']} other training "
        "runs. Fidelity tells how well it copies the agent, not how well a training run goes that "
        "obeys it.",
    ]


def rule_text(content: Mapping[str, Any]) -> str:
    """Return ``rule.txt``."""
    lines = ["What the agent does, as a rule:", "", *_flat(rule_lines(content), ""), ""]
    for sentence in fidelity_sentences(content):
        lines += textwrap.wrap(sentence, 90)
    return "\n".join([*lines, "", LEGEND, ""])


LEGEND = (
    "In brackets: in which share of the held-out choices the rule comes to this line, and in\n"
    "which share of those the agent chose the same. Numbers are rounded here, not in rule.json."
)


def _flat(lines: Sequence[RuleLine], indent: str) -> Iterator[str]:
    for line in lines:
        note = f"   [{line.note}]" if line.note else ""
        yield f"{indent}{line.text}{':' if line.below else ''}{note}"
        yield from _flat(line.below, indent + "    ")


def _lines(rule: Rule, place: int, content: Mapping[str, Any]) -> list[RuleLine]:
    """Return a node and all below it; an answer comes before a further question."""
    node = rule.nodes[place]
    if isinstance(node, Leaf):
        return [RuleLine(f"play {node.choice}", str(node.choice), _note(node))]
    low, high = _lines(rule, node.low, content), _lines(rule, node.high, content)
    # "was cutmix" before "was not cutmix", unless an answer can come first.
    named = _part(node, content) is not None
    high_first = len(high) < len(low) or (named and len(high) == len(low))
    then, other = (high, low) if high_first else (low, high)
    return [RuleLine(f"if {_condition(node, content, high_first)}", below=then), *_otherwise(other)]


def _otherwise(lines: list[RuleLine]) -> list[RuleLine]:
    """Return the other branch: without a further indent where it goes on asking."""
    if lines[0].mix is not None:
        return [RuleLine("otherwise", below=lines)]
    return [replace(lines[0], text=f"otherwise, {lines[0].text}"), *lines[1:]]


def _condition(node: Split, content: Mapping[str, Any], above: bool) -> str:
    """Say what a number is like on one side of a threshold."""
    name, write = UNITS.get(node.observation, (called(node.observation), _plain))
    part = _part(node, content)
    if part is not None:
        return f"{name} was {part}" if above else f"{name} was not {part}"
    if node.observation == "progress":
        return _when(node.threshold, int(content.get("epochs", 0)), above)
    number = f" [{node.part}]" if _size(node.observation, content) > 1 else ""
    return f"{name}{number} is {'above' if above else 'at most'} {write(node.threshold)}"


def _part(node: Split, content: Mapping[str, Any]) -> str | None:
    """Return what an entry of a one-hot stands for."""
    names = content.get("parts", {}).get(node.observation, [])
    return str(names[node.part]) if node.part < len(names) else None


def _when(threshold: float, epochs: int, late: bool) -> str:
    """Say in which epochs a branch is taken."""
    text = f"{'more than' if late else 'at most'} {_percent(threshold)} of the epochs are done"
    # Progress is a float32: its rounding must not move the last epoch.
    last = min(epochs, int(threshold * epochs + 1e-6) + 1)
    first, end = (last + 1, epochs) if late else (1, last)
    return f"{text} (epoch {first} to {end} of {epochs})" if first <= end else text


def _size(observation: str, content: Mapping[str, Any]) -> int:
    place = list(content["observations"]).index(observation)
    return int(content["observation_sizes"][place])


def _note(leaf: Leaf) -> str:
    if leaf.share is None:
        return ""
    if leaf.fidelity is None:
        return "no held-out epoch comes here"
    return f"{_share(leaf.share)} of choices, agrees in {_share(leaf.fidelity)}"


def _share(value: float) -> str:
    """Return a share in per cent; all is only said of all."""
    return "over 99 %" if 0.995 <= value < 1 else f"{100 * value:.0f} %"
