"""Seconds from the start of a process: ``--help``, importing the library, the first env step.

python -m benchmarks --only startup
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.harness import Section, Target, interleaved

SECONDS = 50.0

ROOT = Path(__file__).resolve().parents[2]

IMPORTS = """
import json, time
import torch, timm
start = time.perf_counter()
import automix
package = time.perf_counter() - start
import automix.training.population
print(json.dumps({"automix": package, "automix.training.population": time.perf_counter() - start}))
"""
"""Tells what the library costs a user who has imported torch and timm anyway."""

STEP = """
import gymnasium, automix.envs
env = gymnasium.make("automix/Mix-v0")
env.reset(seed=0)
env.step(env.action_space.sample())
"""

COMMANDS = {
    "python -c ''": ["-c", ""],
    "run.py --help": ["run.py", "--help"],
    "import torch, timm": ["-c", "import torch, timm"],
    "torch, timm, automix.training.population": ["-c", IMPORTS],
    "first env step": ["-c", STEP],
}
LIMITS = {
    "run.py --help": "python -c ''",
    "torch, timm, automix.training.population": "import torch, timm",
    "first env step": "import torch, timm",
}
"""What a command cannot be faster than."""

Wall = Mapping[str, float]


def run(seconds: float) -> Section:
    """Start each command in turn and wait for its end."""
    outputs: dict[str, list[str]] = {name: [] for name in COMMANDS}

    def start(name: str) -> Callable[[], None]:
        return lambda: outputs[name].append(output(COMMANDS[name]))

    wall = interleaved({name: start(name) for name in COMMANDS}, seconds, at_least=2)
    return section(wall, list(map(json.loads, outputs["torch, timm, automix.training.population"])))


def output(words: list[str]) -> str:
    """Return what a Python process prints.

    Raises:
        RuntimeError: If it fails; its last line of complaint is in the message.
    """
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().rpartition("\n")[2])
    return done.stdout


def section(wall: Wall, imports: list[Wall]) -> Section:
    """Return the table of the wall seconds and of what processes told of their imports."""
    beyond = {name: statistics.median(each[name] for each in imports) for name in imports[0]}
    rows = [
        {
            "process": name,
            "s": seconds,
            "limit": LIMITS.get(name),
            "limit s": wall[LIMITS[name]] if name in LIMITS else None,
            "times the limit": seconds / wall[LIMITS[name]] if name in LIMITS else None,
        }
        for name, seconds in wall.items()
    ]
    rows += [
        {"process": f"import {name}, after torch and timm", "s": took}
        for name, took in beyond.items()
    ]
    help_s = {"run.py --help": wall["run.py --help"]}
    return Section(
        title="Startup",
        about="Wall seconds of whole processes, median; the limit is the interpreter, or torch "
        "and timm alone. The last rows are told by the process that imports the library.",
        columns=("process", "s", "limit", "limit s", "times the limit"),
        rows=rows,
        targets=[
            Target.of("run.py --help answers", help_s, at_most=1.0, unit="s"),
            Target.of(
                "import automix.training.population, after torch and timm",
                beyond,
                at_most=0.3,
                unit="s",
            ),
        ],
    )
