"""Trials as plain Ray tasks: Ray starts them, and starts them again where a process or node died.

A task holds no state of its own: its trial's run directory does, so the second attempt goes on
where the first one wrote last. What Ray is sent is our own objects; no file is unpickled.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from automix.agents.config.settings import RaySettings
from automix.agents.parallel.ray_session import capacity, ray_session
from automix.agents.parallel.ray_worker import last_line
from automix.agents.sweep.folder import SweepDirectory
from automix.agents.sweep.job import Job, Outcome, run_trial
from automix.agents.sweep.plan import SweepPlan, SweepTrial, at_once_here, fit
from automix.core.errors import ResourceError

STOP_S = 120.0
"""Seconds that trials have to write where they are."""
PROBE_S = 120.0
"""Seconds that a node has to start a process and import this package."""

log = logging.getLogger("automix")


@contextmanager
def on_ray(plan: SweepPlan, directory: SweepDirectory, job: Job) -> Iterator[RayExecutor]:
    """Start or join Ray for as long as the sweep runs.

    Raises:
        ResourceError: If a trial asks for more than there is, or a node sees other files.
    """
    one, trials = plan.settings, 0
    if not plan.ray.address:
        trials = at_once_on_this_machine(plan)
    with ray_session(plan.ray, trials * one.cpus_per_trial, trials * one.gpus_per_trial):
        executor = RayExecutor(plan, directory, job)
        executor.check_nodes(joined=bool(plan.ray.address))
        yield executor


def at_once_on_this_machine(plan: SweepPlan) -> int:
    """Return how many trials a Ray of our own runs at once.

    Raises:
        ResourceError: If it cannot run a single one.
    """
    here = capacity(RaySettings())
    return at_once_here(plan, here.cpus, here.gpus)


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
        return fit(self._settings, has.get("CPU", 0.0), has.get("GPU", 0.0))


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
