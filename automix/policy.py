"""The exported policy: a small net from observations to an action, without pickle.

``policy.json`` says in words what goes in and what comes out; ``policy.safetensors`` holds the
weights. Neither stable-baselines3 nor gymnasium is needed to ask it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from automix.actions import MixAction, nearest_action
from automix.errors import AutomixError, DataError
from automix.files import read_json, short, write_atomically, write_json

FORMAT = 1
ACTIVATION = "tanh"
LARGEST_WEIGHTS = 64 * 2**20
"""Bytes; a policy is some ten thousand numbers, so more is not a policy."""


@dataclass(frozen=True, kw_only=True)
class PolicyForm:
    """What a policy sees and what it may choose, by name."""

    observations: Sequence[str]
    """Names in order, ``progress`` first."""
    observation_sizes: Sequence[int]
    """Numbers behind each name."""
    methods: Sequence[str]
    ratios: Sequence[float]
    saliency: Sequence[str]
    space: str
    """``factored`` or ``flat``, as in the environment."""
    choices: Sequence[str]
    """The flat list, as ``method@ratio+saliency``."""
    epochs_per_action: int = 1
    """Epochs that a choice is played for, until the policy is asked again."""


class MixPolicy:
    """A learned policy.

    Args:
        form: Its interface.
        layers: Weights (out, in) and biases (out,) float32; tanh between layers.
        about: Where it comes from: task, model, budget, versions.
    """

    def __init__(
        self,
        form: PolicyForm,
        layers: Sequence[tuple[np.ndarray, np.ndarray]],
        about: Mapping[str, Any],
    ) -> None:
        self.form, self.layers, self.about = form, list(layers), dict(about)
        self._check()

    def logits(self, observations: np.ndarray) -> np.ndarray:
        """Return the scores of all choices, (n, outputs), for observations (n, d)."""
        hidden = np.atleast_2d(observations).astype(np.float32)
        for number, (weight, bias) in enumerate(self.layers):
            hidden = hidden @ weight.T + bias
            if number < len(self.layers) - 1:
                hidden = np.tanh(hidden)
        return hidden

    def predict(
        self,
        observation: np.ndarray,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = True,
        rng: np.random.Generator | None = None,
    ) -> tuple[np.ndarray, Any]:
        """Return the sample of the action space for observations (d,) or (n, d), as SB3 does.

        Args:
            observation: As the environment gives it.
            state: Passed through.
            episode_start: Ignored.
            deterministic: The likeliest action; otherwise one drawn with ``rng``.
            rng: Needed for drawing.
        """
        scores = self.logits(observation)
        if not deterministic:
            if rng is None:
                raise ValueError("drawing an action needs rng, a numpy Generator")
            # The largest of scores with Gumbel noise is a draw from their softmax.
            scores = scores + rng.gumbel(size=scores.shape)
        ends = np.cumsum(self._sizes())[:-1]
        picked = np.stack([part.argmax(1) for part in np.split(scores, ends, axis=1)], 1)
        actions = picked[:, 0] if self.form.space == "flat" else picked
        return (actions[0] if np.ndim(observation) == 1 else actions), state

    def action(self, observation: np.ndarray) -> MixAction:
        """Return the likeliest mix for one observation (d,)."""
        sample, _ = self.predict(observation)
        if self.form.space == "flat":
            return MixAction.parse(self.form.choices[int(sample)])
        m, r, s = sample
        return nearest_action(self.form.methods[m], self.form.ratios[r], self.form.saliency[s])

    def _sizes(self) -> list[int]:
        form = self.form
        if form.space == "flat":
            return [len(form.choices)]
        return [len(form.methods), len(form.ratios), len(form.saliency)]

    def _check(self) -> None:
        self._check_form()
        if not self.layers:
            raise DataError("policy: no layers")
        widths = [sum(self.form.observation_sizes), *(w.shape[0] for w, _ in self.layers)]
        for number, (weight, bias) in enumerate(self.layers):
            if (
                weight.shape != (widths[number + 1], widths[number])
                or bias.shape != weight.shape[:1]
            ):
                raise DataError(
                    f"policy: layer {number} is {weight.shape}, wanted {widths[number]} inputs"
                )
            if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
                raise DataError(f"policy: layer {number} holds numbers that are not finite")
        if widths[-1] != sum(self._sizes()):
            raise DataError(
                f"policy: {widths[-1]} outputs, wanted {sum(self._sizes())} for its choices"
            )

    def _check_form(self) -> None:
        form = self.form
        if form.space not in ("factored", "flat"):
            raise DataError(f"policy: space is {form.space!r}, wanted 'factored' or 'flat'")
        if len(form.observations) != len(form.observation_sizes):
            raise DataError(
                f"policy: {len(form.observations)} observations, "
                f"but {len(form.observation_sizes)} sizes"
            )
        for name in form.choices:
            MixAction.parse(name)
        every = product(form.methods, form.ratios, form.saliency)
        menu = {str(nearest_action(m, r, s)) for m, r, s in every}
        if sorted(form.choices) != sorted(menu):
            raise DataError(
                f"policy: choices are {', '.join(form.choices) or 'none'}, but its methods, "
                f"ratios and saliency make {', '.join(sorted(menu)) or 'none'}"
            )


def save_policy(folder: Path, policy: MixPolicy) -> None:
    """Write ``policy.safetensors`` and then ``policy.json``, which carries its hash."""
    tensors = {}
    for number, (weight, bias) in enumerate(policy.layers):
        tensors[f"layers.{number}.weight"] = np.ascontiguousarray(weight, dtype=np.float32)
        tensors[f"layers.{number}.bias"] = np.ascontiguousarray(bias, dtype=np.float32)
    weights = save(tensors)
    write_atomically(folder / "policy.safetensors", lambda path: _write_bytes(path, weights))
    form = {k: v if isinstance(v, str | int) else list(v) for k, v in asdict(policy.form).items()}
    write_json(
        folder / "policy.json",
        {
            "format": FORMAT,
            "about": policy.about,
            "form": form,
            "layers": len(policy.layers),
            "activation": ACTIVATION,
            "sha256": hashlib.sha256(weights).hexdigest(),
        },
    )


def load_policy(folder: str | Path) -> MixPolicy:
    """Read an export folder.

    Raises:
        DataError: If a file is missing, damaged, of another format, or does not fit the other.
    """
    folder = Path(folder)
    path = folder / "policy.json"
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        got = short(content.get("format") if isinstance(content, dict) else content)
        raise DataError(f"{path}: format is {got}, wanted {FORMAT}", "export the policy again")
    if content.get("activation") != ACTIVATION:
        got = short(content.get("activation"))
        raise DataError(f"{path}: activation is {got}, wanted {ACTIVATION!r}")
    weights = _read_weights(folder / "policy.safetensors", str(content.get("sha256")))
    try:
        form = PolicyForm(**content["form"])
        layers = [
            (weights[f"layers.{n}.weight"], weights[f"layers.{n}.bias"])
            for n in range(int(content["layers"]))
        ]
        return MixPolicy(form, layers, content.get("about") or {})
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(f"{path} does not describe a policy: {error}") from None
    except AutomixError as error:
        raise DataError(f"{path}: {error.message}", error.hint) from None


def _read_weights(path: Path, digest: str) -> dict[str, np.ndarray]:
    try:
        if path.stat().st_size > LARGEST_WEIGHTS:
            raise DataError(f"{path} has {path.stat().st_size} bytes, too many for a policy")
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest() != digest:
        raise DataError(
            f"{path} is not the file that policy.json was written with (sha256 differs)",
            "copy the whole export folder again",
        )
    try:
        return load(content)
    except (SafetensorError, KeyError) as error:  # KeyError: numbers of a type NumPy lacks
        raise DataError(f"{path} is damaged: {error}") from None


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)
