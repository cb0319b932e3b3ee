"""Learn a policy: rounds of whole episodes, an update after each."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from gymnasium.vector import AutoresetMode
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from automix.agents.config.settings import RunSettings
from automix.agents.config.worlds import worlds_of
from automix.agents.learning.agent_state import (
    agent_state_dict,
    load_agent_state_dict,
    with_replay,
)
from automix.agents.learning.algorithms import AGENTS, check_agent, updates_of
from automix.agents.learning.policy_nets import load_net
from automix.agents.learning.ranges import ObservedRanges
from automix.agents.learning.recorder import Recorder, RolloutLog
from automix.agents.learning.sb3 import refuse_divergence
from automix.agents.parallel.devices import stacked_groups
from automix.agents.parallel.worker import Worker
from automix.agents.runs.checkpoints import Checkpoint, Checkpoints, refuse_other_settings
from automix.agents.runs.progress import progress
from automix.agents.runs.rundir import RunDirectory, plain
from automix.agents.vec_env.group_vec_env import GroupVecEnv
from automix.core.errors import ConfigError, DataError
from automix.core.seeding import (
    borrowed_global_rng,
    derived_seed,
    global_rng_state,
    set_global_rng_state,
)
from automix.core.settings import affects
from automix.envs.mix_env import MixVectorEnv
from automix.envs.settings import EnvSettings
from automix.envs.worlds import WorldSettings, build_world
from automix.policy.policy import load_policy

log = logging.getLogger("automix")

Stop = Callable[[], int]
"""Answers 0, or the number of the signal that asks for the end."""


@dataclass(frozen=True)
class Learned:
    """An agent after learning, and what it cost."""

    agent: BaseAlgorithm
    updates: int
    episodes: int
    classifier_epochs: int
    passes: int
    """Samples sent forward and backward through classifiers."""
    wall_s: float
    ranges: ObservedRanges | None = None
    """Of what it has seen."""


def never() -> int:
    """Do not stop."""
    return 0


class Stopped(Exception):  # noqa: N818 (not an error: it was asked for)
    """Learning has stopped because it was asked to, and can be taken up again.

    Args:
        signal: What ``stop`` answered: the number of the signal that came.
    """

    def __init__(self, signal: int) -> None:
        super().__init__(f"stopped by signal {signal}")
        self.signal = signal


def learn(
    settings: RunSettings,
    workers: Sequence[Worker],
    device: str,
    directory: RunDirectory,
    stop: Stop = never,
) -> Learned:
    """Learn a policy and append one record per update to ``metrics.jsonl``.

    Where the directory has a checkpoint, learning goes on from it.

    Raises:
        Stopped: As soon as ``stop`` answers anything but 0; a checkpoint has been written.
        ConfigError: If the checkpoint belongs to other settings.
        DataError: If it cannot be gone on from.
    """
    settings, env = trainings_of(settings, workers, device)
    learning = Learning(settings, env, directory, stop)
    learning.load()
    learning.run()
    if settings.checkpoint.share:
        learning.save()
    env.close()
    return learning.learned()


def trainings_of(
    settings: RunSettings, workers: Sequence[Worker], device: str
) -> tuple[RunSettings, GroupVecEnv]:
    """Return the environments of a round, and the settings as checkpoints name them."""
    stacked = stacked_groups(settings, device)
    # Every checkpoint is to name the number that was meant, whatever the device.
    settings = replace(settings, agent=replace(settings.agent, stacked_groups=stacked))
    make_block = partial(
        make_mix_block,
        settings.agent.group_size,
        stacked,
        tuple(worlds_of(settings)),
        settings.env,
        device,
    )
    blocks = settings.agent.groups // stacked
    seed = derived_seed(settings.seed, "env")
    return settings, GroupVecEnv(make_block, blocks, workers, seed)


class Learning:
    """An agent that learns in one piece or in several, and can be taken up where it was.

    A checkpoint is the agent at the start of a rollout, what the environments have answered since,
    and the environments as they are now. An agent that goes on from it replays the rollout
    from what was written down, which takes no training, and then goes on.

    Args:
        settings: Of the run.
        env: The environments of a round.
        directory: Receives ``metrics.jsonl`` and ``checkpoints``.
        stop: Asked after each step.

    Raises:
        ConfigError: If the agent cannot act in the environments or learn with its settings, or
            cannot go on from the policy that they name.
    """

    def __init__(
        self, settings: RunSettings, env: GroupVecEnv, directory: RunDirectory, stop: Stop = never
    ) -> None:
        self._budget = settings.decisions
        check_agent(settings.agent, settings.env.actions.space)
        self.updates = updates_of(settings.agent, self._budget)
        self._settings, self._env, self._stop = settings, env, stop
        self._seed = derived_seed(settings.seed, "agent")
        self._until, self._wall_s, self._since = self.updates, 0.0, time.monotonic()
        self._start: dict[str, Any] | None = None
        logger = Logger(folder=None, output_formats=[])
        self._log = RolloutLog(env)
        self._recorder = Recorder(self._log, directory, logger, lambda *_: None)
        wrapped: VecEnv = self._recorder
        if settings.agent.normalise:
            # A policy that is gone on from takes observations as they are.
            wrapped = normalised(self._recorder, observations=not settings.policy)
        # SB3 initialises, samples and shuffles with the global generators: lend it private ones.
        with borrowed_global_rng(self._seed):
            self.agent = AGENTS[settings.agent.name](
                settings.agent, wrapped, self._budget, self._seed
            )
            self._generators = global_rng_state()
        if settings.policy:
            load_net(self.agent, load_policy(settings.policy).net)
        self.agent.set_logger(logger)
        self._total = self.updates * env.num_envs * self._budget
        self._shaping = shaping_settings(settings)
        self._checkpoints = Checkpoints(
            directory.path / "checkpoints", settings.checkpoint, self._shaping
        )

    @property
    def updates_done(self) -> int:
        """Rounds of episodes that have been learned from and recorded."""
        return self._recorder.rounds

    @property
    def finished(self) -> bool:
        """Whether all has been learned that the settings ask for."""
        return self.agent.num_timesteps >= self._total

    @property
    def score(self) -> float | None:
        """Mean validation accuracy of the last recorded round, in [0, 1]; None before the first."""
        return self._recorder.score

    def run(self, until_updates: int | None = None) -> None:
        """Learn until so many updates are done, or all.

        Pauses at the start of a rollout; ``save`` keeps the state, another call goes on.

        Raises:
            Stopped: As ``learn`` does.
            ConfigError: If the agent diverges.
        """
        if self.finished:
            return
        self._until = self.updates if until_updates is None else until_updates
        left = self.updates - self._recorder.rounds
        self._since = time.monotonic()
        with borrowed_global_rng(self._seed), progress("learning", left) as tick:
            self._recorder.tick = tick
            set_global_rng_state(self._generators)
            try:
                self.agent.learn(
                    self._total - self.agent.num_timesteps,
                    callback=_Watch(self._rollout_starts, self._stepped),
                    reset_num_timesteps=False,
                )
                self._mark_start()
            except _Paused:
                pass
            except Exception:  # of torch, a screen of tensors, where it meets what is not finite
                refuse_divergence(self.agent, self._settings.agent, self.updates_done)
                raise
            self._generators = global_rng_state()
        self._wall_s = self._spent()

    def save(self, folder: Path | None = None) -> None:
        """Write a checkpoint of where ``run`` has paused or ended.

        Args:
            folder: Gets it together with the records so far, for another's ``load``; if not
                given, it is one of the run's own.
        """
        self._since = time.monotonic()
        if folder is None:
            self._save()
            return
        checkpoints = Checkpoints(folder, self._settings.checkpoint, self._shaping)
        records = {"records": self._recorder.records()}
        checkpoints.write(self._recorder.steps, lambda: self._state_dict() | records)

    def load(self, folder: Path | None = None) -> bool:
        """Go on from the newest checkpoint of the directory; return whether there is one.

        Args:
            folder: Of a checkpoint that any ``Learning`` has saved there, in its place. What was
                learned comes from it, records and generators included; how it goes on being learned
                is what the agent's settings say here.

        Raises:
            ConfigError: If it belongs to other settings; with ``folder``, in more than how the
                agent learns.
            DataError: If the agent or the environments do not fit what is in it, or ``folder``
                holds none with records.
        """
        if folder is not None:
            self._load_from(folder)
            return True
        checkpoint = self._checkpoints.newest()
        if checkpoint is None:
            self._recorder.forget()
            return False
        refuse_other_settings(checkpoint, self._shaping)
        self._load_state_dict(checkpoint)
        log.info(
            "going on from %s, after update %d of %d",
            checkpoint.path,
            self._recorder.rounds,
            self.updates,
        )
        return True

    def _load_from(self, folder: Path) -> None:
        checkpoint = Checkpoints(folder, self._settings.checkpoint, self._shaping).newest()
        if checkpoint is None or "records" not in checkpoint.states:
            raise DataError(f"{folder} has no whole checkpoint with records")
        refuse_other_settings(checkpoint, self._shaping, partial(may_change, self._settings.agent))
        self._recorder.rewrite(checkpoint.states["records"])
        self._load_state_dict(checkpoint)

    def learned(self) -> Learned:
        """Return the agent, and what it has cost so far, earlier parts included."""
        return Learned(
            agent=self.agent,
            updates=self._recorder.rounds,
            episodes=self._recorder.episodes,
            classifier_epochs=self._recorder.epochs,
            passes=self._recorder.passes,
            wall_s=self._wall_s,
            ranges=self._recorder.ranges,
        )

    def _rollout_starts(self) -> None:
        self._mark_start()
        if self._recorder.rounds >= self._until:
            raise _Paused

    def _mark_start(self) -> None:
        """Copy what the next checkpoints start from; they add what has happened since."""
        self._log.begin()
        # The update that follows a round has happened by now, so its figures are known.
        self._recorder.record_round()
        refuse_divergence(self.agent, self._settings.agent, self.updates_done)
        self._start = {
            "agent": agent_state_dict(self.agent),
            "recorder": self._recorder.state_dict(),
        }

    def _stepped(self) -> None:
        if self._log.replaying:
            return
        signal = self._stop()
        if self._checkpoints.due() or (signal and self._settings.checkpoint.share):
            self._save()
        if signal:
            raise Stopped(signal)

    def _save(self) -> None:
        self._recorder.flush()
        self._checkpoints.write(self._recorder.steps, self._state_dict, self._recorder.score)

    def _state_dict(self) -> dict[str, Any]:
        if self._start is None:
            raise ConfigError("save was called before run", "call run first")
        return {
            "agent": {
                "agent": with_replay(self.agent, self._start["agent"]),
                "recorder": self._start["recorder"],
                "transcript": self._log.state_dict(),
                "wall_s": self._spent(),
            },
            "trainings": self._env.state_dict(),
        }

    def _load_state_dict(self, checkpoint: Checkpoint) -> None:
        try:
            state = checkpoint.states["agent"]
            with borrowed_global_rng(self._seed):
                load_agent_state_dict(self.agent, state["agent"])
                self._generators = global_rng_state()
            self._recorder.load_state_dict(state["recorder"])
            self._log.load_state_dict(state["transcript"])
            self._wall_s = float(state["wall_s"])
            self._env.load_state_dict(checkpoint.states["trainings"])
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise DataError(
                f"{checkpoint.path} cannot be gone on from: {' '.join(str(error).split())}",
                "remove it to go on from the one before",
            ) from error
        self._start = {"agent": state["agent"], "recorder": state["recorder"]}

    def _spent(self) -> float:
        """Return the seconds of all parts so far."""
        return self._wall_s + time.monotonic() - self._since


class _Paused(Exception):  # noqa: N818 (not an error)
    """Ends a call of SB3's ``learn`` at the start of a rollout, for which there is no other way."""


class _Watch(BaseCallback):
    """Calls back at the start of each rollout and after each step."""

    def __init__(self, started: Callable[[], None], stepped: Callable[[], None]) -> None:
        super().__init__()
        self._started, self._stepped = started, stepped

    def _on_rollout_start(self) -> None:
        self._started()

    def _on_step(self) -> bool:
        self._stepped()
        return True


def may_change(agent: object, name: str) -> bool:
    """Return whether an agent that is taken over may differ in a setting: in how it learns.

    Args:
        agent: Its settings, or their class.
        name: Dotted.
    """
    section, _, own = name.partition(".")
    return name == "seed" or (section == "agent" and affects(agent, own) != "shape")


def shaping_settings(settings: RunSettings) -> dict[str, Any]:
    """Return the settings that shape what is learned, as plain data; the rest may change."""
    names = ("task", "trainer", "worlds", "env", "agent")
    parts = {name: getattr(settings, name) for name in names}
    written = {name: plain(asdict(part)) for name, part in parts.items()}
    return json.loads(json.dumps(written | {"seed": settings.seed}))


def make_mix_block(
    group_size: int,
    groups: int,
    worlds: Sequence[WorldSettings],
    env: EnvSettings,
    device: str,
) -> MixVectorEnv:
    """Build groups of episodes that train together; importable by name, so that workers can."""
    world = build_world(worlds, device)
    return MixVectorEnv(group_size, world, env, groups, AutoresetMode.DISABLED)


def normalised(env: VecEnv, observations: bool = True) -> VecNormalize:
    """Scale rewards, and observations if asked to, by what has been seen of them so far."""
    # Nothing is cut off: the export folds the scaling of observations into the policy's first
    # layer, which a bound could not be part of.
    far = float("inf")
    return VecNormalize(env, norm_obs=observations, gamma=1.0, clip_obs=far, clip_reward=far)
