"""A worker that is a Ray actor: on this machine or any other of a cluster, with a share of a GPU.

Ray could restart an actor and send it the lost call again, which would then go on, silently, on an
object that knows nothing of what was before. So it may do neither: a death comes back as
``WorkerDied``, and ``restart`` makes a new actor.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import Any

from automix.agents.parallel.machine import keep_memory, use_threads
from automix.agents.parallel.ray_session import capacity_now
from automix.agents.parallel.worker import Answer, RestartableWorker, State, answer
from automix.core.errors import ResourceError


class RayWorker(RestartableWorker):
    """Runs functions in an actor. Ray must be up.

    Args:
        index: Names the worker.
        cpus: Cores that Ray sets aside for it; may be a fraction.
        gpus: GPUs; a fraction bounds its share of that GPU's memory too.
        threads: torch threads in it.
        device: ``cuda`` refuses to work where Ray has not assigned a GPU, of which the worker sees
            no other.
        lean: Functions do without torch, which then is not imported.
        max_restarts: How often it may be restarted.
        step_timeout_s: A function that takes longer hangs, and its actor is killed; 0 waits for
            ever.
    """

    place_s = 300.0
    """Seconds that Ray has to find a place for an actor and to start it."""

    def __init__(
        self,
        index: int,
        *,
        cpus: float = 1.0,
        gpus: float = 0.0,
        threads: int = 1,
        device: str = "cpu",
        lean: bool = False,
        max_restarts: int = 3,
        step_timeout_s: float = 0.0,
    ) -> None:
        super().__init__(index, max_restarts, step_timeout_s)
        self._cpus, self._gpus, self._threads = cpus, gpus, threads
        self._setup = (threads, device, gpus, lean)
        self._start()

    def _start(self) -> None:
        import ray

        host: Any = ray.remote(Host)
        self._actor: Any = host.options(
            num_cpus=self._cpus,
            num_gpus=self._gpus,
            max_restarts=0,
            max_task_retries=0,
            enable_task_events=False,  # for a dashboard, which nobody started
            runtime_env={"env_vars": {"OMP_NUM_THREADS": str(self._threads)}},
        ).remote()
        self._set_up: Any = self._actor.set_up.remote(*self._setup)
        self._checked = self._up = False
        self._started = time.monotonic()

    def submit(self, function: Callable[..., Any], *args: Any) -> None:
        """Send ``function(state, *args)``; the function must be importable by name."""
        if self._actor is None:
            self._start()
        self._begin(fresh=not self._checked)
        self._answer: Any = self._actor.run.remote(function, args)

    def time_left(self) -> float:
        """Return the seconds that remain, for a place in the cluster first of all."""
        if self._is_up():
            return super().time_left()
        return self._place_left()

    def result(self) -> Any:
        """Wait for the answer; see ``Worker.result``.

        Raises:
            ResourceError: If Ray finds no place for the actor, or assigned no GPU to it.
        """
        if self._actor is None:
            raise self._died(self._cause)
        if not self._checked:
            self._opened(self._get(self._set_up, self._place_left(), self._not_placed))
            self._checked = self._is_up()
        reply = self._get(self._answer, self.time_left(), self._hung)
        return self._opened(reply)

    @staticmethod
    def wait_any(workers: Sequence[Any], timeout_s: float | None) -> list[Any]:
        """Wait for one of several actors; see ``RestartableWorker.wait_any``."""
        import ray

        by_answer = {worker._answer: worker for worker in workers}
        ready, _ = ray.wait(list(by_answer), timeout=timeout_s, fetch_local=False)
        return [by_answer[one] for one in ready]

    def close(self) -> None:
        """Kill the actor; see ``Worker.close``."""
        import ray

        if self._actor is not None and ray.is_initialized():
            ray.kill(self._actor)
        self._actor = None

    def _place_left(self) -> float:
        return self._started + self.place_s - time.monotonic()

    def _is_up(self) -> bool:
        """Return whether the actor is set up; the clock of its first function starts then."""
        import ray

        if not self._up and ray.wait([self._set_up], timeout=0)[0]:
            self._up = True
            self._begin(fresh=True)
        return self._up

    def _get(self, answer: Any, timeout_s: float, late: Callable[[], Exception]) -> Any:
        """Wait for what an actor returns; put Ray's errors into our own."""
        import ray
        from ray import exceptions

        try:
            forever = timeout_s == float("inf")
            return ray.get(answer, timeout=None if forever else max(timeout_s, 0))
        except exceptions.GetTimeoutError:
            raise late() from None
        except exceptions.RayTaskError as error:  # before our own code: it cannot be unpickled
            return (last_line(error), str(error)), None
        except (exceptions.ActorUnschedulableError, exceptions.RuntimeEnvSetupError) as error:
            raise ResourceError(
                f"{self.name} cannot start: {last_line(error)}", "is the cluster complete?"
            ) from None
        except exceptions.RayError as error:
            raise self._died(cause_of(error)) from None

    def _not_placed(self) -> ResourceError:
        self.close()
        there = capacity_now()
        return ResourceError(
            f"{self.name} found no place within {self.place_s:g} s: asked {self._cpus:g} CPU and "
            f"{self._gpus:g} GPU, cluster has {there.cpus:g} and {there.gpus:g}, not all free",
            "give fewer workers, or a smaller ray.cpus_per_worker or ray.gpus_per_worker",
        )


class Host:
    """What lives in the actor."""

    def __init__(self) -> None:
        self._state: State = {}

    def set_up(self, threads: int, device: str, gpus: float, lean: bool) -> Answer:
        """Prepare the process; see ``RayWorker``."""
        keep_memory()
        return (None, None) if lean else answer(self._state, set_torch_up, (threads, device, gpus))

    def run(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Answer:
        """Run a function; what it raises is handed over."""
        return answer(self._state, function, args)


def set_torch_up(state: State, threads: int, device: str, gpus: float) -> None:
    """Set torch's threads and its share of the GPU that Ray has assigned.

    Raises:
        ResourceError: If functions are to work on a GPU, and there is none for this process.
    """
    import torch

    use_threads(threads)
    assigned = assigned_device()
    if device.startswith("cuda") and assigned == "cpu":
        raise ResourceError(
            f"device={device}, and Ray has assigned no GPU to this worker",
            "give it a share with ray.gpus_per_worker, or use device=cpu",
        )
    if assigned == "cuda" and gpus < 1:
        # To Ray, a fraction is a number to count with: it isolates nothing.
        torch.cuda.set_per_process_memory_fraction(gpus)


def assigned_device() -> str:
    """Return ``cuda`` where Ray has assigned a GPU to this actor or task, else ``cpu``.

    CUDA itself may show GPUs that others were given.
    """
    import ray

    return "cuda" if ray.get_runtime_context().get_accelerator_ids().get("GPU") else "cpu"


def cause_of(error: Exception) -> str:
    """Say in a few words why Ray lost an actor."""
    kind, text = type(error).__name__, str(error)
    memory = re.search(r"[\d.]+ ?[KMGT]?i?B / [\d.]+ ?[KMGT]?i?B", text)
    if memory or kind == "OutOfMemoryError":
        return f"out of memory: {memory.group() if memory else last_line(error)}"
    if kind == "NodeDiedError" or re.search("node (has )?died", text):
        return "its machine is gone"
    if (
        kind == "WorkerCrashedError" or "exit type: SYSTEM_ERROR" in text
    ):  # Ray does not know which signal it was
        return "killed or crashed"
    return last_line(error)


def last_line(error: Exception) -> str:
    """Return the line of Ray's account in which the cause stands."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
