"""How much there is to gain over the worlds of a suite, and what could tell it, as a log.

    python -m results.scripts.room worlds=embedded --out runs/room --tasks 300

On each drawn task a group trains side by side: every fixed choice, members that draw a choice at
random for each decision, and as many that change once, from one choice to another. What all of
them saw, chose and reached is a line of ``log.jsonl``.
Several processes may share the work (``--part 0/2``); tasks that are on record are not done again.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from automix.agents.config.compose import load_settings
from automix.agents.config.settings import RunSettings
from automix.agents.config.worlds import worlds_of
from automix.core.files import write_text
from automix.core.seeding import derived_seed, generator
from automix.data.tasks import TaskSpec
from automix.envs.codec import ActionCodec
from automix.envs.groups import StackedGroups
from automix.policy.observations import DEFAULT_OBSERVATIONS, Observer
from automix.envs.worlds import build_world
from automix.training.evaluation import test_scores

OBSERVATIONS = (
    *DEFAULT_OBSERVATIONS,
    *("log_steps", "log_epochs", "log_images_per_class", "log_classes", "log_parameters"),
    *("lr_share", "augmented", "skill", "train_skill", "mixed_loss"),
    *("val_accuracy_history", "train_loss_history", "val_loss_history"),
)


def drawn(settings: RunSettings, world: Any, number: int, seed: int) -> TaskSpec:
    """Draw a task: worlds in turn, sizes log-uniform, noise uniform within the world's range."""
    worlds = worlds_of(settings)
    own = worlds[number % len(worlds)]
    rng = generator(seed, "room", str(number))
    low, high = min(own.task.train_sizes), max(own.task.train_sizes)
    size = round(float(np.exp(rng.uniform(np.log(low), np.log(high)))))
    least, most = min(own.task.label_noise), max(own.task.label_noise)
    noise = 0.0 if rng.random() < 0.4 else round(float(rng.uniform(least, most)), 2)
    return TaskSpec(
        train_size=size, label_noise=noise, seed=int(rng.integers(2**31)), world=own.name
    )


def schedules(choices: int, steps: int, members: int, rng: np.random.Generator) -> np.ndarray:
    """Return the choice of each decision and member: fixed ones, then drawn ones, then changes."""
    chosen = rng.integers(choices, size=(steps, members))
    chosen[:, :choices] = np.arange(choices)
    for member in range((members + choices + 1) // 2, members):
        before, after = rng.integers(choices, size=2)
        if rng.random() < 0.5:  # no mixing, number 0, before or after: what schedules by hand do
            before, after = (0, after) if rng.random() < 0.5 else (before, 0)
        change = rng.integers(1, steps)
        chosen[:change, member], chosen[change:, member] = before, after
    return chosen


def play(settings: RunSettings, world: Any, spec: TaskSpec, members: int) -> dict[str, Any]:
    """Train a group on a task, a member a schedule."""
    env = replace(settings.env, observations=OBSERVATIONS)
    groups = StackedGroups(world, env, members)
    codec = ActionCodec(env.actions)
    choices, observer = codec.choices, Observer(OBSERVATIONS, env.actions)
    places = np.cumsum([0, *observer.sizes[:-1]]).tolist()
    rng = generator(spec.seed, "room choices")
    facts = world.facts(spec)
    starts = env.starts(facts.budget)
    chosen = schedules(len(choices), len(starts), members, rng)
    seen = [groups.reset([spec], [derived_seed(spec.seed, "room trial")])]
    for step in range(len(starts)):
        (result,) = groups.step([choices[c] for c in chosen[step]])
        seen.append(result.observations)
    last = result.metrics
    scores = test_scores(groups.training)
    return {
        "spec": asdict(spec),
        "facts": asdict(facts),
        "choices": [str(choice) for choice in choices],
        "drawn": [len(choices), (members + len(choices) + 1) // 2],
        "chosen": chosen.T.tolist(),
        "columns": dict(zip(observer.names, places, strict=True)),
        "observations": np.stack(seen, 1).round(5).tolist(),
        "val_accuracy": [m.val_accuracy for m in last],
        "val_calibrated": [float(np.exp(-(m.val_calibrated_loss or 99.0))) for m in last],
        "test_accuracy": [s.accuracy for s in scores],
        "diverged": [m.diverged for m in last],
    }


def main() -> None:
    """Log tasks until there are enough."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tasks", type=int, default=300)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--members", type=int, default=16)
    parser.add_argument("--part", default="0/1")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(1)
    settings = load_settings(args.overrides)
    world = build_world(worlds_of(settings))
    part, parts = map(int, args.part.split("/"))
    args.out.mkdir(parents=True, exist_ok=True)
    command = (
        f"python -m results.scripts.room {' '.join(args.overrides)} --out runs/room "
        f"--tasks {args.tasks} --members {args.members} --seed {args.seed}"
    )
    write_text(args.out / "command.txt", f"{command}\n")
    path = args.out / f"log-{part}.jsonl"
    done = {json.loads(line)["number"] for line in path.open()} if path.exists() else set()
    for number in range(args.first + part, args.first + args.tasks, parts):
        if number in done:
            continue
        spec, start = drawn(settings, world, number, args.seed), time.monotonic()
        row = play(settings, world, spec, args.members)
        row |= {"number": number, "seconds": round(time.monotonic() - start, 2)}
        with path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(number, spec.kind, row["seconds"], flush=True)  # noqa: T201 (a long log shows that it goes on)


if __name__ == "__main__":
    main()
