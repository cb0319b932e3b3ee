"""Env steps per second by the number of workers, and of Ray against pipes.

python -m benchmarks --only workers
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv

from automix.agents.config.compose import load_settings
from automix.agents.config.settings import RaySettings
from automix.agents.config.worlds import worlds_of
from automix.agents.learning.training import make_mix_block
from automix.agents.parallel.machine import keep_memory, usable_cores
from automix.agents.parallel.pool import start_workers
from automix.agents.parallel.ray_session import ray_session
from automix.agents.parallel.worker import InlineWorker, State, Worker
from automix.agents.vec_env.group_vec_env import GroupVecEnv
from automix.agents.vec_env.ray_vec_env import RayVecEnv
from automix.envs.mix_env import DIGITS_FAMILY, MixEnv, image_world
from automix.training.settings import TrainerSettings
from benchmarks.harness import Row, Section, Target, interleaved, threads

SECONDS = 90.0

EPISODE = 20
"""Steps of the digits default."""

SINGLES = 2
"""Environments of ``SubprocVecEnv`` and ``RayVecEnv``, each in a process of its own."""

NO_CORES = RaySettings(cpus_per_worker=0)
"""Actors that are not at work need no core: all cases are up at once and take turns."""

PIPES, RAY = "local", "ray"
SUBPROC, RAY_ENV, NO_STATES = "SubprocVecEnv", "RayVecEnv", "RayVecEnv, keeping no states"

Crew = tuple[str, int]
"""Backend and number of workers."""


@dataclass(frozen=True)
class Took:
    """What one call took.

    Attributes:
        wall: Median seconds.
        core: Seconds of a core along the longest way through the processes: what the wall would
            be if nobody else wanted the cores and messages took no time.
    """

    wall: float
    core: float


def run(seconds: float) -> Section:
    """Step the trainings of a learning run, and single environments, by turns."""
    counts = list(dict.fromkeys([1, min(2, usable_cores()), usable_cores()]))
    with threads(1), ray_session(RaySettings(), usable_cores()):
        keep_memory()
        return section(_groups(counts, 0.6 * seconds), _singles(0.4 * seconds))


def section(groups: Mapping[Crew, Took], singles: Mapping[str, Took]) -> Section:
    """Return the table.

    Args:
        groups: A step of all groups, by crew; each backend has a crew of one.
        singles: An episode of single environments.
    """
    settings = load_settings([])
    size = settings.agent.groups * settings.agent.group_size
    rows: list[Row] = []
    for (backend, count), took in groups.items():
        rows.append({"what": _name(backend), "workers": count, "env steps/s": size / took.wall})
        if count > 1:
            rows[-1] = {**rows[-1], **_against("1 worker", groups[backend, 1], took)}
    rows += [
        {"what": _name(RAY), "workers": count, **_against("pipes", groups[PIPES, count], took)}
        for (backend, count), took in groups.items()
        if backend == RAY
    ]
    for what, took in singles.items():
        rows.append(
            {"what": what, "workers": SINGLES, "env steps/s": SINGLES * EPISODE / took.wall}
        )
        if what != SUBPROC:
            rows[-1] = {**rows[-1], **_against(SUBPROC, singles[SUBPROC], took)}
    return Section(
        title="Workers",
        about=f"Steps of the default run ({settings.agent.groups} groups of "
        f"{settings.agent.group_size} digits trainings) under random actions, and episodes of "
        "single digits environments of 200 images, one in each process; one thread a process.",
        columns=("what", "workers", "env steps/s", "against", "times", "times, core time"),
        rows=rows,
        targets=[
            *(_twice(groups, backend) for backend in (PIPES, RAY)),
            Target.of(
                "RayVecEnv, times SubprocVecEnv at the digits step",
                {"wall": singles[SUBPROC].wall / singles[RAY_ENV].wall},
                at_least=0.95,
            ),
        ],
        notes=[
            "Over pipes one of the workers is this process itself; with Ray all are actors, and "
            "this process waits.",
            "All crews are up at once and take turns, step by step or episode by episode.",
            "Core time is the busiest worker's, with what this process spends before and after: "
            "the ratio that free cores would show if messages took no time. Where the two ratios "
            "are far apart, others used the machine.",
        ],
    )


def _against(what: str, reference: Took, took: Took) -> Row:
    return {
        "against": what,
        "times": reference.wall / took.wall,
        "times, core time": reference.core / took.core,
    }


def _twice(groups: Mapping[Crew, Took], backend: str) -> Target:
    two = groups.get((backend, 2))
    figures = {"wall": groups[backend, 1].wall / two.wall} if two else {}
    return Target.of(f"2 workers, times 1 ({_name(backend)})", figures, at_least=1.8)


def _name(backend: str) -> str:
    return "GroupVecEnv, Ray" if backend == RAY else "GroupVecEnv, pipes"


class Case:
    """Steps environments, and knows what that took of the cores.

    Args:
        env: Is started here.
        cores: Returns the seconds of a core that each worker's process has spent so far, without
            this one.
        together: Whether this process works while the others do, as one of them.
        steps: Of a call.
    """

    def __init__(
        self, env: VecEnv, cores: Callable[[], Sequence[float]], together: bool, steps: int = 1
    ) -> None:
        env.seed(0)
        env.reset()
        env.action_space.seed(0)
        self._env, self._cores, self._together, self._steps = env, cores, together, steps
        self._before, self._own, self._calls = list(cores()), 0.0, 0

    def __call__(self) -> None:
        """Take steps under the next random actions, the same in every case."""
        start, space = time.process_time(), self._env.action_space
        for _ in range(self._steps):
            self._env.step(np.array([space.sample() for _ in range(self._env.num_envs)]))
        self._own += time.process_time() - start
        self._calls += 1

    def core(self) -> float:
        """Return the seconds of a core along the longest way, a call."""
        after = self._cores()
        spent = max((b - a for a, b in zip(self._before, after, strict=True)), default=0.0)
        return (max(self._own, spent) if self._together else self._own + spent) / self._calls


def _timed(cases: Mapping[Any, Case], seconds: float) -> dict[Any, Took]:
    walls = interleaved(cases, seconds)
    return {name: Took(walls[name], case.core()) for name, case in cases.items()}


def _groups(counts: Sequence[int], seconds: float) -> dict[Crew, Took]:
    """Time steps of the default run's environments."""
    with ExitStack() as stack:
        crews = [(backend, count) for backend in (PIPES, RAY) for count in counts]
        return _timed({crew: _crew(stack, *crew) for crew in crews}, seconds)


def _crew(stack: ExitStack, backend: str, count: int) -> Case:
    settings = load_settings([])
    workers = stack.enter_context(start_workers(count, backend=backend, ray=NO_CORES))
    make_block = partial(
        make_mix_block,
        settings.agent.group_size,
        1,
        worlds_of(settings),
        settings.env,
        "cpu",
    )
    env = GroupVecEnv(make_block, settings.agent.groups, workers, seed=0)
    stack.callback(env.close)
    others = [worker for worker in workers if not isinstance(worker, InlineWorker)]
    return Case(env, lambda: [_ask(worker) for worker in others], together=backend == PIPES)


def _ask(worker: Worker) -> float:
    worker.submit(core_seconds)
    return float(worker.result())


def core_seconds(state: State) -> float:
    """Return the seconds of a core that a worker's process has spent; importable by name."""
    return time.process_time()


def _singles(seconds: float) -> dict[str, Took]:
    """Time episodes of environments that are one to a process."""
    makers: list[Any] = [SingleEnv] * SINGLES
    on_ray: Any = partial(RayVecEnv, makers, workers=SINGLES, cpus_per_worker=0)
    with ExitStack() as stack:
        cases: dict[str, Case] = {}
        for name, make in (
            (SUBPROC, partial(SubprocVecEnv, makers)),
            (RAY_ENV, on_ray),
            (NO_STATES, partial(on_ray, checkpoint_share=0)),
        ):
            env = make()
            stack.callback(env.close)
            cores = partial(env.env_method, "core_seconds")
            cases[name] = Case(env, cores, together=False, steps=EPISODE)
        return _timed(cases, seconds)


class SingleEnv(MixEnv):
    """One digits environment that sets its process up as workers are; importable by name."""

    def __init__(self) -> None:
        keep_memory()
        torch.set_num_threads(1)
        family = replace(DIGITS_FAMILY, train_sizes=(200,))
        super().__init__(image_world(family, TrainerSettings(epochs=EPISODE)))

    def core_seconds(self) -> float:
        """Return the seconds of a core that this process has spent."""
        return time.process_time()
