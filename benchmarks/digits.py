"""The default `train` for several seeds of the agent, as the table of results/digits.md.

    python -m benchmarks.digits --seeds 0 1 2 --out results/digits.md

Every seed is a run of its own, with its own learning; no seed is left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from agents.config import load_settings
from agents.jobs import run_train
from agents.rundir import describe_machine
from automix.files import read_json, write_text


def run(seed: int, folder: Path, overrides: list[str]) -> dict[str, Any]:
    """Train with one seed, or read the result of a run that is already there."""
    path = folder / f"digits_s{seed}"
    if (path / "result.json").is_file():
        return read_json(path / "result.json")
    return run_train(load_settings([f"seed={seed}", *overrides]), path, overwrite=True)


def table(results: dict[int, dict[str, Any]]) -> str:
    """Return one row per seed of the agent: its score and its paired differences."""
    lines = [
        "| seed | agent IQM [95 %] | minus none | minus random | minus mix_then_none "
        "| best fixed choice | minus it | learning s | all s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for seed, result in results.items():
        agent = next(row for row in result["contestants"] if row["kind"] == "agent")
        best = result["best_fixed"]
        rivals = ["none", "random", "mix_then_none", best]
        differences = [_difference(result["agent_minus"][name]) for name in rivals]
        lines.append(
            f"| {seed} | {_points(agent['iqm'])} [{', '.join(map(_points, agent['ci95']))}] | "
            + " | ".join(differences[:3])
            + f" | {best} | {differences[3]} | {result['learning']['wall_s']:.0f} "
            f"| {result['wall_s']:.0f} |"
        )
    return "\n".join(lines)


def by_contestant(results: dict[int, dict[str, Any]]) -> str:
    """Return the mean over seeds of each contestant's IQM and of the difference to it."""
    names = [row["name"] for row in next(iter(results.values()))["contestants"]]
    rows = []
    for name in names:
        scores = [
            row["iqm"] for r in results.values() for row in r["contestants"] if row["name"] == name
        ]
        gaps = [
            r["agent_minus"][name]["mean"] for r in results.values() if name in r["agent_minus"]
        ]
        gap = f"{100 * sum(gaps) / len(gaps):+.2f}" if gaps else ""
        rows.append(
            (
                sum(scores) / len(scores),
                f"| {name} | {_points(sum(scores) / len(scores))} | {gap} |",
            )
        )
    head = ["| contestant | IQM, mean of seeds | agent minus it, mean of seeds |", "|---|---|---|"]
    return "\n".join(head + [line for _, line in sorted(rows, reverse=True)])


def _difference(difference: dict[str, Any]) -> str:
    low, high = (100 * bound for bound in difference["ci95"])
    return f"{100 * difference['mean']:+.2f} [{low:+.2f}, {high:+.2f}]"


def _points(value: float) -> str:
    return f"{100 * value:.2f}"


def main() -> None:
    """Run what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmark"))
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    options = parser.parse_args()
    results = {seed: run(seed, options.runs, options.overrides) for seed in options.seeds}
    first = next(iter(results.values()))
    machine = describe_machine()
    page = "\n\n".join(
        [
            "# What the agent learned on digits",
            "Test accuracy in points on held-out tasks. Each row is one whole run of "
            f"`python run.py train seed=<seed>`: {first['learning']['episodes']:,} trainings to learn "
            f"from, then {len(first['tasks'])} kinds of task ({', '.join(first['tasks'])}) x "
            f"{len(first['seeds'])} seeds, all contestants paired. Intervals: stratified bootstrap, 95 %. "
            "The best fixed choice is the one with the best validation accuracy on the same tasks.",
            table(results),
            by_contestant(results),
            f"Command: `python -m benchmarks.digits --seeds {' '.join(map(str, options.seeds))} "
            f"--out results/digits.md`. Hardware: {machine['cpu']}, {machine['cores']} shared cores, no GPU. "
            f"Python {machine['python']}, torch {machine['versions']['torch']}, "
            f"timm {machine['versions']['timm']}, "
            f"stable-baselines3 {machine['versions']['stable-baselines3']}. Commit: {machine['git']}.",
        ]
    )
    print(page)
    if options.out:
        write_text(options.out, page + "\n")


if __name__ == "__main__":
    main()
