"""The grid: every trial is a plain Ray task, started again where its process or node died.

A task holds no state of its own: its trial's run directory does, so the second attempt goes on
where the first one wrote last. What Ray is sent is our own objects; no file is unpickled.
"""

from __future__ import annotations

import hashlib
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from automix.agents.jobs.run import train_or_resume
from automix.agents.parallel.machine import Capacity, fit
from automix.agents.parallel.ray_session import ray_session
from automix.agents.parallel.ray_worker import last_line
from automix.agents.sweep.folder import SweepDirectory
from automix.agents.sweep.ledger import Event, json_lines
from automix.agents.sweep.planning.plan import SweepPlan, SweepTrial, at_once_here
from automix.agents.sweep.runners.job import Job, Outcome, run_trial
from automix.agents.sweep.watch import Watch, watching
from automix.core.errors import ResourceError

STOP_S = 120.0
"""Seconds that trials have to write where they are."""
PROBE_S = 120.0
"""Seconds that a node has to start a process and import this package."""
POLL_S = 0.5

log = logging.getLogger("automix")


@contextmanager
def session(plan: SweepPlan) -> Iterator[None]:
    """Start or join Ray for as long as a sweep runs.

    Raises:
        ResourceError: If a trial asks for more than there is.
    """
    one, trials = plan.settings, 0 if plan.ray.address else at_once_here(plan)
    with ray_session(plan.ray, trials * one.cpus_per_trial, trials * one.gpus_per_trial):
        yield


@contextmanager
def on_ray(plan: SweepPlan, directory: SweepDirectory, job: Job) -> Iterator[RayExecutor]:
    """Run trials on Ray while the block runs.

    Raises:
        ResourceError: If a trial asks for more than there is, or a node sees other files.
    """
    with session(plan):
        executor = RayExecutor(plan, directory, job)
        executor.check_nodes(joined=bool(plan.ray.address))
        yield executor


Executors = Callable[[SweepPlan, SweepDirectory, Job], AbstractContextManager["RayExecutor"]]


def run_grid(
    plan: SweepPlan,
    directory: SweepDirectory,
    *,
    job: Job = train_or_resume,
    executors: Executors = on_ray,
) -> None:
    """Run every trial that has no result yet; a failed one stops nothing else.

    Args:
        plan: Of the sweep.
        directory: Of the sweep.
        job: The work of a trial.
        executors: Where trials run.

    Raises:
        KeyboardInterrupt: And the like, after all trials have been asked to stop.
    """
    watch, known = Watch(plan, directory), directory.ledger.last()
    for trial in plan.trials:
        figures = directory.figures(trial.hash)
        if figures:
            # If not, it finished and the sweep was killed before it could take note.
            noted = known.get(trial.hash, {}).get("event") == "finished"
            watch.note("finished", trial.hash, known=noted, wall_s=None, figures=figures)
    over = watch.progress.over
    waiting = [trial for trial in plan.trials if trial.hash not in over]
    if over:
        log.info("%d of %d trials have finished", len(over), len(plan.trials))
    if waiting:
        with executors(plan, directory, job) as executor, watching(watch):
            _drive(waiting, executor, watch)


def _drive(trials: Sequence[SweepTrial], executor: RayExecutor, watch: Watch) -> None:
    """Hand trials to an executor, and take note of what becomes of them."""
    waiting, flying = deque(trials), dict[str, SweepTrial]()
    most, attempts = watch.plan.settings.max_concurrent, _Attempts(watch, trials)
    try:
        while waiting or flying:
            room = min(executor.room, most or executor.room)
            while waiting and len(flying) < room:
                trial = waiting.popleft()
                executor.submit(trial)
                flying[trial.hash] = trial
            watch.progress.at_once = min(executor.at_once, most or executor.at_once)
            ended = executor.ended(POLL_S)
            attempts.look(flying)
            for outcome in ended:
                del flying[outcome.trial]
                _note(watch, outcome)
            watch.show()
    except BaseException:
        executor.stop()
        attempts.look(flying)
        raise


class _Attempts:
    """Reads the lines that trials' processes write as they start."""

    def __init__(self, watch: Watch, trials: Sequence[SweepTrial]) -> None:
        self._watch = watch
        # Lines of earlier drives are no news.
        self._seen = {trial.hash: len(self._lines(trial.hash)) for trial in trials}
        self._before = dict(self._seen)

    def look(self, names: Iterable[str]) -> None:
        for name in names:
            for line in self._lines(name)[self._seen[name] :]:
                again = self._seen[name] > self._before[name]
                self._seen[name] += 1
                event: Event = "retried" if again else "started"
                self._watch.note(event, name, host=line.get("host"), pid=line.get("pid"))

    def _lines(self, name: str) -> list[dict[str, Any]]:
        return json_lines(self._watch.directory.attempts(name))


def _note(watch: Watch, outcome: Outcome) -> None:
    name, wall = outcome.trial, round(outcome.wall_s, 1)
    if outcome.figures is not None:
        watch.note("finished", name, wall_s=wall, figures=dict(outcome.figures))
        return
    log = watch.directory.trial(name) / "log.txt"
    path = str(log.relative_to(watch.directory.path)) if log.is_file() else ""
    watch.note("failed", name, wall_s=wall, error=outcome.error, log=path)
    watch.ended(name)


class RayExecutor:
    """Runs trials on the Ray that is connected.

    Args:
        plan: What a trial takes, and how often it is tried again.
        directory: Of the sweep.
        job: The work of a trial.
    """

    def __init__(self, plan: SweepPlan, directory: SweepDirectory, job: Job) -> None:
        import ray

        self._settings = plan.settings
        self._directory = directory
        self._job = job
        self._home = Path.cwd()
        self._flying: dict[Any, str] = {}
        task: Any = ray.remote(run_trial)
        self._task = task.options(
            num_cpus=plan.settings.cpus_per_trial,
            num_gpus=plan.settings.gpus_per_trial,
            max_retries=plan.settings.max_retries,
            retry_exceptions=False,
        )

    @property
    def at_once(self) -> int:
        """How many trials the cluster holds now."""
        return max(1, sum(self._fits(node) for node in _nodes()))

    @property
    def room(self) -> int:
        """Twice as many: the next ones wait in Ray's queue, so that no node idles in between."""
        return 2 * self.at_once

    def submit(self, trial: SweepTrial) -> None:
        """Put a trial into Ray's queue."""
        gpus = self._settings.gpus_per_trial
        ref = self._task.remote(self._job, trial, self._directory.path, self._home, gpus)
        self._flying[ref] = trial.hash

    def ended(self, timeout_s: float) -> list[Outcome]:
        """Return the trials that have ended since, waiting a while for the first."""
        import ray

        if not self._flying:
            return []
        ray.wait(list(self._flying), num_returns=1, timeout=timeout_s)
        done, _ = ray.wait(list(self._flying), num_returns=len(self._flying), timeout=0)
        return [_outcome(ref, self._flying.pop(ref), self._settings.max_retries) for ref in done]

    def stop(self) -> None:
        """Interrupt all trials, as Ctrl-C does with a run, and wait for them."""
        import ray

        if not self._flying:
            return
        log.info("stopping %d trials, each writes where it is", len(self._flying))
        refs = list(self._flying)
        for ref in refs:
            ray.cancel(ref)
        ray.wait(refs, num_returns=len(refs), timeout=STOP_S)

    def check_nodes(self, joined: bool) -> None:
        """See that a trial fits on a node and, on a cluster that was joined, finds its files there.

        Raises:
            ResourceError: If not; it says on which.
        """
        nodes = [node for node in _nodes() if self._fits(node)]
        if not nodes:
            one = self._settings
            there = [
                f"{n['Resources'].get('CPU', 0):g} CPU and {n['Resources'].get('GPU', 0):g} GPU"
                for n in _nodes()
            ]
            raise ResourceError(
                f"a trial asks for {one.cpus_per_trial} CPU and {one.gpus_per_trial:g} GPU on one"
                f" node, the cluster's nodes have {', '.join(sorted(set(there)))}",
                "lower sweep.cpus_per_trial or sweep.gpus_per_trial",
            )
        if joined:
            _probe(nodes, self._directory)

    def _fits(self, node: dict[str, Any]) -> int:
        has = node["Resources"]
        there = Capacity(has.get("CPU", 0.0), has.get("GPU", 0.0))
        return fit(there, self._settings.one_trial)


def sees(file: Path, digest: str) -> bool:
    """Return whether this machine sees the same file."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest() == digest
    except OSError:
        return False


def _nodes() -> list[dict[str, Any]]:
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def _probe(nodes: list[dict[str, Any]], directory: SweepDirectory) -> None:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    file = directory.path / "sweep.yaml"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    look: Any = ray.remote(num_cpus=0, max_retries=0)(sees)
    asked = []
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ref = look.options(scheduling_strategy=there).remote(file, digest)
        asked.append((node["NodeManagerHostname"], ref))
    for name, ref in asked:
        try:
            same = ray.get(ref, timeout=PROBE_S)
        except ray.exceptions.RayError as error:
            raise ResourceError(
                f"node {name} cannot run a trial: {last_line(error)}",
                "this package must be installed there, in the same version",
            ) from None
        if not same:
            raise ResourceError(
                f"node {name} does not see {directory.path}",
                "choose a folder on a disk that all nodes share with --run-dir",
            )


def _outcome(ref: Any, trial: str, retries: int) -> Outcome:
    import ray
    from ray import exceptions

    died = (exceptions.WorkerCrashedError, exceptions.NodeDiedError, exceptions.OutOfMemoryError)
    try:
        found = ray.get(ref)
    except died as error:
        cause = f"its process or its machine died {retries + 1} times"
        return Outcome(trial, None, f"{cause}, the last time of {type(error).__name__}", 0.0)
    except exceptions.RayError as error:
        return Outcome(trial, None, last_line(error), 0.0)
    assert isinstance(found, Outcome)
    return found
