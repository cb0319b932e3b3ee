"""From a policy's numbers to a mix action and back."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, TypeVar, get_args

import numpy as np
from gymnasium import spaces

from automix.core.errors import ConfigError
from automix.mixes import MIXES
from automix.mixing.actions import OFF, PLAIN, MixAction, form_of, nearest_action
from automix.mixing.boxed import from_numbers, numbers_of, to_numbers
from automix.saliency import SALIENCY

Space = Literal["factored", "flat", "box"]

ALL = "all"
"""In a vocabulary: whatever images and classifier can play (``automix.envs.vocabulary``)."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ActionSettings:
    """What a policy may choose from; the order is part of the policy and saved with it by name."""

    methods: Sequence[str] = ("none", "mixup", "cutmix", "rmix")
    """Each ``method``, ``method+saliency``, ``method+saliency:label_rule``, or a published name
    (``mixing.actions.PRESETS``). Saliency that an entry brings is not chosen by ``saliency``.
    ``all`` stands for every method and published name that images and classifier can play."""
    ratios: Sequence[float] = (0.1, 0.25, 0.5)
    """Wanted partner shares, each in [0, 0.5]."""
    saliency: Sequence[str] = (OFF,)
    """``off`` and names of saliency providers; ``all`` stands for ``off`` and each that some method
    can be guided by here."""
    space: Space = "factored"
    """``factored`` is MultiDiscrete [method, ratio, saliency]; ``flat`` is one Discrete list of
    the combinations that differ from each other; ``box`` is numbers in [-1, 1], where the ratio is
    any up to the largest (``automix.mixing.boxed``)."""

    def __post_init__(self) -> None:
        for name, values in (
            ("methods", self.methods),
            ("ratios", self.ratios),
            ("saliency", self.saliency),
        ):
            if not values:
                raise ConfigError(f"env.actions.{name} is empty, wanted one entry or more")
            if len(set(values)) != len(values):
                raise ConfigError(f"env.actions.{name} names something twice: {list(values)}")
        for entry in self.methods:
            if entry != ALL:
                _check_entry(entry)
        for ratio in self.ratios:
            if not 0 <= ratio <= 0.5:
                raise ConfigError(f"env.actions.ratios holds {ratio}, wanted numbers from 0 to 0.5")
        for provider in self.saliency:
            if provider not in (OFF, ALL):
                _say_where("env.actions.saliency", SALIENCY.entry, provider)
        if self.space not in get_args(Space):
            known = ", ".join(map(repr, get_args(Space)))
            raise ConfigError(f"env.actions.space is {self.space!r}, wanted one of {known}")


def _check_entry(entry: str) -> None:
    where = "env.actions.methods"
    form = _say_where(where, form_of, entry)
    if MIXES.info(form.method).points:
        raise ConfigError(
            f"{where}: {form.method} mixes point clouds, and environments train on images",
            "call it with mix_batch; cutmix is its form for images",
        )


def _say_where(where: str, look_up: Callable[[str], T], name: str) -> T:
    """Look a name up; say which setting holds it if it is unknown."""
    try:
        return look_up(name)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.message}", error.hint) from None


def checked(actions: Any, space: spaces.Space[Any]) -> np.ndarray:
    """Return a sample of an action space, or of a batch of them, as an array.

    Args:
        actions: Whole numbers of the space; or finite numbers, which may lie beyond a box.
        space: ``Discrete``, ``MultiDiscrete`` or ``Box``, or gymnasium's batch of such.

    Raises:
        ConfigError: If the shape, the type or one of the numbers is not of the space.
    """
    try:
        found = np.asarray(actions)
    except (TypeError, ValueError, RuntimeError):  # rows of several lengths, tensors on a GPU
        found = np.asarray(None)
    if np.issubdtype(space.dtype, np.floating):
        kinds, low, high, form = "iuf", -np.inf, np.array(np.inf), "finite numbers"
    else:
        kinds, low, high = "iu", -1, _ends(space)
        form = f"whole numbers from 0 to below {reprlib.repr(high.tolist())}"
    if found.shape != space.shape or found.dtype.kind not in kinds:
        got = f"{reprlib.repr(actions)}, of shape {found.shape} and type {found.dtype}"
    elif len(places := np.argwhere(~((found > low) & (found < high)))):
        place = places[0].tolist()
        got = f"{found[tuple(place)]}{f' at {place}' * bool(place)}"
    else:
        return found
    raise ConfigError(
        f"the action is {got}, wanted {form} in shape {space.shape}",
        "env.action_space.sample() returns one that fits",
    )


def _ends(space: spaces.Space[Any]) -> np.ndarray:
    """Return how many choices each number of a space has; a batch of several is a box of them."""
    if isinstance(space, spaces.Box):
        return space.high + 1
    return np.array(getattr(space, "nvec", getattr(space, "n", 0)))


class ActionCodec:
    """Maps between an action space and mix actions.

    Args:
        settings: The vocabulary, without ``all``.

    Raises:
        ConfigError: If it holds the word ``all``.

    Attributes:
        space: The gymnasium space.
        choices: Every mix action that the vocabulary names, each once. In the box they are those
            of fixed choices and schedules; what is played may have any ratio between them.
    """

    def __init__(self, settings: ActionSettings) -> None:
        if ALL in (*settings.methods, *settings.saliency):
            raise ConfigError(
                f"{ALL!r} among the actions is not expanded: what it stands for depends on "
                "images and classifier",
                "ask automix.envs.vocabulary.expanded(actions, world.check) first",
            )
        self.settings = settings
        every = product(settings.methods, settings.ratios, settings.saliency)
        found = dict.fromkeys(nearest_action(m, r, s) for m, r, s in every)
        # ``none`` comes first, whatever makes it; the sort keeps the order of the others.
        self.choices = tuple(sorted(found, key=lambda action: action != PLAIN))
        self.space: spaces.MultiDiscrete | spaces.Discrete | spaces.Box
        if settings.space == "flat":
            self.space = spaces.Discrete(len(self.choices))
        elif settings.space == "box":
            size = numbers_of(settings.methods, settings.saliency)
            self.space = spaces.Box(-1.0, 1.0, (size,), np.float32)
        else:
            self.space = spaces.MultiDiscrete(
                [len(settings.methods), len(settings.ratios), len(settings.saliency)]
            )

    def decode(self, action: np.ndarray | int) -> MixAction:
        """Return the mix action of a sample of the space.

        In the factored space a combination that means nothing becomes the nearest that does:
        saliency is dropped where the method has no guided form, everything where nothing mixes.

        Raises:
            ConfigError: If it is no such sample.
        """
        return self._decode(checked(action, self.space))

    def decode_all(self, actions: np.ndarray, space: spaces.Space[Any]) -> list[MixAction]:
        """Return the mix actions of a sample of a batch of spaces, as ``decode`` does of one."""
        return [self._decode(one) for one in checked(actions, space)]

    def _decode(self, action: np.ndarray) -> MixAction:
        if isinstance(self.space, spaces.Discrete):
            return self.choices[int(action)]
        settings = self.settings
        if isinstance(self.space, spaces.Box):
            parts = settings.methods, settings.ratios, settings.saliency
            return from_numbers(action, *parts)
        m, r, s = (int(i) for i in action)
        return nearest_action(settings.methods[m], settings.ratios[r], settings.saliency[s])

    def encode(self, action: MixAction) -> np.ndarray:
        """Return the sample of the space that plays an action.

        Raises:
            ConfigError: If the action is not among them.
        """
        if isinstance(self.space, spaces.Box):
            settings = self.settings
            return to_numbers(action, settings.methods, settings.ratios, settings.saliency)
        if action not in self.choices:
            raise ConfigError(
                f"{action} is not among the actions of this environment: "
                f"{', '.join(map(str, self.choices))}",
                "add its method, ratio and saliency to env.actions",
            )
        if isinstance(self.space, spaces.Discrete):
            return np.asarray(self.choices.index(action), dtype=np.int64)
        every = product(*(range(int(n)) for n in self.space.nvec))
        return next(
            np.asarray(index, dtype=np.int64)
            for index in every
            if self.decode(np.asarray(index)) == action
        )

    def masks(self) -> np.ndarray:
        """Return which entries of the space are offered, flat, as sb3-contrib wants it.

        Raises:
            ConfigError: If the space has no entries: numbers of a box cannot be masked.
        """
        if isinstance(self.space, spaces.Box):
            raise ConfigError(
                "env.actions.space is 'box', whose numbers cannot be masked",
                "use env.actions.space=flat or factored for a maskable agent",
            )
        if isinstance(self.space, spaces.Discrete):
            return np.ones(int(self.space.n), dtype=bool)
        return np.ones(int(self.space.nvec.sum()), dtype=bool)
