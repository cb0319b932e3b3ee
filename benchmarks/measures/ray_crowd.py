"""Many workers in few processes: what a driver talks to when it talks to hundreds of machines.

Not a benchmark: ``scale`` uses it. Two hundred actors of their own take some twelve gigabytes even
without torch, and half a minute of a core to start. To the driver it makes no difference how many
share a process, so long as all they do is sleep: it sends each its own call and fetches each its
own answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

from automix.agents.parallel.ray_worker import RayWorker
from automix.agents.parallel.worker import Answer, State, answer


class Crowd:
    """What lives in the actor: a state for each worker."""

    def __init__(self) -> None:
        self._states: dict[int, State] = {}

    def run(self, worker: int, function: Callable[..., Any], args: tuple[Any, ...]) -> Answer:
        """Run a function on the state of a worker; others go on meanwhile."""
        return answer(self._states.setdefault(worker, {}), function, args)


class CrowdWorker(RayWorker):
    """A worker whose actor is shared; it never dies alone.

    Args:
        index: Names the worker, and its state in the actor.
        actor: A handle of a ``Crowd``.
    """

    def __init__(self, index: int, actor: Any) -> None:
        self._shared = actor
        super().__init__(index)

    def _start(self) -> None:
        index = int(self.name.rpartition(" ")[2])
        remote = partial(self._shared.run.remote, index)
        self._actor = SimpleNamespace(run=SimpleNamespace(remote=remote))
        self._checked = self._up = True  # there is nothing to set up
        self._answer = None

    def close(self) -> None:
        """Do nothing: the actor belongs to all."""


@contextmanager
def crowd(workers: int, processes: int) -> Iterator[Sequence[CrowdWorker]]:
    """Start workers that share processes as equally as can be; Ray must be up."""
    import ray

    make: Any = ray.remote(Crowd)
    # A thread for each worker: a call that sleeps holds up no other.
    threads = -(-workers // processes)
    actors = [
        make.options(num_cpus=0, max_concurrency=threads, max_restarts=0).remote()
        for _ in range(processes)
    ]
    try:
        yield [CrowdWorker(index, actors[index % processes]) for index in range(workers)]
    finally:
        for actor in actors:
            ray.kill(actor)
