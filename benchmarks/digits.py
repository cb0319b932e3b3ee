"""The default `train` for several seeds of the agent, as the table of results/digits.md.

    python -m benchmarks.digits --seeds 0 1 2 --out results/digits.md

Every seed is a run of its own, with its own learning; no seed is left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import mean
from typing import Any

from automix.agents.config.compose import load_settings
from automix.agents.jobs.run import run_train
from automix.core.files import read_json, write_text


def run(seed: int, folder: Path, overrides: list[str]) -> dict[str, Any]:
    """Train with one seed, or read the result of a run that is already there."""
    path = _run_path(folder, seed)
    if (path / "result.json").is_file():
        return read_json(path / "result.json")
    return run_train(load_settings([f"seed={seed}", *overrides]), path, overwrite=True)


def _run_path(folder: Path, seed: int) -> Path:
    return folder / f"digits_s{seed}"


def about(result: dict[str, Any]) -> str:
    """Return what was done, from the first run."""
    return (
        "Test accuracy in points on held-out tasks. Each row is one whole run of "
        f"`python run.py train seed=<seed>`: {result['learning']['episodes']:,} trainings to learn "
        f"from, then {len(result['tasks'])} kinds of task ({'; '.join(result['tasks'])}) x "
        f"{len(result['seeds'])} seeds, all contestants paired. Intervals: stratified bootstrap, "
        "95 %. The best fixed choice is the one with the best validation accuracy on the same "
        "tasks. Wall seconds were taken while other work shared the machine."
    )


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
    scores: dict[str, list[float]] = {}
    for result in results.values():
        for row in result["contestants"]:
            scores.setdefault(row["name"], []).append(row["iqm"])
    lines = ["| contestant | IQM, mean of seeds | agent minus it, mean of seeds |", "|---|---|---|"]
    for name, values in sorted(scores.items(), key=lambda item: -mean(item[1])):
        gaps = [
            r["agent_minus"][name]["mean"] for r in results.values() if name in r["agent_minus"]
        ]
        gap = f"{100 * mean(gaps):+.2f}" if gaps else ""
        lines.append(f"| {name} | {_points(mean(values))} | {gap} |")
    return "\n".join(lines)


def provenance(runs: list[Path]) -> str:
    """Return hardware, versions and commits as the runs themselves recorded them."""
    machines = [read_json(path / "env.json") for path in runs]
    first = machines[0]
    versions = ", ".join(
        f"{name} {first['versions'][name]}" for name in ("torch", "timm", "stable-baselines3")
    )
    commits = ", ".join(dict.fromkeys(str(machine["git"]) for machine in machines))
    return (
        f"Hardware: {first['cpu']}, {first['cores']} shared cores, no GPU. "
        f"Python {first['python']}, {versions}. Commit: {commits}."
    )


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
    seeds = " ".join(map(str, options.seeds))
    page = "\n\n".join(
        [
            "# What the agent learned on digits",
            about(next(iter(results.values()))),
            table(results),
            by_contestant(results),
            f"Command: `python -m benchmarks.digits --seeds {seeds} --out results/digits.md`. "
            + provenance([_run_path(options.runs, seed) for seed in options.seeds]),
        ]
    )
    print(page)
    if options.out:
        write_text(options.out, page + "\n")


if __name__ == "__main__":
    main()
