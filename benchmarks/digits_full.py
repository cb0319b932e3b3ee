"""`experiment=digits_full` for several seeds of the agent, as the page results/digits_full.md.

    python -m benchmarks.digits_full --seeds 0 1 2 --out results/digits_full.md

The first seed meets everybody, the searches among them, which learn as long as the agent did. The
others are for how much learning itself varies, and meet those who need no search.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from automix.agents.config.compose import load_settings
from automix.agents.jobs.run import run_train
from automix.core.files import read_json, write_text
from benchmarks.digits import provenance

EXPERIMENT = "experiment=digits_full"
WITHOUT_SEARCH = (
    "compare.contestants=[agent,none,random,mix_then_none,none_then_mix,linear_ramp,alternating,"
    "fixed]"
)


def run(seed: int, folder: Path, searches: bool) -> dict[str, Any]:
    """Train with one seed, or read the result of a run that is already there."""
    path = run_path(folder, seed)
    if not (path / "result.json").is_file():
        words = [EXPERIMENT, f"seed={seed}", *([] if searches else [WITHOUT_SEARCH])]
        run_train(load_settings(words), path, overwrite=True)
    found: dict[str, Any] = read_json(path / "result.json")
    return found


def run_path(folder: Path, seed: int) -> Path:
    """Return where the run of a seed is."""
    return folder / f"digits_full_s{seed}"


def about(result: dict[str, Any]) -> str:
    """Return what was done."""
    learning, picked = result["learning"], result["best_fixed_picked"]
    return (
        f"Test accuracy in points on {result['draws']} tasks drawn from the family, at sizes and "
        f"noise levels that were never trained on, {result['trainings']} trainings of each, all "
        f"contestants paired. The agent learned from {learning['episodes']:,} trainings "
        f"({learning['classifier_epochs']:,} classifier epochs); each control searched with as "
        f"many. The best fixed choice was picked by validation accuracy on {picked['tasks']} other "
        "drawn tasks. Intervals: 95 %, tasks are drawn again."
    )


def everybody(result: dict[str, Any]) -> str:
    """Return a row for each contestant of one run."""
    lines = ["| contestant | mean | IQM [95 %] | agent minus it [95 %] | P | epochs spent |"]
    lines.append("|---|---|---|---|---|---|")
    for row in result["contestants"]:
        told = result["agent_minus"].get(row["name"])
        gap = f"{_signed(told)} | {told['p_improvement']:.2f}" if told else " | "
        low, high = (f"{100 * bound:.1f}" for bound in row["ci95"])
        lines.append(
            f"| {row['name']} | {100 * row['mean']:.2f} | {100 * row['iqm']:.1f} [{low}, {high}] "
            f"| {gap} | {row['epochs_spent']:,} |"
        )
    return "\n".join(lines)


def regrets(results: dict[int, dict[str, Any]]) -> str:
    """Return each seed's differences and regrets to the oracle of fixed choices."""
    lines = [
        "| seed | agent, mean | best fixed choice | agent minus it | minus none | minus random "
        "| minus mix_then_none | regret, cross-fitted: agent, best fixed | ratio "
        "| regret, hindsight: agent, best fixed | ratio | learning s | all s |",
        "|" + "---|" * 13,
    ]
    for seed, result in results.items():
        best, minus = result["best_fixed"], result["agent_minus"]
        agent = next(row for row in result["contestants"] if row["kind"] == "agent")
        gaps = [_signed(minus[name]) for name in (best, "none", "random", "mix_then_none")]
        lines.append(
            f"| {seed} | {100 * agent['mean']:.2f} | {best} | {' | '.join(gaps)} | "
            + " | ".join(_regret(result["oracle"][f], best) for f in ("cross_fitted", "hindsight"))
            + f" | {result['learning']['wall_s']:.0f} | {result['wall_s']:.0f} |"
        )
    return "\n".join(lines)


def found(result: dict[str, Any]) -> str:
    """Return what each control found."""
    lines = ["| control | what it plays, from the first epoch to the last |", "|---|---|"]
    lines += [f"| {name} | {', '.join(played)} |" for name, played in result["found"].items()]
    return "\n".join(lines)


def _regret(form: dict[str, Any], best: str) -> str:
    told = f"{_signed(form['regret']['agent'])}, {_signed(form['regret'][best])}"
    ratio = form["ratio"]
    if not ratio:
        return f"{told} | "
    low, high = ratio["ci95"]
    return f"{told} | {ratio['mean']:.2f} [{low:.2f}, {high:.2f}]"


def _signed(told: dict[str, Any]) -> str:
    low, high = (100 * bound for bound in told["ci95"])
    return f"{100 * told['mean']:+.2f} [{low:+.2f}, {high:+.2f}]"


def main() -> None:
    """Run what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmark"))
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    first = options.seeds[0]
    results = {seed: run(seed, options.runs, seed == first) for seed in options.seeds}
    seeds = " ".join(map(str, options.seeds))
    page = "\n\n".join(
        [
            "# Learned beats picked: digits_full",
            about(results[first]),
            f"## Everybody, agent of seed {first}",
            everybody(results[first]),
            "## Every seed of the agent",
            regrets(results),
            "Regret is what the best fixed choice of each task has more; below zero the agent "
            "does better than any fixed choice. In hindsight the oracle also picks luck.",
            "## What the controls found",
            found(results[first]),
            f"Command: `python -m benchmarks.digits_full --seeds {seeds} --out "
            "results/digits_full.md`. " + provenance([run_path(options.runs, s) for s in results]),
        ]
    )
    print(page)
    if options.out:
        write_text(options.out, page + "\n")


if __name__ == "__main__":
    main()
