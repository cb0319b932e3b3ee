"""How many workers one driver keeps busy, by the length of their steps; the steps are asleep.

python -m benchmarks --only scale
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env import VecEnv

from automix.agents.config.settings import RaySettings
from automix.agents.parallel.ray_session import ray_session
from automix.agents.vec_env.group_vec_env import GroupVecEnv
from automix.agents.vec_env.worker_vec_env import WorkerVecEnv
from benchmarks.harness import Row, Section, Target
from benchmarks.measures.ray_crowd import crowd

SECONDS = 100.0

WORKERS = (1, 25, 50, 100, 200)
LENGTHS = (0.05, 0.25, 1.0, 2.0, 5.0)
"""Seconds that a step sleeps."""

EPOCH = 2.0
"""From here on a step counts as an epoch of seconds."""

PROCESSES = 4
MEMBERS = 8
"""Trainings of a worker."""

NUMBERS = 16
"""Of an observation; the default environment shows about so many."""

GROUPS, HOSTED = "GroupVecEnv", "RayVecEnv"


class SleepingBlock(gymnasium.vector.VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """A group of trainings that takes its time and computes nothing.

    What it returns is as large as what ``automix.envs.mix_env.MixVectorEnv`` returns.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012 (gymnasium's form)

    def __init__(self) -> None:
        self.num_envs = self.group_size = MEMBERS
        self.single_observation_space = gymnasium.spaces.Box(-1, 1, (NUMBERS,))
        self.single_action_space = gymnasium.spaces.Discrete(10)
        self.task_kinds = ["digits 200@0.2"] * MEMBERS
        self.seconds = 0.0

    def drawn_work(self, seeds: Sequence[int]) -> int:
        """Return what an episode costs: all cost the same."""
        return 1

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode, which never ends."""
        return self._shown(), {}

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Sleep."""
        time.sleep(self.seconds)
        never = np.zeros(MEMBERS, dtype=bool)
        ones = np.ones(MEMBERS)
        told = {
            "metrics": {"val_accuracy": ones, "forward_passes": ones, "backward_passes": ones},
            "mix": ["cutmix@0.5"] * MEMBERS,
            "diverged": never,
            "epochs": ones,
        }
        return self._shown(), ones, never, never, told

    def _shown(self) -> np.ndarray:
        return np.zeros((MEMBERS, NUMBERS), dtype=np.float32)


class SleepingEnv(gymnasium.Env[np.ndarray, Any]):
    """A single environment that takes its time and computes nothing."""

    def __init__(self) -> None:
        self.observation_space = gymnasium.spaces.Box(-1, 1, (NUMBERS,))
        self.action_space = gymnasium.spaces.Discrete(10)
        self.seconds = 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode, which never ends."""
        return np.zeros(NUMBERS, dtype=np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Sleep."""
        time.sleep(self.seconds)
        return np.zeros(NUMBERS, dtype=np.float32), 1.0, False, False, {"mix": "cutmix@0.5"}


@dataclass(frozen=True)
class Driven:
    """What a driver did with so many workers.

    Attributes:
        driver: The vectorised environment.
        workers: How many.
        walls: Median seconds of a step, by the seconds of it that workers slept; 0 is among them.
        driver_s: Seconds of a core that this process spent on a step of no length.
    """

    driver: str
    workers: int
    walls: Mapping[float, float]
    driver_s: float


def run(seconds: float) -> Section:
    """Drive more and more workers."""
    asked = sum(LENGTHS) * (len(WORKERS) + 1)
    with ray_session(RaySettings(), 1):
        return section(list(_all(seconds / asked)))


def _all(repeats: float) -> Iterator[Driven]:
    make_block: Any = SleepingBlock  # what a driver asks of a MixVectorEnv, this one answers too
    with crowd(max(WORKERS), PROCESSES) as workers:
        for count in WORKERS:
            env: VecEnv = GroupVecEnv(make_block, count, workers[:count], seed=0)
            yield driven(GROUPS, env, count, repeats)
            env.close()
        singles = WorkerVecEnv([SleepingEnv] * len(workers), workers, checkpoint_share=0)
        yield driven(HOSTED, singles, len(workers), repeats)
        singles.close()


def driven(driver: str, env: VecEnv, workers: int, repeats: float) -> Driven:
    """Time steps of each length, and of none; of short ones the first does not count.

    Args:
        driver: Name of the environment's kind.
        env: Holds one ``SleepingBlock`` or ``SleepingEnv`` a worker.
        workers: How many.
        repeats: Of the steps of the longest length, at least one is taken; of others more.
    """
    env.reset()
    actions = np.zeros(env.num_envs, dtype=np.int64)
    walls, spent = {}, 0.0
    for length in (0.0, *LENGTHS):
        env.set_attr("seconds", length)
        # As much time for each length, but not for the sake of the shortest.
        often = min(20, max(1, round(repeats * max(LENGTHS) / length / 2))) if length else 20
        took = []
        warm = length < 1
        for _ in range(often + warm):
            start, core = time.perf_counter(), time.process_time()
            env.step(actions)
            took.append((time.perf_counter() - start, time.process_time() - core))
        walls[length] = statistics.median(wall for wall, _ in took[warm:])
        if length == 0:
            spent = statistics.median(core for _, core in took[warm:])
    return Driven(driver, workers, walls, spent)


def section(found: Sequence[Driven]) -> Section:
    """Return the table: how busy the workers were, and what the driver had to do."""
    lengths = list(dict.fromkeys(length for one in found for length in one.walls if length))
    busy = {length: f"busy %, steps of {length:g} s" for length in lengths}
    rows: list[Row] = [
        {"driver": one.driver, "workers": one.workers}
        | {busy[at]: 100 * at / one.walls[at] for at in lengths}
        | {
            "ms, no sleep": 1e3 * one.walls[0],
            "worker steps/s, no sleep": one.workers / one.walls[0],
            "driver's core ms, a worker step": 1e3 * one.driver_s / one.workers,
        }
        for one in found
    ]
    return Section(
        title="Scale",
        about="Busy: the share of a step's wall time that the workers slept, as they would train. "
        f"A worker's step carries {MEMBERS} trainings, in RayVecEnv one. Without sleep the driver "
        "is all there is to wait for: that is where it saturates.",
        columns=list(dict.fromkeys(name for row in rows for name in row)),
        rows=rows,
        targets=[
            Target.of(
                f"{max(WORKERS)} workers are busy in steps of {EPOCH:g} s and more",
                {
                    f"{one.driver}, {length:g} s": 100 * length / one.walls[length]
                    for one in found
                    for length in lengths
                    if one.workers == max(WORKERS) and length >= EPOCH
                },
                at_least=95,
                unit="%",
            )
        ],
        notes=[
            f"The workers are seats in {PROCESSES} Ray actors on this very machine, so their half "
            "of the talk is done by the same cores as the driver's.",
        ],
    )
