"""Trainings per second of a learning run with one process and with several.

python -m benchmarks.workers
"""

from __future__ import annotations

import sys
import time
from functools import partial

import numpy as np

from agents.config import load_settings
from agents.rundir import usable_cores
from agents.training import make_mix_block
from agents.vec_env import GroupVecEnv
from agents.workers import start_workers
from benchmarks.command import main
from benchmarks.harness import Section, threads

SECONDS = 60.0


def run(seconds: float) -> Section:
    """Play episodes of the default run, workers taking turns; the first of each does not count."""
    counts = list(dict.fromkeys([1, min(2, usable_cores()), usable_cores()]))
    with threads(1):  # of this process; the others have one anyway
        rates = {count: _rate(count, seconds / len(counts)) for count in counts}
    rows = [
        {"processes": n, "trainings/s": rate, "times one": rate / rates[1]}
        for n, rate in rates.items()
    ]
    return Section(
        title="Workers",
        about="Whole episodes of the default run (8 groups of 8 trainings of 20 epochs) under "
        "random actions, one thread a process; this process is one of them.",
        columns=("processes", "trainings/s", "times one"),
        rows=rows,
    )


def _rate(count: int, seconds: float) -> float:
    """Return trainings a second, from the second episode on."""
    settings = load_settings([])
    budget = settings.trainer.epochs
    make_block = partial(
        make_mix_block,
        settings.agent.group_size,
        1,
        settings.task,
        settings.trainer,
        settings.env,
        "cpu",
    )
    with start_workers(count) as workers:
        env = GroupVecEnv(make_block, settings.agent.groups, workers, seed=0)
        env.reset()
        rng = np.random.default_rng(0)
        done, start = 0, 0.0
        while done < 2 or time.perf_counter() - start < seconds * (done - 1) / done:
            if done == 1:
                start = time.perf_counter()
            for _ in range(budget):
                env.step(rng.integers(0, env.action_space.n, env.num_envs))  # type: ignore[attr-defined]
            done += 1
        rate = (done - 1) * env.num_envs / (time.perf_counter() - start)
        env.close()
    return rate


if __name__ == "__main__":
    sys.exit(main(only="workers"))
