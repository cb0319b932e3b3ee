"""A stable-baselines3 ``VecEnv`` over Ray actors; for any environments, on its own.

    env = make_vec_env("CartPole-v1", n_envs=8, vec_env_cls=RayVecEnv)

Equal seeds give what ``DummyVecEnv`` gives, whatever the number of actors, and also when one of
them dies or hangs on the way, if its environments can be kept (``env_state.py``).
"""

from __future__ import annotations

import io
import weakref
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import gymnasium

from automix.agents.config.settings import RaySettings
from automix.agents.parallel.machine import Capacity, fit
from automix.agents.parallel.pool import start_workers
from automix.agents.parallel.ray_session import free, ray_session
from automix.agents.vec_env.env_host import MakeEnv
from automix.agents.vec_env.worker_vec_env import WorkerVecEnv, check_arguments
from automix.core.errors import ConfigError


class RayVecEnv(WorkerVecEnv):
    """Environments in Ray actors, by default as many as there are free cores.

    A Ray that is up already is used and left running; without one, ``address`` is joined, or a
    local one is started that ends with ``close``. Several at a time share it. An actor that dies,
    or takes too long, is replaced. Environments that offer ``state_dict()`` and
    ``load_state_dict(state)`` then go on as if nothing had been; the episodes of others end,
    truncated, and a warning says so.

    Args:
        env_fns: Each builds a ``gymnasium.Env``; sent to the actors by value if they cannot be
            imported there.
        workers: Actors; None takes as many as Ray has cores free, and at most one for each
            function.
        cpus_per_worker: Cores that Ray sets aside for each; may be a fraction.
        gpus_per_worker: GPUs for each; a fraction bounds its share of that GPU's memory. An env_fn
            asks ``automix.agents.parallel.ray_worker.assigned_device()`` where to work.
        threads: torch threads of each.
        step_timeout_s: An actor that takes longer for one call hangs, and is replaced; 0 waits for
            ever.
        max_restarts: How often each actor may be replaced.
        checkpoint_share: As of ``WorkerVecEnv``.
        address: ``auto``, ``host:port`` or ``ray://host:port`` joins a cluster.

    Raises:
        ConfigError: If an argument cannot be.
        ResourceError: If there is no Ray to be had, or too little of it is free.
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
        check_arguments(env_fns, checkpoint_share)
        settings = RaySettings(
            address=address, cpus_per_worker=cpus_per_worker, gpus_per_worker=gpus_per_worker
        )
        with ExitStack() as stack:
            # One of our own has the whole machine, for others that share it; others may have taken
            # the cores of one that is joined.
            stack.enter_context(ray_session(settings))
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
            _check_functions(env_fns)
            super().__init__(env_fns, held, checkpoint_share)
            # Also when nobody closes it: Ray's own end would print tracebacks.
            self._end = weakref.finalize(self, stack.pop_all().close)

    def close(self) -> None:
        """Close the environments, the actors, and the local Ray if there is one."""
        try:
            super().close()
        finally:
            if hasattr(self, "_end"):
                self._end()


def room_for(settings: RaySettings) -> int:
    """Return how many workers find room in Ray, at least one."""
    one = Capacity(settings.cpus_per_worker, settings.gpus_per_worker)
    return max(1, fit(free(settings), one))


def _check_functions(env_fns: Sequence[MakeEnv]) -> None:
    """Refuse functions that cannot be sent, and those that would send one environment twice.

    Raises:
        ConfigError: If there are such.
    """
    from ray.cloudpickle import CloudPickler

    class Finder(CloudPickler):
        """Pickles a function, and notes the environments that travel with it."""

        def __init__(self) -> None:
            super().__init__(io.BytesIO())
            self.found: dict[int, Any] = {}

        def reducer_override(self, value: Any) -> Any:
            if isinstance(value, gymnasium.Env):
                self.found[id(value.unwrapped)] = value
            return super().reducer_override(value)

    holders: dict[int, int] = {}
    for number, function in enumerate(env_fns):
        finder = Finder()
        try:
            finder.dump(function)
        except Exception as error:  # of whatever it holds
            why = " ".join(str(error).split())
            raise ConfigError(
                f"env_fns[{number}] cannot be sent to an actor: {why}",
                "build what cannot be sent, such as a lock or an open file, inside the function",
            ) from None
        for env in finder.found:
            if holders.setdefault(env, number) != number:
                raise ConfigError(
                    f"env_fns[{number}] returns the environment of env_fns[{holders[env]}]",
                    "build it inside the function: lambda: gymnasium.make(...)",
                )
