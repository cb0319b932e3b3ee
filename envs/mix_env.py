"""``automix/Mix-v0``: an episode is one training run, a step is one epoch of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils.seeding import np_random
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from automix.core.errors import ConfigError
from automix.data.tasks import FamilySettings, TaskSpec
from automix.envs.codec import ActionCodec
from automix.envs.groups import StackedGroups, StepResult, after_the_end, generator_at
from automix.envs.settings import EnvSettings
from automix.envs.worlds import ImageWorld, World
from automix.training.settings import TrainerSettings

DIGITS_FAMILY = FamilySettings(
    dataset="digits",
    train_sizes=(100, 200, 400),
    label_noise=(0.0, 0.2, 0.4),
    val_size=300,
)
"""The embedded default: small training runs on which the best mix depends on size and noise."""


def image_world(
    family: FamilySettings | None = None,
    trainer: TrainerSettings | None = None,
    device: str = "cpu",
) -> ImageWorld:
    """Return real training runs, by default of the digits family."""
    return ImageWorld(family or DIGITS_FAMILY, trainer or TrainerSettings(), device)


class MixEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """Choose, epoch by epoch, how the training images of a classifier are mixed.

    ## Action space
    ``MultiDiscrete([methods, ratios, saliency])``, or ``Discrete`` over the combinations that
    differ, or a ``Box`` of numbers (``env.actions.space``; ``envs.wrappers`` turns the first into
    the others). ``info["mix"]`` names what was really played.

    ## Observation space
    A ``Box`` of named scalars, ``progress`` first (``automix.policy.observations``).

    ## Rewards
    By name, from the validation split (``automix.envs.rewards``).

    ## Starting state
    ``reset`` draws a task of the family (training images, wrong labels) and fresh weights.

    ## Episode end
    After the last epoch of the budget the episode is *terminated*: the budget is part of the task
    and progress is observed. A training run that diverges ends at once with a penalty and
    ``info["diverged"]``.

    Args:
        world: Where tasks and training runs come from; the digits family if not given.
        settings: Actions, observations, reward.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 (gymnasium's form)

    def __init__(self, world: World | None = None, settings: EnvSettings | None = None) -> None:
        settings = settings or EnvSettings()
        if settings.fork:
            raise ConfigError(
                "env.fork is true, and one episode alone has none to share its state with",
                "use the vectorised form, or env.fork=false",
            )
        self._groups = StackedGroups(world or image_world(), settings, members=1)
        (self._group,) = self._groups.groups
        self.action_space = self._group.action_space
        self.observation_space = self._group.observation_space

    @property
    def codec(self) -> ActionCodec:
        """What the actions mean."""
        return self._group.codec

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Draw a task and fresh weights; return the first observation and the task's kind."""
        super().reset(seed=seed)
        spec, own_seed = draw_start(self._groups.world, self.np_random)
        return self._groups.reset([spec], [own_seed])[0], {"task": asdict(spec)}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Train for one epoch."""
        if self._group.spec and self._group.histories[0][-1].diverged:
            raise after_the_end()
        (result,) = self._groups.step([self.codec.decode(action)])
        info = member_info(result, 0)
        ended = result.finished or info["diverged"]
        return result.observations[0], float(result.rewards[0]), ended, False, info

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of everything that the next step depends on, as plain data.

        ``core.snapshots`` writes it to bytes and files. The generator that samples from
        ``action_space`` is not in it: it belongs to whatever chooses the actions.

        Raises:
            ConfigError: Before ``reset``.
        """
        return {**self._groups.state_dict(), "draws": [self.np_random.bit_generator.state]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from the state of an environment of the same world and settings.

        On the CPU every later step gives what it would have given there, bit for bit. This one may
        have been built just now or have played something else; it need not be reset.

        Raises:
            ConfigError: If it is of another environment; this one is then as it was.
        """
        self._groups.load_state_dict(state)
        self.np_random = generator_at(*state["draws"])

    def action_masks(self) -> np.ndarray:
        """Return which actions are offered, for maskable agents."""
        return self.codec.masks()


class MixVectorEnv(gymnasium.vector.VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """Groups of episodes that share task, initial weights, batch order and mixing draws.

    What differs between the members of a group is what their actions did, and nothing else: the
    group's mean is a baseline for each of them. Environment ``g * group_size + m`` is member m of
    group g. All end together; one that diverged rests, with reward 0, until then. With
    ``EnvSettings.fork`` all but one member of each group are *truncated* once on the way, and their
    next episodes begin in the same step.

    Args:
        group_size: Episodes side by side.
        world: Where tasks and training runs come from; the digits family if not given.
        settings: Actions, observations, reward.
        groups: How many; their classifiers are stacked where they have the same form.
        autoreset_mode: As gymnasium documents them; ``DISABLED`` wants a ``reset`` of all.
        num_envs: What ``gymnasium.make_vec`` gives in the place of ``groups``: all members.

    Raises:
        ConfigError: If the settings cannot be, or fork with ``NEXT_STEP``, or a group is not full.
    """

    def __init__(
        self,
        group_size: int = 1,
        world: World | None = None,
        settings: EnvSettings | None = None,
        groups: int = 1,
        autoreset_mode: AutoresetMode = AutoresetMode.SAME_STEP,
        num_envs: int | None = None,
    ) -> None:
        if num_envs is not None:
            groups = _groups_of(num_envs, group_size)
        self._mode, settings = AutoresetMode(autoreset_mode), settings or EnvSettings()
        self.metadata = {"render_modes": [], "autoreset_mode": self._mode}
        if settings.fork and self._mode is AutoresetMode.NEXT_STEP:
            raise ConfigError(
                "env.fork begins episodes in the step that ends others, which NEXT_STEP cannot say",
                "use AutoresetMode.SAME_STEP, or env.fork=false",
            )
        self._groups = StackedGroups(world or image_world(), settings, group_size, groups)
        group = self._groups.groups[0]
        self._codec = group.codec
        self.group_size, self.num_envs = group_size, groups * group_size
        self._rngs: list[np.random.Generator] = []
        self.single_action_space = group.action_space
        self.single_observation_space = group.observation_space
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Draw one task for each group; ``options["reset_mask"]`` must name all environments.

        Of a list of seeds, one an environment, the first of each group counts; from one seed,
        environment i gets ``seed + i``, as gymnasium does. Without any the draws go on.

        Raises:
            ConfigError: If only some are to be reset, or there are more or fewer seeds.
        """
        mask = np.asarray((options or {}).get("reset_mask", np.ones(self.num_envs, dtype=bool)))
        if mask.shape != (self.num_envs,) or not mask.all():
            raise ConfigError(
                f"reset_mask does not name all {self.num_envs} environments, which start together",
                "reset when all have ended, without a mask or with one that is true throughout",
            )
        if isinstance(seed, int):
            seed = [seed + env for env in range(self.num_envs)]
        if seed is not None and len(seed) != self.num_envs:
            raise ConfigError(f"got {len(seed)} seeds, wanted {self.num_envs}")
        if seed is not None or not self._rngs:
            super().reset(seed=seed[0] if seed else None)
            firsts = (seed or [None] * self.num_envs)[:: self.group_size]
            self._rngs = [np_random(first)[0] for first in firsts]
        return self._start()

    def _start(self) -> tuple[np.ndarray, dict[str, Any]]:
        """Return the first observations of new episodes, and infos about them."""
        drawn = [draw_start(self._groups.world, rng) for rng in self._rngs]
        observations = self._groups.reset(*zip(*drawn, strict=True))
        return observations, _columns([{"task": asdict(spec)} for spec in self._specs])

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Train every member for one epoch."""
        if self._mode is AutoresetMode.NEXT_STEP and self._groups.over:
            started, infos = self._start()
            nothing = np.zeros(self.num_envs)
            return started, nothing, nothing.astype(bool), nothing.astype(bool), infos
        results = self._groups.step(self._codec.decode_all(actions, self.action_space))
        infos = _columns([member_info(r, m) for r in results for m in range(self.group_size)])
        last = np.concatenate([result.observations for result in results])
        observations = np.concatenate([result.next_observations for result in results])
        truncated = np.concatenate([result.truncated for result in results])
        finished = results[0].finished
        ended = np.full(self.num_envs, finished)
        restarted, final_infos = truncated, infos
        if finished and self._mode is AutoresetMode.SAME_STEP:
            restarted, (observations, infos) = ended, self._start()
        if restarted.any():
            final = {"final_obs": last, "final_info": final_infos}
            infos = infos | final | {f"_{name}": restarted.copy() for name in final}
        rewards = np.concatenate([result.rewards for result in results])
        return observations, rewards, ended, truncated, infos

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of everything that the next step depends on, as ``MixEnv.state_dict``.

        Raises:
            ConfigError: Before ``reset``.
        """
        draws = [rng.bit_generator.state for rng in self._rngs]
        return {**self._groups.state_dict(), "draws": draws}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from the state of an environment like this one, as ``MixEnv.load_state_dict``.

        Raises:
            ConfigError: If it is of another environment; this one is then as it was.
        """
        self._groups.load_state_dict(state)
        self._rngs = [generator_at(draws) for draws in state["draws"]]

    @property
    def _specs(self) -> list[TaskSpec]:
        """The task of each environment; none before ``reset``."""
        specs = [group.spec for group in self._groups.groups for _ in range(self.group_size)]
        return [spec for spec in specs if spec is not None]

    @property
    def task_kinds(self) -> list[str]:
        """Size and noise of the task that each environment plays; empty before ``reset``."""
        return [spec.kind for spec in self._specs]

    def drawn_work(self, seeds: Sequence[int]) -> int:
        """Return the work of the tasks that ``reset(seed=seeds)`` would draw (``TaskFacts.work``).

        What an episode will cost is about proportional to it, so that work can be dealt out.
        """
        world, rngs = self._groups.world, [np_random(s)[0] for s in seeds[:: self.group_size]]
        return sum(world.facts(draw_start(world, rng)[0]).work for rng in rngs)

    def action_masks(self) -> np.ndarray:
        """Return which actions are offered to each member, (k, entries)."""
        return np.tile(self._codec.masks(), (self.num_envs, 1))


def _groups_of(num_envs: int, group_size: int) -> int:
    if group_size < 1 or num_envs % group_size:
        raise ConfigError(f"num_envs is {num_envs}, wanted a multiple of group_size, {group_size}")
    return num_envs // group_size


def draw_start(world: World, rng: np.random.Generator) -> tuple[TaskSpec, int]:
    """Draw a task and the seed of its training runs."""
    spec = world.draw(rng)
    return spec, int(rng.integers(2**31))


def member_info(result: StepResult, member: int) -> dict[str, Any]:
    """Return what was really played and what it showed."""
    metrics = result.metrics[member]
    return {
        "mix": str(result.played[member]),
        "epochs": result.epochs,
        "diverged": metrics.diverged,
        "metrics": dict(vars(metrics)),  # a flat record: ``asdict`` would copy it number by number
    }


def _columns(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Turn infos, one an environment, into gymnasium's dict of arrays with their ``_`` masks.

    ``VectorEnv._add_info`` gives the same, environment by environment, at many times the cost.
    """
    everyone = np.ones(len(rows), dtype=bool)
    columns: dict[str, Any] = {}
    for name, first in rows[0].items():
        values = [row[name] for row in rows]
        if isinstance(first, dict):
            columns[name] = _columns(values)
        else:
            plain = isinstance(first, int | float)
            columns[name] = np.array(values, dtype=None if plain else object)
        columns[f"_{name}"] = everyone
    return columns
