"""Learn on many worlds, play where nobody has been, and say what came of it: results/worlds.md.

    python -m results.scripts.worlds --out runs/worlds --page results/worlds.md

Every step is a run directory under ``--out``: what is finished is not done again, what was
interrupted goes on. ``--only learn-0 play-0`` does some of the steps; the page is made of those
that are there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from automix.agents.config.compose import load_settings
from automix.agents.config.settings import RunSettings
from automix.agents.contest.by_world import world_rows
from automix.agents.contest.summary import cross_fitted
from automix.agents.jobs.run import EXPORT, resume, run_compare, run_train
from automix.agents.runs.rundir import STATUS
from results.scripts.pages import interval, machine, write_page

SEEDS = (0, 1, 2)
"""Of the agent. The first is the one that is judged and that comes along."""

TASKS, TRAININGS = 140, 3
"""Five tasks of each of the 27 worlds and a few more, three training runs of each."""

COST_FREE = "none,random,mix_then_none,none_then_mix,by_size,fixed"

STEPS: Mapping[str, Sequence[str]] = {
    **{f"learn-{seed}": ["experiment=worlds", f"seed={seed}"] for seed in SEEDS},
    "play-0": [f"compare.contestants=[agent,{COST_FREE}]"],
    **{f"play-{seed}": ["compare.contestants=[agent,none]"] for seed in SEEDS[1:]},
    "searched": ["compare.contestants=[none,grid,selector,selector_probe]"],
    "settled": ["compare.contestants=[agent,none,try_on_task,tuned_none,tuned_agent]"],
    "optuna": ["compare.contestants=[none,optuna]"],
}
"""What each run is told beyond what all plays have in common."""

GROUPS = {
    "set": "(a) another set: Fashion-MNIST",
    "net": "(b) other nets: a timm ResNet, a small ViT",
    "budget": "(c) budgets of 150 epochs; learned on 5 to 50",
    "all": "(d) all three at once",
}
"""By the first part of an entry's name in ``configs/worlds/away.yaml``."""


def settings_of(step: str, out: Path) -> list[str]:
    """Return the overrides of a step."""
    if step.startswith("learn"):
        return list(STEPS[step])
    learned = out / f"learn-{step[-1] if step.startswith('play') else SEEDS[0]}" / EXPORT
    return [
        "worlds=away",
        f"policy={learned}",
        f"compare.draws={TASKS}",
        f"compare.seeds={TRAININGS}",
        "compare.learned_on=embedded",
        *STEPS[step],
    ]


def do(step: str, out: Path) -> None:
    """Run a step, or go on with it."""
    path = out / step
    if (path / STATUS).is_file():
        resume(path)
        return
    settings = load_settings(settings_of(step, out))
    (run_train if step.startswith("learn") else run_compare)(settings, path)


@dataclass(frozen=True)
class Played:
    """All that was played, paired.

    Attributes:
        worlds: (tasks,) the world of each task.
        scores: Contestant -> (tasks, trainings) test accuracy in points; of the later seeds of the
            agent as ``agent 1`` and so on.
        mixing: Seed of the agent -> (tasks, decisions) the share of its decisions that mix.
    """

    worlds: np.ndarray
    scores: Mapping[str, np.ndarray]
    mixing: Mapping[int, np.ndarray]

    def group(self, name: str) -> np.ndarray:
        """Return which tasks are of a group, (tasks,) bool; all of them for ``""``."""
        return np.array([world.split("_")[0] == name or not name for world in self.worlds])


def read(out: Path) -> Played:
    """Read the plays that are finished; tasks are paired by their seeds."""
    worlds: dict[int, str] = {}
    found: dict[str, dict[int, dict[int, float]]] = {}
    mixing: dict[int, dict[int, list[list[bool]]]] = {}
    for step in STEPS:
        for trial in _trials(out / step) if not step.startswith("learn") else ():
            seed, own = trial["seed"], trial["contestant"]
            worlds[seed] = trial["task"]
            if own == "agent" and step.startswith("play-"):
                number = int(step[-1])
                own = f"agent {number}" if number else own
                starts = [epoch for epoch in trial["measured"] if epoch < len(trial["mixes"])]
                mixes = [trial["mixes"][epoch] != "none" for epoch in starts]
                mixing.setdefault(number, {}).setdefault(seed, []).append(mixes)
            elif own in found and seed in found[own] and trial["training"] in found[own][seed]:
                continue  # played by an earlier step already
            found.setdefault(own, {}).setdefault(seed, {})[trial["training"]] = (
                100 * trial["test_accuracy"]
            )
    seeds = [seed for seed in worlds if all(seed in of for of in found.values())]
    return Played(
        worlds=np.array([worlds[seed] for seed in seeds]),
        scores={
            name: np.array([[of[seed][k] for k in sorted(of[seed])] for seed in seeds])
            for name, of in found.items()
        },
        mixing={n: np.array([np.mean(of[seed], 0) for seed in seeds]) for n, of in mixing.items()},
    )


def _trials(path: Path) -> Iterator[dict[str, Any]]:
    """Yield what a play has brought; of the first one also the worlds that it is through with."""
    file, begun = path / "trials.jsonl", path / "checkpoints" / "finished.jsonl"
    if file.is_file():
        yield from map(json.loads, file.open(encoding="utf-8"))
    elif begun.is_file() and path.name == "play-0":
        lines = map(json.loads, begun.open(encoding="utf-8"))
        pieces = {line["name"]: line["result"] for line in lines}
        names = map("comparing/{}".format, range(TASKS))  # world by world
        done = [pieces[name] for name in takewhile(pieces.__contains__, names)]
        under_way = done[-1][0]["task"] if done else ""
        for trials in done:
            yield from (trial for trial in trials if trial["task"] != under_way)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Return the lines of a table."""
    lines = [f"| {' | '.join(map(str, row))} |" for row in (head, *rows)]
    return [lines[0], "|---" * len(head) + "|", *lines[1:], ""]


def groups_of(played: Played) -> dict[str, np.ndarray]:
    """Return the columns of most tables: the groups that were played, and all tasks."""
    groups = {title: played.group(name) for name, title in GROUPS.items()}
    return {title: own for title, own in groups.items() if own.any()} | {"pooled": played.group("")}


def differences(played: Played) -> list[str]:
    """Compare the agent with everybody, group by group."""
    groups, scores = groups_of(played), played.scores
    pairs = [("agent", name) for name in scores if not name.startswith(("agent", "tuned_agent"))]
    if "tuned_agent" in scores:
        pairs[pairs.index(("agent", "tuned_none"))] = ("tuned_agent", "tuned_none")
    rows = [
        [f"{a} minus {b}", *(interval((scores[a] - scores[b])[of]) for of in groups.values())]
        for a, b in pairs
    ]
    return table(["", *groups], rows)


def seeds_table(played: Played) -> list[str]:
    """Compare the seeds of the agent."""
    groups, rows = groups_of(played), []
    for seed in SEEDS:
        own = played.scores.get(f"agent {seed}" if seed else "agent")
        if own is not None:
            gains = own - played.scores["none"]
            rows.append([f"seed {seed}", *(interval(gains[of]) for of in groups.values())])
    return table(["agent minus none", *groups], rows)


def regrets(played: Played, best: str) -> list[str]:
    """Compare with each task's own best fixed choice, picked on its other training runs."""
    groups, scores = groups_of(played), played.scores
    fixed = [name for name in scores if name == "none" or name.startswith("fixed:")]
    oracle = cross_fitted(np.stack([scores[name] for name in fixed]))
    rows = [
        [name, *(interval((oracle - scores[name])[of]) for of in groups.values())]
        for name in dict.fromkeys(["agent", best, "none", "none_then_mix", "selector_probe"])
        if name in scores
    ]
    return table(["regret", *groups], rows)


def cells(played: Played, settings: RunSettings) -> list[str]:
    """Show each world: levels, the agent minus none, what it chose, and whether it does harm."""
    tables = {
        world: {name: own[played.worlds == world] / 100 for name, own in played.scores.items()}
        for world in dict.fromkeys(played.worlds)
    }
    rows = []
    for row in world_rows(tables, None, settings):
        world = row["world"]
        mixed = [own.mean() for name, own in tables[world].items() if name.startswith("fixed:")]
        shares = played.mixing[0][played.worlds == world].mean(0)
        mean, (low, high) = row["agent_minus_none"]["mean"], row["agent_minus_none"]["ci95"]
        rows.append(
            [
                *(world, row["n"], f"{100 * row['none']:.1f}", f"{100 * max(mixed):.1f}"),
                f"{100 * mean:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]",
                " ".join(f"{share:.1f}" for share in shares),
                "**yes**" if row["harmed"] else "",
            ]
        )
    head = ["world", "n", "none", "best mix here", "agent minus none", "share that mixes", "harm"]
    return table(head, rows)


def best_of_suite(out: Path) -> tuple[str, str]:
    """Return the suite's best fixed choice, and where that is known from."""
    grid = out / "searched" / "result.json"
    if not grid.is_file():
        return "none", "by room.md; `grid` has not been searched yet"
    (found, *_) = json.loads(grid.read_text(encoding="utf-8"))["found"]["grid"]
    return (found if found == "none" else f"fixed:{found}"), "by `grid`"


def page(played: Played, out: Path) -> str:
    """Return the page, without what a person reads from it."""
    best, source = best_of_suite(out)
    settings = load_settings(settings_of("play-0", out))
    ended = [step for step in STEPS if (out / step / "result.json").is_file()]
    runs = [step for step in STEPS if step in ended or step == "play-0"]
    commands = [f"{step}: {' '.join(settings_of(step, Path('runs/worlds')))}" for step in runs]
    return "\n".join(
        [
            *("# Worlds: what was learned on the embedded sets, played elsewhere", ""),
            f"{len(played.worlds)} drawn tasks x {played.scores['none'].shape[1]} training runs in "
            f"{len(set(played.worlds))} worlds of which none was learned on, paired in images, "
            "weights and batches. Test accuracy in points, 95 % intervals over tasks (bootstrap). "
            f"{machine()}. The suite's best fixed choice is `{best}` ({source}).",
            "",
            *("```", "python -m results.scripts.worlds --out runs/worlds --page results/worlds.md"),
            *(*commands, "```", ""),
            *("## The agent and everybody else", "", *differences(played)),
            *("## Seeds of the agent", "", *seeds_table(played)),
            *("## Regret to each task's own best fixed choice, cross-fitted", ""),
            *regrets(played, best),
            *("## World by world", "", *cells(played, settings)),
            "",
        ]
    )


def main() -> None:
    """Do what is left to do, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--page", type=Path)
    parser.add_argument("--only", nargs="*", choices=STEPS, default=list(STEPS))
    args = parser.parse_args()
    for step in args.only:
        do(step, args.out)
    if args.page:
        write_page(args.page, page(read(args.out), args.out))


if __name__ == "__main__":
    main()
