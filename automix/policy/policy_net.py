"""The net of an exported policy, in NumPy: affine layers, if it remembers behind an LSTM cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from automix.core.errors import ConfigError, DataError
from automix.policy.observations import OBSERVATIONS

Layer = tuple[np.ndarray, np.ndarray]
"""Weights (out, in) and biases (out,), float32."""

State = tuple[np.ndarray, np.ndarray]
"""Hidden and cell state, each (1, n, hidden) as stable-baselines3 has them."""

ACTIVATIONS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "tanh": np.tanh,
    "relu": lambda numbers: np.maximum(numbers, 0),
}

OUTPUTS = ("logits", "values", "clip", "tanh")
"""What the last layer's numbers are: ``logits`` of choices, from whose softmax actions can be
drawn; ``values`` of choices; or the action itself, cut to [-1, 1] or squashed into it."""

TOLERANCE = 1e-5
"""By which observations are rounded where they are written."""


@dataclass(frozen=True)
class Memory:
    """An LSTM cell, its gates in torch's order: input, forget, cell, output.

    Attributes:
        seen: Weights of the observation, (4 * hidden, d).
        kept: Weights of the hidden state, (4 * hidden, hidden).
        bias: (4 * hidden,).
    """

    seen: np.ndarray
    kept: np.ndarray
    bias: np.ndarray

    @property
    def size(self) -> int:
        """Width of the hidden state."""
        return self.kept.shape[1]

    def empty(self, count: int) -> State:
        """Return the state that ``count`` episodes start with."""
        zeros = np.zeros((1, count, self.size), dtype=np.float32)
        return zeros, zeros.copy()

    def step(self, seen: np.ndarray, state: State) -> State:
        """Return the state after observations (n, d)."""
        hidden, cell = (part[0] for part in state)
        gates = seen @ self.seen.T + hidden @ self.kept.T + self.bias
        enter, forget, new, leave = np.split(gates, 4, axis=1)
        cell = _sigmoid(forget) * cell + _sigmoid(enter) * np.tanh(new)
        return (_sigmoid(leave) * np.tanh(cell))[None], cell[None]


@dataclass(frozen=True, kw_only=True)
class PolicyNet:
    """From observations to the numbers behind an action.

    Attributes:
        layers: First to last.
        activation: Between them, a name in ``ACTIVATIONS``.
        output: One of ``OUTPUTS``.
        memory: In front of the layers, if the policy is recurrent.
    """

    layers: Sequence[Layer]
    activation: str = "tanh"
    output: str = "logits"
    memory: Memory | None = None

    def __call__(
        self, observations: np.ndarray, state: State | None = None, starts: np.ndarray | None = None
    ) -> tuple[np.ndarray, State | None]:
        """Return numbers (n, outputs) for observations (n, d), and what is remembered.

        Args:
            observations: One row an episode.
            state: What was remembered before; none at the start of episodes.
            starts: (n,) bool, where an episode starts and the state is forgotten.
        """
        hidden = observations
        if self.memory is not None:
            state = state if state is not None else self.memory.empty(len(hidden))
            if starts is not None:
                keep = 1 - np.asarray(starts, dtype=np.float32).reshape(1, -1, 1)
                state = state[0] * keep, state[1] * keep
            state = self.memory.step(hidden, state)
            hidden = state[0][0]
        activate = ACTIVATIONS[self.activation]
        for number, (weight, bias) in enumerate(self.layers):
            hidden = (activate(hidden) if number else hidden) @ weight.T + bias
        if self.output == "tanh":
            hidden = np.tanh(hidden)
        return (np.clip(hidden, -1, 1) if self.output == "clip" else hidden), state

    def check(self, inputs: int, outputs: int) -> None:
        """Check that the parts fit each other.

        Raises:
            DataError: If they do not; the part is named.
        """
        if self.activation not in ACTIVATIONS:
            known = " or ".join(map(repr, ACTIVATIONS))
            raise DataError(f"policy: activation is {self.activation!r}, wanted {known}")
        if self.output not in OUTPUTS:
            known = ", ".join(map(repr, OUTPUTS))
            raise DataError(f"policy: output is {self.output!r}, wanted one of {known}")
        if not self.layers:
            raise DataError("policy: no layers")
        if self.memory is not None:
            inputs = _checked_memory(self.memory, inputs)
        for number, (weight, bias) in enumerate(self.layers):
            _check_layer(number, weight, bias, inputs)
            inputs = weight.shape[0]
        if inputs != outputs:
            raise DataError(f"policy: {inputs} outputs, wanted {outputs} for its choices")


def checked_observations(
    given: np.ndarray, names: Sequence[str], sizes: Sequence[int], axes: int = 1
) -> np.ndarray:
    """Return observations as a policy reads them, float32 with 1 axis, (d,), or up to 2, (n, d).

    Args:
        given: What was observed.
        names: What the policy observes, in order.
        sizes: Numbers behind each name.
        axes: How many are taken at most.

    Raises:
        ConfigError: If they are of another form, or hold a number that is not finite or that the
            observation cannot have, such as percent; it is named.
    """
    wanted = f"wanted {sum(sizes)} numbers"
    try:
        found = np.asarray(given, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the observation is no array: {error}, {wanted}") from None
    if not 1 <= found.ndim <= axes or found.shape[-1] != sum(sizes):
        parts = ", ".join(f"{name} ({size})" for name, size in zip(names, sizes, strict=True))
        raise ConfigError(f"the observation has shape {found.shape}, {wanted}", f"these: {parts}")
    low, high = bounds_of(names, sizes)
    fits = (found >= low - TOLERANCE) & (found <= high + TOLERANCE)  # of nan neither is true
    if not fits.all():
        where = tuple(np.argwhere(~fits)[0])
        column = int(where[-1])
        name = np.repeat(list(names), list(sizes))[column]
        ends = f" from {low[column]:g} to {high[column]:g}" * (name in OBSERVATIONS)
        raise ConfigError(
            f"the observation holds {found[where]:g} for {name}, wanted a finite number{ends}",
            "accuracies are shares, not percent; environments cap what is larger and replace what "
            "is missing, and a loop of your own must, too",
        )
    return found


def bounds_of(names: Sequence[str], sizes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the least and the largest number, each (d,) float32, that observations can be.

    What this version does not make itself may be any finite number.
    """
    most = float(np.finfo(np.float32).max)
    own = [OBSERVATIONS.info(name) if name in OBSERVATIONS else None for name in names]
    ends = [(info.low, info.high) if info else (-most, most) for info in own]
    low, high = np.repeat(np.array(ends, dtype=np.float32), list(sizes), axis=0).T
    return low, high


def _checked_memory(memory: Memory, inputs: int) -> int:
    """Return the width of what a memory hands on."""
    wanted = {"seen": (4 * memory.size, inputs), "kept": (4 * memory.size, memory.size)}
    for name, shape in (wanted | {"bias": (4 * memory.size,)}).items():
        got = getattr(memory, name)
        if got.shape != shape:
            raise DataError(f"policy: lstm.{name} is {got.shape}, wanted {shape}")
        if not np.isfinite(got).all():
            raise DataError(f"policy: lstm.{name} holds numbers that are not finite")
    return memory.size


def _check_layer(number: int, weight: np.ndarray, bias: np.ndarray, inputs: int) -> None:
    if weight.ndim != 2 or weight.shape[1] != inputs or bias.shape != weight.shape[:1]:
        raise DataError(f"policy: layer {number} is {weight.shape}, wanted {inputs} inputs")
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise DataError(f"policy: layer {number} holds numbers that are not finite")


def _sigmoid(numbers: np.ndarray) -> np.ndarray:
    # The usual 1 / (1 + exp(-x)) overflows for large negative x.
    return 0.5 * (1 + np.tanh(0.5 * numbers))
