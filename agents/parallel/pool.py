"""A pool of workers: started and closed together, sharing out a list of calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any, TypeVar

from automix.agents.config.settings import RaySettings, RunSettings
from automix.agents.parallel.devices import worker_count
from automix.agents.parallel.machine import equal_share, keep_memory
from automix.agents.parallel.process_worker import ProcessWorker, share_gpu
from automix.agents.parallel.ray_session import capacity, ray_session
from automix.agents.parallel.ray_worker import RayWorker
from automix.agents.parallel.worker import InlineWorker, RestartableWorker, Worker, WorkerDied
from automix.core.errors import ConfigError

T = TypeVar("T")


@contextmanager
def start_workers(
    count: int,
    threads: int = 1,
    device: str = "cpu",
    *,
    backend: str = "local",
    max_restarts: int = 3,
    step_timeout_s: float = 0.0,
    ray: RaySettings | None = None,
) -> Iterator[Sequence[Worker]]:
    """Start workers and close them at the end.

    Args:
        count: How many.
        threads: torch threads of each.
        device: What their functions will be told to work on.
        backend: ``local`` for processes of this machine, or ``ray`` for actors.
        max_restarts: How often each may be restarted.
        step_timeout_s: A function that takes longer hangs; 0 waits for ever.
        ray: Where Ray runs, and what an actor takes of it.

    Raises:
        ConfigError: If a GPU is named by number, which is Ray's to choose.
        ResourceError: If there is no Ray, or it is too small.
    """
    limits: dict[str, Any] = {
        "threads": threads,
        "max_restarts": max_restarts,
        "step_timeout_s": step_timeout_s,
    }
    with ExitStack() as stack:
        if backend == "ray":
            start = _actors(stack, count, device, ray or RaySettings())
        else:
            start = _processes(count, device)
        workers: list[Worker] = []
        for index in range(count):
            workers.append(start(index, **limits))
            stack.callback(workers[-1].close)
        yield workers


def workers_of(settings: RunSettings, device: str) -> AbstractContextManager[Sequence[Worker]]:
    """Start the workers of a run, as many and of the kind that its settings say.

    Raises:
        ResourceError: As ``start_workers`` does.
    """
    return start_workers(
        worker_count(settings, device),
        settings.threads,
        device,
        backend=settings.backend,
        max_restarts=settings.max_restarts,
        step_timeout_s=settings.step_timeout_s,
        ray=settings.ray,
    )


def _processes(count: int, device: str) -> Callable[..., Worker]:
    """Return what starts processes; the last worker is this process itself.

    It would only wait otherwise, and each process costs most of a gigabyte for torch alone. Several
    on one GPU get equal shares of its memory, so that none starves another.
    """
    keep_memory()
    gpu = (device, 1 / count) if device.startswith("cuda") and count > 1 else None
    share_gpu(gpu)

    def start(index: int, **limits: Any) -> Worker:
        return ProcessWorker(index, gpu=gpu, **limits) if index < count - 1 else InlineWorker()

    return start


def _actors(
    stack: ExitStack, count: int, device: str, settings: RaySettings
) -> Callable[..., Worker]:
    """Have a Ray for as long as the stack is open; return what starts actors in it."""
    if ":" in device:
        raise ConfigError(f"device is {device!r} with backend=ray, wanted cuda: Ray deals GPUs out")
    gpus, cpus = gpus_per_worker(count, device, settings), settings.cpus_per_worker
    stack.enter_context(ray_session(settings, cpus * count, gpus * count))
    return partial(RayWorker, cpus=cpus, gpus=gpus, device=device)


def gpus_per_worker(count: int, device: str, settings: RaySettings) -> float:
    """Return the share of a GPU that each worker takes."""
    if settings.gpus_per_worker or not device.startswith("cuda"):
        return settings.gpus_per_worker
    return equal_share(capacity(settings).gpus, count)


def map_in_order(
    workers: Sequence[Worker],
    function: Callable[..., T],
    items: Sequence[tuple[Any, ...]],
    on_done: Callable[[int, T], None] = lambda item, result: None,
) -> list[T]:
    """Return ``function(state, *item)`` for every item, in the order of the items.

    A free worker takes the next item; the item of one that died is done again.
    ``on_done(item, result)`` is called after each.

    Raises:
        WorkerError: If a worker died too often.
        AutomixError: If a function raised; the other workers are closed at once.
    """
    results: dict[int, T] = {}
    waiting = list(reversed(range(len(items))))
    free = [worker for worker in workers if isinstance(worker, RestartableWorker)]
    inline = [worker for worker in workers if not isinstance(worker, RestartableWorker)]
    busy: dict[RestartableWorker, int] = {}
    try:
        while waiting or busy:
            while waiting and free:
                worker, item = free.pop(), waiting.pop()
                busy[worker] = item
                worker.submit(function, *items[item])
            here = inline[0] if inline and waiting else None
            if here:
                item = waiting.pop()
                here.submit(function, *items[item])
                results[item] = here.result()
                on_done(item, results[item])
            # With work left for this process, only look; without, wait for the others.
            for worker in _answered(list(busy), look=here is not None):
                item = busy[worker]
                try:
                    results[item] = worker.result()
                except WorkerDied:
                    worker.restart()
                    waiting.append(item)
                else:
                    on_done(item, results[item])
                del busy[worker]
                free.append(worker)
    except BaseException:
        for worker in busy:
            worker.close()
        raise
    return [results[index] for index in range(len(items))]


def _answered(workers: Sequence[RestartableWorker], look: bool) -> Sequence[RestartableWorker]:
    """Return those at work that have an answer, are gone, or hang; wait for one unless told."""
    if not workers:
        return []
    left = min(worker.time_left() for worker in workers)
    # Second by second: the clock of an actor starts when it has found a place.
    patience = 0.0 if look else min(max(left, 0.0), 1.0) if left < float("inf") else None
    ready = workers[0].wait_any(workers, patience)
    return [worker for worker in workers if worker in ready or worker.time_left() <= 0]
