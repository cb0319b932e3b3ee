"""The exported policy: a small net from observations to an action, without pickle.

``policy.json`` says in words what goes in and what comes out; ``policy.safetensors`` holds the
weights. Neither stable-baselines3 nor gymnasium is needed to ask it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from automix.core.errors import AutomixError, ConfigError, DataError
from automix.core.files import read_bytes, read_json, short, write_bytes, write_json
from automix.core.settings import Range
from automix.mixing.actions import MixAction, nearest_action
from automix.mixing.batch import MixSettings
from automix.mixing.boxed import from_numbers, numbers_of
from automix.policy.live import LiveMixer, checked_facts
from automix.policy.observations import Observer
from automix.policy.policy_net import (
    TOLERANCE,
    Layer,
    Memory,
    PolicyNet,
    State,
    checked_observations,
)
from automix.policy.schedule import settings_from
from automix.policy.shipped import AGAIN, DEFAULT, POLICIES, policy_folder, shipped

FORMAT = 1
SPACES = ("factored", "flat", "box")
MOST_CHOICES = 2**16


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
    """``factored``, ``flat`` or ``box``, as in the environment."""
    choices: Sequence[str]
    """The flat list, as ``method@ratio+saliency``."""
    epochs_per_action: int = 1
    """Epochs that a choice is played for, until the policy is asked again."""
    decisions: int = 0
    """Choices of a training, each for an equal share of its epochs; 0: ``epochs_per_action``."""

    def starts(self, budget: int) -> list[int]:
        """Return how many of so many epochs are done when each choice is made, from 0 on."""
        return decision_starts(budget, self.decisions, self.epochs_per_action)


def decision_starts(budget: int, decisions: int, epochs_per_action: int) -> list[int]:
    """Return how many epochs are done when each choice of a training is made, from 0 on.

    Args:
        budget: Epochs of the training.
        decisions: Choices, each for an equal share; 0 leaves it to ``epochs_per_action``.
        epochs_per_action: Epochs that a choice is played for; the last may be cut short.

    Raises:
        ConfigError: If the budget has fewer epochs than there are decisions.
    """
    if not decisions:
        return list(range(0, budget, epochs_per_action))
    if budget < decisions:
        raise ConfigError(
            f"a budget of {budget} epochs is shorter than its {decisions} decisions "
            "(env.decisions)",
            f"train for {decisions} epochs or more, or decide less often",
        )
    return [round(budget * number / decisions) for number in range(decisions)]


class MixPolicy:
    """A learned policy.

    Args:
        form: Its interface.
        net: From observations to the numbers behind an action; or only its layers, weights
            (out, in) and biases (out,) float32, with tanh between them and logits at the end.
        about: Where it comes from: task, model, budget, versions.
    """

    def __init__(
        self, form: PolicyForm, net: PolicyNet | Sequence[Layer], about: Mapping[str, Any]
    ) -> None:
        self.form, self.about = form, dict(about)
        self.net = net if isinstance(net, PolicyNet) else PolicyNet(layers=list(net))
        self._check_form()
        self.net.check(sum(form.observation_sizes), sum(self.sizes))

    @property
    def layers(self) -> Sequence[Layer]:
        """Weights and biases, first to last."""
        return self.net.layers

    @property
    def summary(self) -> str:
        """What it was learned for, in one line."""
        words = [f"{self.about[key]}" for key in ("agent", "dataset", "model") if key in self.about]
        words += [f"{len(self.worlds)} worlds"] if "worlds" in self.about else []
        if budgets := [world["budget"] for world in self.worlds]:
            words.append(f"{' to '.join(map(str, sorted({min(budgets), max(budgets)})))} epochs")
        return ", ".join(words)

    @property
    def worlds(self) -> list[Mapping[str, Any]]:
        """What it was learned on, a world each: dataset, sizes, noise, model, budget."""
        listed = self.about.get("worlds", [self.about])
        known = listed if isinstance(listed, list) else []
        return [w for w in known if isinstance(w, dict) and isinstance(w.get("budget"), int)]

    @property
    def sample_size(self) -> int:
        """Numbers that a sample of its action space consists of."""
        return len(self.sizes) if self.form.space != "box" else sum(self.sizes)

    def observer(self) -> Observer:
        """Return what makes its observations.

        Raises:
            DataError: If this version makes no such observations.
        """
        form = self.form
        try:
            observer = Observer(form.observations, form)
        except ConfigError as error:
            raise DataError(f"the policy cannot be asked: {error.message}", error.hint) from None
        if observer.sizes != tuple(form.observation_sizes):
            raise DataError(
                f"the policy cannot be asked: its observations have sizes "
                f"{list(form.observation_sizes)}, here they have {list(observer.sizes)}",
                "use the version of automix that it was exported with; policy.json names it",
            )
        return observer

    def learned_range(self, observation: str) -> tuple[float, float]:
        """Return between what it has seen an observation while it was learned.

        Returns:
            The least and the largest value; all there is where ``policy.json`` does not tell.
        """
        ranges = self.about.get("observed")
        told = ranges.get(observation) if isinstance(ranges, dict) else None
        numbers = told if isinstance(told, list) else []
        if len(numbers) != 4 or not all(isinstance(number, int | float) for number in numbers):
            return -math.inf, math.inf
        return numbers[0], numbers[3]

    def beyond(self, observation: str, values: np.ndarray) -> np.ndarray:
        """Return which values of an observation lie outside of what it has seen, as bools."""
        least, most = self.learned_range(observation)
        return (values < least - TOLERANCE) | (values > most + TOLERANCE)

    @property
    def mix(self) -> MixSettings:
        """How its choices were carried out where it was learned.

        Raises:
            DataError: If the file says what this version does not know.
        """
        return settings_from(self.about.get("mix") or {}, "policy.json: about.mix")

    def mixer(
        self,
        num_classes: int,
        *,
        epochs: int,
        train_size: int,
        batch_size: int | None = None,
        augmented: bool | None = None,
        parameters: int | None = None,
        peak_lr: float | None = None,
        seed: int = 0,
        label_smoothing: float = 0.0,
        settings: MixSettings | None = None,
    ) -> LiveMixer:
        """Return a callable that mixes batches as the policy says when it looks at a training.

        Args:
            num_classes: Classes of the labels.
            epochs: Of the training.
            train_size: Training images.
            batch_size: Of a step of the optimizer.
            augmented: Whether images are cropped, flipped or distorted before they are mixed.
            parameters: Weights of the net.
            peak_lr: The highest learning rate.
            seed: Of all draws.
            label_smoothing: Share of each label that goes to all classes alike, in [0, 1).
            settings: How actions are carried out; default as where the policy was learned.

        Raises:
            ConfigError: If something is missing that the policy sees, or it cannot play here.
            DataError: If this version does not know the policy's observations.
        """
        facts = checked_facts(
            self.form.observations,
            epochs,
            train_size,
            num_classes,
            batch_size=batch_size,
            augmented=augmented,
            parameters=parameters,
            peak_lr=peak_lr,
        )
        return LiveMixer(self, num_classes, facts, seed, settings or self.mix, label_smoothing)

    @property
    def recurrent(self) -> bool:
        """Whether it remembers what it has seen in an episode."""
        return self.net.memory is not None

    def logits(self, observations: np.ndarray) -> np.ndarray:
        """Return the net's numbers, (n, outputs), for first observations (n, d) of episodes."""
        return self.net(self._checked(observations))[0]

    def predict(
        self,
        observation: np.ndarray,
        state: State | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = True,
        rng: np.random.Generator | None = None,
    ) -> tuple[np.ndarray, Any]:
        """Return the sample of the action space for observations (d,) or (n, d), as SB3 does.

        Args:
            observation: As the environment gives it.
            state: What a recurrent policy returned for the observations before.
            episode_start: (n,) bool; where true, a recurrent policy forgets its state.
            deterministic: The likeliest action; otherwise one drawn with ``rng``.
            rng: Needed for drawing.

        Raises:
            ConfigError: If an observation has another number of numbers, or one is not finite.
        """
        scores, kept = self.net(self._checked(observation), state, episode_start)
        if not deterministic:
            scores = scores + self._noise(scores, rng)
        if self.form.space == "box":
            actions = scores
        else:
            ends = np.cumsum(self.sizes)[:-1]
            picked = np.stack([part.argmax(1) for part in np.split(scores, ends, axis=1)], 1)
            actions = picked[:, 0] if self.form.space == "flat" else picked
        state = kept if self.recurrent else state
        return (actions[0] if np.ndim(observation) == 1 else actions), state

    def action(self, observation: np.ndarray) -> MixAction:
        """Return the likeliest mix for one observation (d,).

        Raises:
            ValueError: If the policy is recurrent: ask its ``player()``.
        """
        if self.recurrent:
            raise ValueError("this policy remembers the episode: ask policy.player().action(...)")
        return self.player().action(observation)

    def player(self) -> PolicyPlayer:
        """Return the policy at the start of one episode."""
        return PolicyPlayer(self)

    def mix_of(self, sample: np.ndarray) -> MixAction:
        """Return the mix that one sample of the action space stands for."""
        form = self.form
        if form.space == "flat":
            return MixAction.parse(form.choices[int(sample)])
        if form.space == "box":
            return from_numbers(sample, form.methods, form.ratios, form.saliency)
        m, r, s = sample
        return nearest_action(form.methods[m], form.ratios[r], form.saliency[s])

    def _checked(self, observations: np.ndarray, axes: int = 2) -> np.ndarray:
        form = self.form
        names, sizes = form.observations, form.observation_sizes
        return np.atleast_2d(checked_observations(observations, names, sizes, axes))

    def _noise(self, scores: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        if self.net.output != "logits":
            raise ValueError(f"this policy has no probabilities to draw from: {self.net.output}")
        if rng is None:
            raise ValueError("drawing an action needs rng, a numpy Generator")
        # The largest of scores with Gumbel noise is a draw from their softmax.
        return rng.gumbel(size=scores.shape)

    @property
    def sizes(self) -> list[int]:
        """Outputs of the net behind each part of a sample, first to last."""
        form = self.form
        if form.space == "flat":
            return [len(form.choices)]
        if form.space == "box":
            return [numbers_of(form.methods, form.saliency)]
        return [len(form.methods), len(form.ratios), len(form.saliency)]

    def _check_form(self) -> None:
        form = self.form
        if form.space not in SPACES:
            known = ", ".join(map(repr, SPACES))
            raise DataError(f"policy: space is {form.space!r}, wanted one of {known}")
        if (form.space == "box") != (self.net.output in ("clip", "tanh")):
            raise DataError(f"policy: output is {self.net.output!r}, but space is {form.space!r}")
        if len(form.observations) != len(form.observation_sizes):
            raise DataError(
                f"policy: {len(form.observations)} observations, "
                f"but {len(form.observation_sizes)} sizes"
            )
        whole = Range(least=1, whole=True)
        whole.check("policy: epochs_per_action", form.epochs_per_action)
        Range(least=0, whole=True).check("policy: decisions", form.decisions)
        for size in form.observation_sizes:
            whole.check("policy: an observation's size", size)
        for name in form.choices:
            MixAction.parse(name)
        combined = len(form.methods) * len(form.ratios) * len(form.saliency)
        Range(1, MOST_CHOICES, whole=True).check("policy: its number of choices", combined)
        every = product(form.methods, form.ratios, form.saliency)
        named = {str(nearest_action(m, r, s)) for m, r, s in every}
        if sorted(form.choices) != sorted(named):
            raise DataError(
                f"policy: choices are {', '.join(form.choices) or 'none'}, but its methods, "
                f"ratios and saliency make {', '.join(sorted(named)) or 'none'}"
            )


class PolicyPlayer:
    """A policy in one episode; it keeps what a recurrent one remembers.

    Args:
        policy: The policy.
    """

    def __init__(self, policy: MixPolicy) -> None:
        self._policy = policy
        self._state: State | None = None

    def action(self, observation: np.ndarray) -> MixAction:
        """Return the likeliest mix for the next observation (d,) of the episode."""
        seen = self._policy._checked(observation, axes=1)
        samples, self._state = self._policy.predict(seen, self._state)
        return self._policy.mix_of(samples[0])


def save_policy(folder: Path, policy: MixPolicy) -> None:
    """Write ``policy.safetensors`` and then ``policy.json``, which carries its hash."""
    net = policy.net
    tensors = {}
    for number, (weight, bias) in enumerate(net.layers):
        tensors[f"layers.{number}.weight"] = weight
        tensors[f"layers.{number}.bias"] = bias
    if net.memory is not None:
        tensors |= {f"lstm.{name}": value for name, value in vars(net.memory).items()}
    weights = save({k: np.ascontiguousarray(v, dtype=np.float32) for k, v in tensors.items()})
    write_bytes(folder / "policy.safetensors", weights)
    form = {k: v if isinstance(v, str | int) else list(v) for k, v in asdict(policy.form).items()}
    write_json(
        folder / "policy.json",
        {
            "format": FORMAT,
            "about": policy.about,
            "form": form,
            "layers": len(net.layers),
            "activation": net.activation,
            "output": net.output,
            "recurrent": policy.recurrent,
            "sha256": hashlib.sha256(weights).hexdigest(),
        },
    )


def load_policy(folder: str | Path | None = None) -> MixPolicy:
    """Read a policy.

    Args:
        folder: An export, the directory of a run, or the name of a policy that comes along;
            ``worlds``, which knows many image sets, nets and budgets, where none is given.

    Raises:
        ConfigError: If there is no policy of that name.
        DataError: If a file is missing, damaged, of another format, or does not fit the other.
    """
    # The one that comes along is meant where none is given, whatever lies in the current folder.
    folder = POLICIES / DEFAULT if folder is None else policy_folder(folder)
    path = folder / "policy.json"
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        got = short(content.get("format") if isinstance(content, dict) else content)
        raise DataError(f"{path}: format is {got}, wanted {FORMAT}", AGAIN)
    weights = _read_weights(folder / "policy.safetensors", str(content.get("sha256")))
    try:
        form = PolicyForm(**content["form"])
        return MixPolicy(form, _net(content, weights), content.get("about") or {})
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise DataError(f"{path} does not describe a policy: {error}") from None
    except AutomixError as error:
        raise DataError(f"{path}: {error.message}", error.hint) from None


def list_policies() -> dict[str, str]:
    """Return the policies that come along: by name, what each was learned on, in one line."""
    return {name: _learned_on(load_policy(folder)) for name, folder in shipped().items()}


def _learned_on(policy: MixPolicy) -> str:
    sets = sorted({world["dataset"].partition("/")[0] for world in policy.worlds})
    sizes = [size for world in policy.worlds for size in world["train_sizes"]]
    return f"{policy.summary}; {min(sizes)} to {max(sizes)} images of {', '.join(sets)}"


def _net(content: Mapping[str, Any], weights: Mapping[str, np.ndarray]) -> PolicyNet:
    """Put a net together; files of the first release name neither output nor memory."""
    layers = [
        (weights[f"layers.{n}.weight"], weights[f"layers.{n}.bias"])
        for n in range(int(content["layers"]))
    ]
    memory = None
    if content.get("recurrent", False):
        memory = Memory(*(weights[f"lstm.{name}"] for name in ("seen", "kept", "bias")))
    return PolicyNet(
        layers=layers,
        activation=content["activation"],
        output=content.get("output", "logits"),
        memory=memory,
    )


def _read_weights(path: Path, digest: str) -> dict[str, np.ndarray]:
    content = read_bytes(path)
    if hashlib.sha256(content).hexdigest() != digest:
        raise DataError(
            f"{path} is not the file that policy.json was written with (sha256 differs)",
            "copy the whole export folder again",
        )
    try:
        return load(content)
    except (SafetensorError, KeyError) as error:  # KeyError: numbers of a type NumPy lacks
        raise DataError(f"{path} is damaged: {error}") from None
