"""A distilled policy: a few questions about the observation, each with a threshold, then a mix.

``rule.json`` holds what a person can read in ``rule.txt``. Playing it takes no net::

    rule = load_rule("runs/x/export")
    mix = rule.action(observation)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from automix.core.errors import AutomixError, DataError
from automix.core.files import read_json, short
from automix.mixing.actions import MixAction
from automix.policy.policy_net import checked_observations
from automix.policy.shipped import AGAIN, policy_folder

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Split:
    """A question: is this number at most the threshold?"""

    observation: str
    part: int
    """Which number of the observation, from 0; an observation of one number has part 0."""
    threshold: float
    low: int
    """Node to go on with if the number is at most the threshold."""
    high: int
    """Node to go on with if it is above."""


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """An answer."""

    choice: MixAction
    share: float | None = None
    """Of the held-out states, how many come here."""
    fidelity: float | None = None
    """Of those, in how many the policy chooses the same; None where none came."""


class Rule:
    """A decision tree over named observations.

    Args:
        nodes: The root first; a split's nodes come after it.
        observations: Names in order, ``progress`` first.
        observation_sizes: Numbers behind each name.

    Raises:
        DataError: If a split names an unknown number, or a node that does not come later.
    """

    def __init__(
        self,
        nodes: Sequence[Split | Leaf],
        observations: Sequence[str],
        observation_sizes: Sequence[int],
    ) -> None:
        self.nodes = list(nodes)
        self.observations = tuple(observations)
        self.observation_sizes = tuple(observation_sizes)
        self._columns = [self._column(number, node) for number, node in enumerate(self.nodes)]
        if not self.nodes:
            raise DataError("rule: no nodes")

    def leaf(self, observation: np.ndarray) -> int:
        """Return the number of the leaf that one observation (d,) comes to."""
        # Policies read float32 too: a number that lies on a threshold must not change sides.
        names, sizes = self.observations, self.observation_sizes
        numbers = checked_observations(observation, names, sizes)
        place = 0
        while isinstance(node := self.nodes[place], Split):
            low = float(numbers[self._columns[place]]) <= node.threshold
            place = node.low if low else node.high
        return place

    def action(self, observation: np.ndarray) -> MixAction:
        """Return the mix for one observation (d,), as the environment gives it."""
        node = self.nodes[self.leaf(observation)]
        assert isinstance(node, Leaf)
        return node.choice

    def _column(self, number: int, node: Split | Leaf) -> int:
        """Return which entry of the observation vector a node asks for; 0 for a leaf."""
        if isinstance(node, Leaf):
            return 0
        if not all(number < child < len(self.nodes) for child in (node.low, node.high)):
            raise DataError(
                f"rule: node {number} leads to {node.low} and {node.high}, "
                f"wanted nodes from {number + 1} to {len(self.nodes) - 1}"
            )
        sizes = dict(zip(self.observations, self.observation_sizes, strict=True))
        if not 0 <= node.part < sizes.get(node.observation, 0):
            raise DataError(
                f"rule: node {number} asks for number {node.part} of {node.observation!r}",
                f"known: {', '.join(f'{name} ({size})' for name, size in sizes.items())}",
            )
        before = self.observation_sizes[: self.observations.index(node.observation)]
        return sum(before) + node.part


def rule_of(content: Any, where: str) -> Rule:
    """Build a rule from what ``rule.json`` holds.

    Args:
        content: Parsed JSON.
        where: Names it in messages.

    Raises:
        DataError: If something is missing, has another type, or does not fit.
    """
    try:
        return Rule(
            [_node(node) for node in content["nodes"]],
            [str(name) for name in content["observations"]],
            [int(size) for size in content["observation_sizes"]],
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{where} does not describe a rule: {error!r}") from None
    except AutomixError as error:
        raise DataError(f"{where}: {error.message}", error.hint) from None


def load_rule(folder: str | Path) -> Rule:
    """Read ``rule.json`` of an export, which ``policy_folder`` finds.

    Raises:
        DataError: If the file is missing, damaged, or of another format.
    """
    path = policy_folder(folder) / "rule.json"
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        got = short(content.get("format") if isinstance(content, dict) else content)
        raise DataError(f"{path}: format is {got}, wanted {FORMAT}", AGAIN)
    return rule_of(content, str(path))


def _node(content: Mapping[str, Any]) -> Split | Leaf:
    if "choice" in content:
        return Leaf(
            choice=MixAction.parse(content["choice"]),
            share=_share(content.get("share")),
            fidelity=_share(content.get("fidelity")),
        )
    return Split(
        observation=str(content["observation"]),
        part=int(content["part"]),
        threshold=_finite(content["threshold"]),
        low=int(content["low"]),
        high=int(content["high"]),
    )


def _share(value: Any) -> float | None:
    return None if value is None else _finite(value)


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{number} where a finite number was wanted")
    return number
