"""What each way to make learning less noisy is worth, as the table of results/ablations.md.

    python -m benchmarks.ablations --seeds 0 1 --out results/ablations.md

Every row learns anew with one thing changed, from equally many trainings, and plays the same
validation tasks; the test split is not read.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from agents.compare import Match, env_of, play_matches
from agents.config import load_settings
from agents.contestants import contestants_of
from agents.devices import choose_device, worker_count
from agents.export import policy_of
from agents.rundir import RunDirectory
from agents.settings import RunSettings, validation_specs
from agents.training import Learned, learn
from agents.workers import Worker, start_workers
from automix import stats
from automix.files import read_json, write_json, write_text
from benchmarks.digits import provenance
from envs.codec import ActionCodec

EXPERIMENT = "experiment=digits_full"
EPISODES = 3_840
"""Trainings to learn from, the same for every row."""
TASKS = 60
MORE_OBSERVATIONS = {
    "history observed": ("val_accuracy_history", "val_loss_history", "train_loss_history")
}
"""What a row observes beside the rest; an override could only write the whole list anew."""

Learn = Callable[[RunSettings, Sequence[Worker], str, RunDirectory], Learned]
"""A way of learning, as ``agents.training.learn`` is one."""

VARIANTS: dict[str, list[str]] = {
    "as it is": [],
    "reward: final accuracy": ["env.reward.name=final_accuracy"],
    "reward: accuracy gained by each action": ["env.reward.name=accuracy_gain"],
    "reward: final validation loss, uncalibrated": ["env.reward.name=final_loss"],
    "no baseline": ["env.reward.baseline=none"],
    "baseline: cutmix@0.5 on the same draws": [
        "env.reward.baseline=reference",
        "env.reward.reference=cutmix@0.5",
    ],
    "no groups: every training its own task": [
        "env.reward.baseline=none",
        "agent.groups=128",
        "agent.group_size=1",
    ],
    "an action for each epoch": ["env.epochs_per_action=1", "agent.batch_size=640"],
    "history observed": [],
    "rewards and observations normalised": ["agent.normalise=true"],
    "groups forked once": ["env.fork=true"],
}


def settings_of(variant: str, seed: int, overrides: list[str]) -> RunSettings:
    """Return the settings of one row; equally many trainings whatever an action lasts."""
    settings = load_settings([EXPERIMENT, f"seed={seed}", *VARIANTS[variant], *overrides])
    seen = (*settings.env.observations, *MORE_OBSERVATIONS.get(variant, ()))
    env = replace(settings.env, observations=seen)
    steps = EPISODES * env.steps(settings.trainer.epochs)
    return replace(settings, env=env, agent=replace(settings.agent, total_timesteps=steps))


def validation_accuracy(settings: RunSettings, folder: Path, way: Learn = learn) -> list[float]:
    """Learn in some way, then play the validation tasks; return the accuracy on each."""
    compared = replace(settings.compare, validation_draws=TASKS)
    settings = replace(settings, compare=compared)
    device = choose_device(settings.device)
    count = worker_count(settings, device)
    with start_workers(count, settings.threads, device) as workers:
        directory = RunDirectory.create(folder, settings, overwrite=True)
        policy = policy_of(way(settings, workers, device, directory), settings)
        env = env_of(policy, settings)
        agent = contestants_of(["agent"], ActionCodec(env.actions).choices)
        specs = validation_specs(settings.compare, settings.task)
        matches = [Match(spec=spec, task=spec.kind, scored=False) for spec in specs]
        trials = play_matches(matches, agent, env, settings, workers, device, policy)
    return [trial["val_accuracy"] for trial in trials]


def table(
    rows: dict[tuple[str, int], list[float]], seeds: list[int], order: Sequence[str] = (*VARIANTS,)
) -> str:
    """Return a row for each variant: mean accuracy, and the paired difference to the first."""
    names = [name for name in order if all((name, seed) in rows for seed in seeds)]
    base = np.array([rows[names[0], seed] for seed in seeds])
    lines = [
        "| what is changed | accuracy, by seed of the agent | minus as it is [95 %] |",
        "|---|---|---|",
    ]
    for name in names:
        scores = np.array([rows[name, seed] for seed in seeds])
        by_seed = ", ".join(f"{100 * value:.2f}" for value in scores.mean(1))
        told = ""
        if name != names[0]:
            found = stats.cluster_bootstrap((scores - base).T, stats.mean, resamples=4000, seed=0)
            low, high = (100 * bound for bound in found.bounds)
            told = f"{100 * found.value:+.2f} [{low:+.2f}, {high:+.2f}]"
        lines.append(f"| {name} | {by_seed} | {told} |")
    return "\n".join(lines)


Rows = dict[tuple[str, int], list[float]]
"""Accuracies on the validation tasks, by name and seed of the agent."""


def collect(
    doc: str,
    names: Sequence[str],
    runs: str,
    play: Callable[[str, int, list[str], Path], list[float]],
) -> tuple[argparse.Namespace, Rows, str]:
    """Read the command line and run the rows that are missing.

    Args:
        doc: The benchmark's docstring.
        names: Of all rows.
        runs: The folder that keeps them.
        play: Name, seed, overrides and the run's folder, to the accuracies.

    Returns:
        Options, rows, and where the rows come from, in words.
    """
    parser = argparse.ArgumentParser(description=doc.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--only", nargs="+", default=list(names), choices=list(names))
    parser.add_argument("--runs", type=Path, default=Path(runs))
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    options = parser.parse_args()
    rows: Rows = {}
    paths = []
    for seed in options.seeds:
        for name in options.only:
            path = options.runs / f"{list(names).index(name):02d}_s{seed}"
            paths.append(path)
            if not (path / "accuracies.json").is_file():
                write_json(path / "accuracies.json", play(name, seed, options.overrides, path))
            rows[name, seed] = [float(value) for value in read_json(path / "accuracies.json")]
            print(f"seed {seed}, {name}: {100 * np.mean(rows[name, seed]):.2f}", flush=True)
    return options, rows, provenance(paths)


def command(name: str, seeds: Sequence[int]) -> str:
    """Return the line that makes a page again."""
    words = " ".join(map(str, seeds))
    return f"Command: `python -m benchmarks.{name} --seeds {words} --out results/{name}.md`. "


def show(parts: Sequence[str], out: Path | None) -> None:
    """Print a page, and write it where it is wanted."""
    page = "\n\n".join(parts)
    print(page)
    if out:
        write_text(out, page + "\n")


def played(name: str, seed: int, overrides: list[str], path: Path) -> list[float]:
    """Learn and play one row."""
    return validation_accuracy(settings_of(name, seed, overrides), path)


def main() -> None:
    """Run what is missing and write the page."""
    options, rows, source = collect(__doc__, list(VARIANTS), "runs/ablations", played)
    parts = [
        "# What makes learning less noisy",
        f"Validation accuracy in points on {TASKS} tasks drawn from the range of the family of "
        f"`{EXPERIMENT}`, one training each, after learning from {EPISODES:,} trainings. "
        "Differences are paired by task and seed of the agent; intervals draw tasks again.",
        table(rows, options.seeds),
        command("ablations", options.seeds) + source,
    ]
    show(parts, options.out)


if __name__ == "__main__":
    main()
