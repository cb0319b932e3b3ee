"""Trainings per second of the digits net: side by side in one stack, and one at a time.

python -m benchmarks.stacking
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import torch

from agents.rundir import describe_machine
from automix.actions import MixAction
from automix.data.tasks import TaskSpec
from automix.trainer import Population
from envs.mix_env import image_world

ACTION = MixAction("cutmix", 0.5)


def seconds_per_training(members: int, train_size: int, epochs: int) -> float:
    """Return the seconds of one training when ``members`` of them are stacked."""
    world = image_world()
    population = world.start(TaskSpec(train_size=train_size, label_noise=0.2, seed=1), members)
    assert isinstance(population, Population)
    population.reset(0)
    population.run_epoch([ACTION] * members)
    start = time.perf_counter()
    for _ in range(epochs):
        population.run_epoch([ACTION] * members)
    return (time.perf_counter() - start) / epochs * world.budget / members


def measure(sizes: list[int], train_size: int, epochs: int, repeats: int) -> list[dict[str, float]]:
    """Return one row per stack size: median seconds, and the ratio to one at a time.

    Sizes take turns, so that a slow spell of the machine hits all of them.
    """
    times: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(repeats):
        for size in sizes:
            times[size].append(seconds_per_training(size, train_size, epochs))
    alone = statistics.median(times[sizes[0]])
    return [
        {
            "members": size,
            "seconds_per_training": statistics.median(times[size]),
            "times_faster_than_alone": alone / statistics.median(times[size]),
        }
        for size in sizes
    ]


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--members", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--train-size", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = measure(options.members, options.train_size, options.epochs, options.repeats)
    if options.json:
        print(json.dumps({"rows": rows, "machine": describe_machine()}, indent=2))
        return
    print(f"{options.train_size} images, 20 epochs, one thread, median of {options.repeats}")
    for row in rows:
        print(
            f"{row['members']:4.0f} stacked: {1e3 * row['seconds_per_training']:6.0f} ms each,"
            f" {row['times_faster_than_alone']:.2f} x one at a time"
        )


if __name__ == "__main__":
    main()
