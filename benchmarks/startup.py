"""Seconds from the start of a process: ``--help``, importing the library, the first env step.

python -m benchmarks.startup
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

from agents.rundir import describe_machine

COMMANDS = {
    "run.py --help": ["run.py", "--help"],
    "import torch, timm": ["-c", "import torch, timm"],
    "import torch, timm, automix.trainer": ["-c", "import torch, timm, automix.trainer"],
    "first env step": [
        "-c",
        "import gymnasium, envs; e = gymnasium.make('automix/Mix-v0'); e.reset(seed=0);"
        "e.step(e.action_space.sample())",
    ],
}


def measure(repeats: int) -> dict[str, float]:
    """Return the median wall seconds of each command; commands take turns."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(repeats):
        for name, words in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, *words], check=True, capture_output=True)
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    seconds = measure(options.repeats)
    if options.json:
        print(json.dumps({"seconds": seconds, "machine": describe_machine()}, indent=2))
        return
    for name, value in seconds.items():
        print(f"{value:6.2f} s  {name}")


if __name__ == "__main__":
    main()
