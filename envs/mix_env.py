"""``automix/Mix-v0``: an episode is one training, a step is one epoch of it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from automix.data.tasks import FamilySettings
from automix.trainer import TrainerSettings
from envs.game import EnvSettings, Game, ImageWorld, Turn, World

DIGITS_FAMILY = FamilySettings(
    dataset="digits",
    train_sizes=(100, 200, 400),
    label_noise=(0.0, 0.2, 0.4),
    val_size=300,
)
"""The embedded default: small trainings on which the best mix depends on size and noise."""


def image_world(
    family: FamilySettings | None = None,
    trainer: TrainerSettings | None = None,
    device: str = "cpu",
) -> ImageWorld:
    """Return real trainings, of the digits family unless told otherwise."""
    return ImageWorld(family or DIGITS_FAMILY, trainer or TrainerSettings(), device)


class MixEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """Choose, epoch by epoch, how the training images of a classifier are mixed.

    ## Action space
    ``MultiDiscrete([methods, ratios, saliency])``, or ``Discrete`` over the combinations that
    differ. ``info["mix"]`` names what was really played.

    ## Observation space
    A ``Box`` of named scalars, ``progress`` first (``envs.observations``).

    ## Rewards
    By name, from the validation split (``envs.rewards``).

    ## Starting state
    ``reset`` draws a task of the family (training images, wrong labels) and fresh weights.

    ## Episode end
    After the last epoch of the budget the episode is *terminated*: the budget is part of the task
    and progress is observed. A training that diverges ends at once with a penalty and
    ``info["diverged"]``.

    Args:
        world: Where tasks and trainings come from; the digits family if not given.
        settings: Actions, observations, reward.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 (gymnasium's form)

    def __init__(self, world: World | None = None, settings: EnvSettings | None = None) -> None:
        self._game = Game(world or image_world(), settings or EnvSettings(), members=1)
        self.action_space = self._game.action_space
        self.observation_space = self._game.observation_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Draw a task and fresh weights; return the first observation and the task's kind."""
        super().reset(seed=seed)
        observations = start_drawn(self._game, self.np_random)
        return observations[0], {"task": asdict(self._game.spec)}  # type: ignore[arg-type]

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Train for one epoch."""
        turn = self._game.play([self._game.codec.decode(action)])
        info = member_info(turn, 0)
        ended = turn.finished or info["diverged"]
        return turn.observations[0], float(turn.rewards[0]), ended, False, info

    def action_masks(self) -> np.ndarray:
        """Return which actions are offered, for maskable agents."""
        return self._game.codec.masks()


class MixVectorEnv(gymnasium.vector.VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """A group of episodes that share task, initial weights, batch order and mixing draws.

    What differs between its members is what their actions did, and nothing else: the group's
    mean is a baseline for each of them. All end together and start again in the same step
    (``info["final_obs"]``); one that diverged rests, with reward 0, until then.

    Args:
        group_size: Episodes side by side.
        world: Where tasks and trainings come from; the digits family if not given.
        settings: Actions, observations, reward.
    """

    metadata = {  # noqa: RUF012 (gymnasium's form)
        "render_modes": [],
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(
        self, group_size: int, world: World | None = None, settings: EnvSettings | None = None
    ) -> None:
        self._game = Game(world or image_world(), settings or EnvSettings(), group_size)
        self.num_envs = group_size
        self.single_action_space = self._game.action_space
        self.single_observation_space = self._game.observation_space
        self.action_space = batch_space(self.single_action_space, group_size)
        self.observation_space = batch_space(self.single_observation_space, group_size)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Draw one task for all; of a list of seeds the first counts, because they share it."""
        first = seed[0] if isinstance(seed, list) else seed
        super().reset(seed=first)
        observations = start_drawn(self._game, self.np_random)
        return observations, {"task": asdict(self._game.spec)}  # type: ignore[arg-type]

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Train every member for one epoch."""
        turn = self._game.play([self._game.codec.decode(action) for action in actions])
        infos: dict[str, Any] = {}
        for member in range(self.num_envs):
            infos = self._add_info(infos, member_info(turn, member), member)
        observations = turn.observations
        if turn.finished:
            infos["final_obs"] = turn.observations
            infos["_final_obs"] = np.ones(self.num_envs, dtype=bool)
            observations = start_drawn(self._game, self.np_random)
        ended = np.full(self.num_envs, turn.finished)
        return observations, turn.rewards, ended, np.zeros_like(ended), infos

    @property
    def task_kind(self) -> str:
        """Size and noise of the task that is being played."""
        return self._game.spec.kind if self._game.spec else ""

    def action_masks(self) -> np.ndarray:
        """Return which actions are offered to each member, (k, entries)."""
        return np.tile(self._game.codec.masks(), (self.num_envs, 1))


def start_drawn(game: Game, rng: np.random.Generator) -> np.ndarray:
    """Draw a task and a training seed, and start the game with them."""
    spec = game.world.draw(rng)
    return game.reset(spec, int(rng.integers(2**31)))


def member_info(turn: Turn, member: int) -> dict[str, Any]:
    """Return what was really played and what it showed."""
    metrics = turn.metrics[member]
    return {
        "mix": str(turn.played[member]),
        "diverged": metrics.diverged,
        "metrics": asdict(metrics),
    }
