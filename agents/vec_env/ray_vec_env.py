"""A stable-baselines3 ``VecEnv`` over Ray actors; for any environments, on its own.

    env = make_vec_env("CartPole-v1", n_envs=8, vec_env_cls=RayVecEnv)

Equal seeds give what ``DummyVecEnv`` gives, whatever the number of actors, and also when one of
them dies or hangs on the way, if its environments can be kept (``ray_env_state.py``).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from copy import deepcopy
from itertools import pairwise
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env.base_vec_env import (
    VecEnv,
    VecEnvIndices,
    VecEnvObs,
    VecEnvStepReturn,
)

from automix.agents.config.settings import RaySettings
from automix.agents.parallel.pool import start_workers
from automix.agents.parallel.ray_session import capacity
from automix.agents.parallel.worker import Worker
from automix.agents.runs.throttle import SaveThrottle
from automix.agents.vec_env import ray_hosting as hosting
from automix.agents.vec_env.ray_block import Block
from automix.agents.vec_env.ray_hosted import Stepped, by_leaf, joined
from automix.agents.vec_env.ray_hosting import MakeEnv
from automix.core.errors import AutomixError, ConfigError

CLOSE_S = 10.0
"""Seconds that environments have to end a step and close themselves."""


class HostedVecEnv(VecEnv):
    """Environments in workers of any kind, dealt out in the order of their functions.

    Args:
        env_fns: Each builds a ``gymnasium.Env``, or a ``gymnasium.vector.VectorEnv`` with
            ``autoreset_mode=SAME_STEP``, whose environments are then some of ours.
        workers: Hold the environments; they belong to the caller.
        checkpoint_share: The most of the time that it may take to keep the environments' states; 0
            keeps none, so that a worker that dies costs its unfinished episodes.

    Raises:
        ConfigError: If a function builds something else, or an argument cannot be.
        EnvError: If a function raises an error.
    """

    def __init__(
        self, env_fns: Sequence[MakeEnv], workers: Sequence[Worker], checkpoint_share: float = 0.005
    ) -> None:
        _check(env_fns, checkpoint_share)
        self.waiting = self.closed = False
        self._early: list[Stepped] | None = None
        self._pace = SaveThrottle(checkpoint_share)
        self._blocks = [
            Block(worker, env_fns[held.start : held.stop], held.start, checkpoint_share > 0)
            for worker, held in zip(workers, shares(len(env_fns), len(workers)), strict=False)
        ]
        try:
            super().__init__(*self._build())
        except BaseException:
            self.close()
            raise

    def _build(self) -> tuple[int, Any, Any]:
        """Build all environments; return how many there are, and the spaces of the first."""
        for block in self._blocks:
            block.build()
        built = self._results(self._blocks)
        first = 0
        for block, (sizes, _, _) in zip(self._blocks, built, strict=True):
            block.number(first, sizes)
            first += block.size
        self._results(self._blocks)
        return first, *built[0][1]

    def reset(self) -> VecEnvObs:
        """Start an episode everywhere, with the seeds and options that were set since the last."""
        self._settle()
        self._early = None
        for block in self._blocks:
            block.submit(hosting.reset, self._seeds[block.own], self._options[block.own])
        observations, infos = zip(*self._results(self._blocks), strict=True)
        self.reset_infos = deepcopy([info for own in infos for info in own])
        # Seeds and options are used once.
        self._reset_seeds()
        self._reset_options()
        self._keep()
        return by_leaf(np.concatenate, observations, self.observation_space)

    def step_async(self, actions: np.ndarray) -> None:
        """Start a step everywhere."""
        self._settle()
        for block in self._blocks:
            block.submit(hosting.step, actions[block.own])
        self.waiting = True

    def step_wait(self) -> VecEnvStepReturn:
        """Wait for the step; where an episode ended, the next one has begun."""
        self._settle()
        if self._early is None:
            raise AutomixError("step_wait was called without step_async")
        whole, self._early = joined(self._early, self.observation_space), None
        for number, info in whole.reset_infos.items():
            self.reset_infos[number] = deepcopy(info)
        self._keep()
        return whole.observations, whole.rewards, whole.dones, whole.infos

    def _settle(self) -> None:
        """Wait for a step that is under way, so that other things can be asked.

        Raises:
            AutomixError: If the environments are closed; a worker would come to life again.
        """
        if self.closed:
            raise AutomixError("the environments are closed")
        if self.waiting:
            self.waiting = False
            self._early = self._results(self._blocks)

    def _keep(self) -> None:
        """Keep the states of the environments, if it is time for it."""
        blocks = [block for block in self._blocks if block.can_be_kept]
        if not blocks or not self._pace.due():
            return
        start, restarts = time.monotonic(), self.restarts
        for block in blocks:
            block.submit(hosting.keep)
        self._results(blocks)
        # A restart on the way is not what a checkpoint costs.
        self._pace.took(time.monotonic() - start if self.restarts == restarts else None)

    @property
    def restarts(self) -> int:
        """How often a worker was restarted."""
        return sum(block.worker.restarts for block in self._blocks)

    def _results(self, blocks: Sequence[Block]) -> list[Any]:
        """Wait for all blocks, and then raise the first error there was."""
        answers, errors = [], []
        for block in blocks:
            try:
                answers.append(block.result())
            except AutomixError as error:
                if block.gone:
                    self.close()
                    raise
                errors.append(error)
        if errors:
            raise errors[0]
        return answers

    def close(self) -> None:
        """Close the environments, after a step that is under way; a second time does nothing.

        What takes too long, because it hangs, is left as it is: it ends with its worker.
        """
        if self.closed:
            return
        self.closed, self.waiting = True, False
        until = time.monotonic() + CLOSE_S
        for block in self._blocks:
            if not block.gone:
                block.close(until)

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute of environments, looked up through their wrappers."""
        return self._ask(hosting.get, indices, attr_name)

    def has_attr(self, attr_name: str) -> bool:
        """Return whether all have an attribute, which need not be one that can be sent."""
        self._settle()
        for block in self._blocks:
            block.submit(hosting.has, attr_name)
        return all(self._results(self._blocks))

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of environments; it survives a restart."""
        self._ask(hosting.set_to, indices, attr_name, value)

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: VecEnvIndices = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """Call a method of environments."""
        return self._ask(hosting.call, indices, method_name, method_args, method_kwargs)

    def env_is_wrapped(self, wrapper_class: type, indices: VecEnvIndices = None) -> list[bool]:
        """Return which environments have a wrapper of a class."""
        return self._ask(hosting.wrapped, indices, wrapper_class)

    def get_images(self) -> Sequence[np.ndarray | None]:
        """Return a picture of each environment, or None if they do not render to arrays."""
        if self.render_mode != "rgb_array":
            warnings.warn(
                f"render_mode is {self.render_mode}, wanted rgb_array: no images", stacklevel=2
            )
            return [None] * self.num_envs
        self._settle()
        for block in self._blocks:
            block.submit(hosting.images)
        return [image for own in self._results(self._blocks) for image in own]

    def _ask(self, function: Callable[..., Any], indices: VecEnvIndices, *args: Any) -> list[Any]:
        """Ask some environments; who is named twice gives the same answer twice."""
        self._settle()
        numbers = [range(self.num_envs)[index] for index in self._get_indices(indices)]
        asked, wanted = [], []
        for block in self._blocks:
            own = range(self.num_envs)[block.own]
            places = [number - block.first for number in dict.fromkeys(numbers) if number in own]
            if places:
                block.submit(function, places, *args)
                asked.append(block)
                wanted += [block.first + place for place in places]
        parts = self._results(asked)
        answers = dict(zip(wanted, [one for part in parts for one in part], strict=True))
        return [deepcopy(answers[number]) for number in numbers]


class RayVecEnv(HostedVecEnv):
    """Environments in Ray actors, by default as many as there are cores.

    A Ray that is up already is used and left running; without one, ``address`` is joined, or a
    local one is started that ends with ``close``. An actor that dies, or takes too long, is
    replaced. Environments that offer ``state_dict()`` and ``load_state_dict(state)`` then go on as
    if nothing had been; the episodes of others end, truncated, and a warning says so.

    Args:
        env_fns: As of ``HostedVecEnv``; sent to the actors by value if they cannot be imported
            there.
        workers: Actors; None takes as many as Ray has cores for, and at most one for each function.
        cpus_per_worker: Cores that Ray sets aside for each; may be a fraction.
        gpus_per_worker: GPUs for each; a fraction bounds its share of that GPU's memory. An env_fn
            asks ``automix.agents.parallel.ray_worker.assigned_device()`` where to work.
        threads: torch threads of each.
        step_timeout_s: An actor that takes longer for one call hangs, and is replaced; 0 waits for
            ever.
        max_restarts: How often each actor may be replaced.
        checkpoint_share: As of ``HostedVecEnv``.
        address: ``auto``, ``host:port`` or ``ray://host:port`` joins a cluster.

    Raises:
        ConfigError: If an argument cannot be.
        ResourceError: If there is no Ray to be had, or it is too small.
        EnvError: If a function raises an error.
    """

    def __init__(
        self,
        env_fns: Sequence[MakeEnv],
        *,
        workers: int | None = None,
        cpus_per_worker: float = 1.0,
        gpus_per_worker: float = 0.0,
        threads: int = 1,
        step_timeout_s: float = 0.0,
        max_restarts: int = 3,
        checkpoint_share: float = 0.005,
        address: str = "",
    ) -> None:
        least = {"workers": 1, "threads": 1, "step_timeout_s": 0, "max_restarts": 0}
        given = (1 if workers is None else workers, threads, step_timeout_s, max_restarts)
        for (name, lowest), value in zip(least.items(), given, strict=True):
            if not lowest <= value < float("inf"):
                raise ConfigError(f"{name} is {value}, wanted {lowest} or more")
        _check(env_fns, checkpoint_share)
        settings = RaySettings(
            address=address, cpus_per_worker=cpus_per_worker, gpus_per_worker=gpus_per_worker
        )
        with ExitStack() as stack:
            count = min(len(env_fns), workers or room_for(settings))
            held = stack.enter_context(
                start_workers(
                    count,
                    threads,
                    "cuda" if gpus_per_worker else "cpu",
                    backend="ray",
                    max_restarts=max_restarts,
                    step_timeout_s=step_timeout_s,
                    ray=settings,
                )
            )
            super().__init__(env_fns, held, checkpoint_share)
            self._stack = stack.pop_all()

    def close(self) -> None:
        """Close the environments, the actors, and the local Ray if there is one."""
        try:
            super().close()
        finally:
            if hasattr(self, "_stack"):
                self._stack.close()


def _check(env_fns: Sequence[MakeEnv], checkpoint_share: float) -> None:
    if not env_fns:
        raise ConfigError("env_fns is empty, wanted one function or more")
    if not 0 <= checkpoint_share <= 1:
        raise ConfigError(f"checkpoint_share is {checkpoint_share}, wanted a number from 0 to 1")


def room_for(settings: RaySettings) -> int:
    """Return how many workers the Ray of the settings has room for, at least one."""
    there = capacity(settings)
    room = there.cpus / (settings.cpus_per_worker or 1)
    if settings.gpus_per_worker:
        room = min(room, there.gpus / settings.gpus_per_worker)
    return max(1, int(room + 1e-6))


def shares(items: int, hands: int) -> list[range]:
    """Deal numbered items out in their order, as equally as can be; no hand stays empty."""
    hands = min(items, hands)
    ends = [items * hand // hands for hand in range(hands + 1)]
    return [range(*pair) for pair in pairwise(ends)]
