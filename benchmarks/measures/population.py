"""Trainings per second: side by side in stacks, and one at a time.

python -m benchmarks --only population
"""

from __future__ import annotations

import time
from functools import partial
from statistics import median

import torch

from automix.agents.parallel.machine import keep_memory
from automix.agents.parallel.process_worker import ProcessWorker
from automix.agents.parallel.worker import State
from automix.data.tasks import TaskSpec
from automix.envs.mix_env import DIGITS_FAMILY
from automix.envs.worlds import ImageWorld
from automix.mixing.actions import MixAction
from automix.training.population import Population
from automix.training.settings import TrainerSettings
from benchmarks.harness import Section, Target, interleaved, threads

SECONDS = 110.0

MEMBERS = (1, 8, 16, 32, 64, 128, 256, 512)
GROUP = 8
"""Members that share a task, as in the default."""

PLAYS = ("cutmix@0.5", "mixup@0.25", "none", "rmix@0.5", "cutmix@0.25", "mixup@0.5", "rmix@0.25")
SETTINGS = TrainerSettings(epochs=100_000, sched="step", warmup_epochs=0)
EPOCHS = 20
"""Of one training, as in the default."""

PROCESSES = 2


def run(seconds: float) -> Section:
    """Time stacks of each size on one thread, then whole processes against each other."""
    keep_memory()
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    rows: list[dict[str, object]] = []
    targets = []
    for device in devices:
        with threads(1):
            cases = {k: partial(_epoch, population(k, device)) for k in MEMBERS}
            took = interleaved(cases, 0.6 * seconds / len(devices), at_least=3)
        rows += [_row(f"{device}, one process", k, s / k, took[1]) for k, s in took.items()]
        if device == "cuda":
            faster = {"256 nets": took[1] / (took[256] / 256)}
            targets.append(
                Target.of("256 small nets on a GPU, times one at a time", faster, at_least=20)
            )
    both = _processes(0.4 * seconds)
    rows += [_row(f"cpu, {PROCESSES} processes", k, s, both[1]) for k, s in both.items()]
    faster = {f"stacks of {GROUP}": both[1] / both[GROUP]}
    targets.append(
        Target.of(
            f"small nets in {PROCESSES} processes of one thread, times one at a time there",
            faster,
            at_least=2,
        )
    )
    if len(devices) == 1:
        targets.append(Target("256 small nets on a GPU", "at least 20", "no GPU here", False))
    return Section(
        title="Population",
        about=f"Trainings of {EPOCHS} epochs on 200 digits, groups of {GROUP} that share a task, "
        "the default menu. One thread a process.",
        columns=("where", "members", "ms a training", "trainings/s", "times one at a time"),
        rows=rows,
        targets=targets,
    )


def _row(where: str, members: int, epoch: float, alone: float) -> dict[str, object]:
    """Return a row from the seconds of one member's epoch (in all processes together)."""
    return {
        "where": where,
        "members": members,
        "ms a training": 1e3 * EPOCHS * epoch,
        "trainings/s": 1 / (EPOCHS * epoch),
        "times one at a time": alone / epoch,
    }


def population(members: int, device: str = "cpu") -> Population:
    """Return trainings that have begun: a task for every eight of them."""
    world = ImageWorld(DIGITS_FAMILY, SETTINGS, device)
    specs = [
        TaskSpec(train_size=200, label_noise=0.2, seed=member // GROUP) for member in range(members)
    ]
    made = world.start(specs)
    made.reset([spec.seed for spec in specs])
    return made


def _epoch(made: Population) -> None:
    made.run_epoch([MixAction.parse(PLAYS[m % len(PLAYS)]) for m in range(made.members)])


def _processes(seconds: float) -> dict[int, float]:
    """Return the seconds of one member's epoch with all processes at work, alone and stacked."""
    workers = [ProcessWorker(index) for index in range(PROCESSES)]
    try:
        for worker in workers:
            worker.submit(_begin)
        for worker in workers:
            worker.result()
        rates: dict[int, list[float]] = {1: [], GROUP: []}
        end = time.perf_counter() + seconds
        while len(rates[1]) < 3 or time.perf_counter() < end:
            for members, found in rates.items():
                for worker in workers:
                    worker.submit(_rate, members)
                # Epochs of single members a second, all processes together.
                found.append(sum(worker.result() for worker in workers))
        return {members: 1 / median(found) for members, found in rates.items()}
    finally:
        for worker in workers:
            worker.close()


def _begin(state: State) -> None:
    for members in (1, GROUP):
        state[str(members)] = population(members)
        _epoch(state[str(members)])


def _rate(state: State, members: int, seconds: float = 1.0) -> float:
    """Return how many epochs of single members this process makes in a second."""
    made, count, start = state[str(members)], 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        _epoch(made)
        count += members
    return count / (time.perf_counter() - start)
