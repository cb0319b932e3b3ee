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

OTHERS = "random,mix_then_none,none_then_mix,by_size,fixed"
"""Opponents that cost nothing to learn. They play once for all seeds of the agent. ``none`` plays
beside each: how many train side by side moves last digits, and it shows how far that goes."""

AWAY = ("worlds=away", "compare.draws=125", "compare.seeds=3", "compare.learned_on=embedded")
"""Five tasks of each of the 24 worlds and a few more, three training runs of each."""

FEW = (*AWAY, "compare.draws=48", "compare.seeds=1")
"""The first two tasks of each world, for opponents that train many classifiers a task."""

FAR = ("worlds=far", "compare.draws=20", "compare.seeds=2", "compare.learned_on=embedded")

HOME = {
    "fashion": ["task=fashion_mnist", "task.train_sizes=[60,120]", "task.val_size=300"],
    "digits": ["task=digits", "task.train_sizes=[50,100,200]"],
}
"""Somebody's own set, on which learning goes on from the policy, or begins."""

OWN = (
    "experiment=worlds",
    *("worlds=[]", "env.decisions=5", "task.test_size=2000"),
    "task.label_noise=[0.0,0.2,0.4]",
    "trainer.model=small_cnn_w8",
    *("trainer.batch_size=25", "trainer.lr=0.1", "trainer.epochs=30", "trainer.probe_size=100"),
    *("compare.draws=40", "compare.seeds=2", "compare.contestants=[agent,none,fixed]"),
)

STEPS: Mapping[str, Sequence[str]] = {
    "learn-0": ["experiment=worlds"],
    **{
        f"learn-{seed}": ["experiment=worlds", f"seed={seed}", "compare.contestants=[agent,none]"]
        for seed in SEEDS[1:]
    },
    "others": [*AWAY, f"compare.contestants=[none,{OTHERS}]"],
    **{f"play-{seed}": [*AWAY, "compare.contestants=[agent,none]"] for seed in SEEDS},
    "far": [*FAR, "compare.contestants=[agent,none,none_then_mix,random,fixed]"],
    "searched": [*AWAY, "compare.contestants=[none,grid,selector,selector_probe]"],
    "settled": [*FEW, "compare.contestants=[none,try_on_task,tuned_none,tuned_agent]"],
    "optuna": [*AWAY, "compare.contestants=[none,optuna]"],
    **{f"own-{name}": [*OWN, *own, "agent.total_timesteps=5120"] for name, own in HOME.items()},
    **{f"warm-{name}": [*OWN, *own, "agent.total_timesteps=1280"] for name, own in HOME.items()},
}
"""What each run is told beyond the policy; ``warm`` has a quarter of the trainings of ``own``."""

POLICY = {"play": None, "far": 0, "settled": 0, "searched": 0, "optuna": 0, "warm": 0}
"""The seed of the policy that a step is given; of ``play`` its own."""

GROUPS = {
    "set": "(a) another set: Fashion-MNIST",
    "net": "(b) other nets: a timm ResNet, a small ViT",
    "budget": "(c) budgets of 300 epochs; learned on 5 to 100",
    "all": "(d) all three at once",
}
"""By the first part of an entry's name in ``configs/worlds/away.yaml`` and ``far.yaml``."""

POOLED = ("set", "net", "budget")
"""Groups with equally many tasks; (d) has half, and stands by itself."""


def settings_of(step: str, out: Path) -> list[str]:
    """Return the overrides of a step."""
    kind, _, number = step.partition("-")
    if kind not in POLICY:
        return list(STEPS[step])
    seed = POLICY[kind] if POLICY[kind] is not None else int(number)
    return [*STEPS[step], f"policy={out / f'learn-{seed}' / EXPORT}"]


def learns(step: str) -> bool:
    """Tell whether a step learns; the others only play."""
    return step.startswith(("learn-", "own-", "warm-"))


def do(step: str, out: Path) -> None:
    """Run a step, or go on with it."""
    path = out / step
    if (path / STATUS).is_file():
        resume(path)
        return
    settings = load_settings(settings_of(step, out))
    (run_train if learns(step) else run_compare)(settings, path)


Task = tuple[str, int]
"""Its suite and its seed."""

BESIDE = "none beside "
"""The training runs of ``none`` that an agent is compared with: of the same play."""

Scores = Mapping[Task, np.ndarray]
"""Task -> (trainings,) test accuracy in points."""


@dataclass(frozen=True)
class Played:
    """All that was played, paired.

    Attributes:
        worlds: Task -> its world.
        scores: Contestant -> its scores, of the tasks that it played; the later seeds of the agent
            are ``agent 1`` and so on.
        mixing: Task -> (decisions,) the share of the first agent's decisions that mix.
    """

    worlds: Mapping[Task, str]
    scores: Mapping[str, Scores]
    mixing: Mapping[Task, np.ndarray]

    def of(self, group: str, names: Sequence[str]) -> list[Task]:
        """Return the tasks of a group that all of these have played; ``""`` is what is pooled."""
        parts = (group,) if group else POOLED
        own = [task for task, world in self.worlds.items() if world.split("_")[0] in parts]
        return [task for task in own if all(task in self.scores[name] for name in names)]

    def minus(self, first: str, second: str, tasks: Sequence[Task]) -> str:
        """Write by how much one contestant is above another on some tasks."""
        pairs = [(self.scores[first][task], self.scores[second][task]) for task in tasks]
        runs = min((len(one) for pair in pairs for one in pair), default=0)
        return interval(np.array([a[:runs] - b[:runs] for a, b in pairs])) if pairs else ""


def read(out: Path) -> Played:
    """Read the plays that are finished; tasks are paired by their seeds."""
    worlds: dict[Task, str] = {}
    found: dict[str, dict[Task, dict[int, float]]] = {}
    mixing: dict[Task, list[list[bool]]] = {}
    for step in STEPS:
        for trial in () if learns(step) else _trials(out / step):
            task = (STEPS[step][0], trial["seed"])
            worlds[task] = trial["task"]
            for name in _names(step, trial["contestant"]):
                runs = found.setdefault(name, {}).setdefault(task, {})
                runs[trial["training"]] = 100 * trial["test_accuracy"]
                if name == "agent":
                    starts = [epoch for epoch in trial["measured"] if epoch < len(trial["mixes"])]
                    mixes = [trial["mixes"][epoch] != "none" for epoch in starts]
                    mixing.setdefault(task, []).append(mixes)
    return Played(
        worlds=worlds,
        scores={
            name: {task: np.array([runs[k] for k in sorted(runs)]) for task, runs in of.items()}
            for name, of in found.items()
        },
        mixing={task: np.mean(mixes, 0) for task, mixes in mixing.items()},
    )


def _names(step: str, contestant: str) -> Iterator[str]:
    """Yield what a contestant of a step is called: later agents and each agent's own ``none``."""
    seed = step.removeprefix("play-") if step.startswith("play-") else "0"
    agent = f"agent {seed}" if seed != "0" else "agent"
    if contestant == "agent":
        yield agent
    elif contestant != "none":
        yield contestant
    else:
        if step in ("others", "far"):
            yield contestant
        if step.startswith("play-") or step == "far":
            yield BESIDE + agent


def _trials(path: Path) -> Iterator[dict[str, Any]]:
    """Yield what a finished play has brought."""
    file = path / "trials.jsonl"
    if file.is_file():
        yield from map(json.loads, file.open(encoding="utf-8"))


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Return the lines of a table."""
    lines = [f"| {' | '.join(map(str, row))} |" for row in (head, *rows)]
    return [lines[0], "|---" * len(head) + "|", *lines[1:], ""]


def groups_of(played: Played) -> dict[str, str]:
    """Return the columns of most tables, title -> group: those that were played, and the pool."""
    titles = {title: name for name, title in GROUPS.items() if played.of(name, ["agent"])}
    return titles | {"pooled, (a) to (c)": ""}


def differences(played: Played) -> list[str]:
    """Compare the agent with everybody, group by group."""
    groups, rows = groups_of(played), []
    for name in played.scores:
        if name.startswith(("agent", "tuned_agent", BESIDE)):
            continue
        own = "tuned_agent" if name == "tuned_none" else "agent"
        other = BESIDE + own if name == "none" else name
        tasks = [played.of(group, [own, other]) for group in groups.values()]
        cells = [played.minus(own, other, of) for of in tasks]
        rows.append([f"{own} minus {name}", len(played.of("", [own, other])), *cells])
    return table(["", "tasks pooled", *groups], rows)


def seeds_table(played: Played) -> list[str]:
    """Compare the seeds of the agent with the opponents that cost nothing."""
    groups, rows = groups_of(played), []
    for against in ("none", "none_then_mix", "random"):
        for seed in SEEDS:
            own = f"agent {seed}" if seed else "agent"
            if own in played.scores:
                other = BESIDE + own if against == "none" else against
                tasks = [played.of(group, [own, other]) for group in groups.values()]
                cells = [played.minus(own, other, of) for of in tasks]
                rows.append([f"seed {seed} minus {against}", *cells])
    return table(["", *groups], rows)


def regrets(played: Played, best: str) -> list[str]:
    """Compare with each task's own best fixed choice, picked on its other training runs."""
    groups, scores = groups_of(played), played.scores
    fixed = [name for name in scores if name == "none" or name.startswith("fixed:")]
    rows = []
    for name in dict.fromkeys(["agent", best, "none", "none_then_mix", "selector_probe"]):
        if name not in scores:
            continue
        cells = []
        for group in groups.values():
            tasks = played.of(group, [name, *fixed])
            oracle = cross_fitted(np.array([[scores[one][t] for t in tasks] for one in fixed]))
            cells.append(interval(oracle - np.array([scores[name][t] for t in tasks])))
        rows.append([name, *cells])
    return table(["regret", *groups], rows)


def cells(played: Played, settings: RunSettings) -> list[str]:
    """Show each world: levels, the agent minus none, what it chose, and whether it does harm."""
    fixed = [name for name in played.scores if name.startswith("fixed:")]
    beside = BESIDE + "agent"
    names = ["agent", beside, *fixed]
    tasks = [task for group in GROUPS for task in played.of(group, names)]
    worlds = {
        world: [task for task in tasks if played.worlds[task] == world]
        for world in played.worlds.values()
    }
    tables = {
        world: {
            name.replace(beside, "none"): np.array([played.scores[name][t] for t in own]) / 100
            for name in names
        }
        for world, own in worlds.items()
        if own
    }
    rows = []
    for row in world_rows(tables, None, settings):
        world = row["world"]
        mixed = [tables[world][name].mean() for name in fixed]
        shares = np.mean([played.mixing[task] for task in worlds[world]], 0)
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


def drift(played: Played) -> str:
    """Say how far two plays of one training run differ."""
    first, second = played.scores["none"], played.scores[BESIDE + "agent"]
    tasks = played.of("", ["none", BESIDE + "agent"])
    gaps = np.concatenate([second[task] - first[task] for task in tasks])
    return (
        f"Opponents play once for all seeds of the agent, beside other contestants than it, and how "
        f"many train side by side moves last digits: of {len(gaps)} training runs of `none` that "
        f"were played twice {100 * (gaps == 0).mean():.0f} % came out the same, and the mean moved "
        f"by {gaps.mean():+.2f}. The agent is compared with the `none` beside it."
    )


def at_home(out: Path) -> list[str]:
    """Compare going on from the policy with beginning, on sets of somebody's own."""
    rows = []
    for name in HOME:
        found = {kind: _home_scores(out / f"{kind}-{name}") for kind in ("own", "warm")}
        if all(found.values()):
            own, warm = found["own"], found["warm"]
            gains = {kind: interval(of["agent"] - of["none"]) for kind, of in found.items()}
            rows.append([name, *gains.values(), interval(warm["agent"] - own["agent"])])
    head = ["set", "from scratch minus none", "from the policy minus none", "second minus first"]
    return ["## Learning on from the policy", "", *table(head, rows)] if rows else []


def _home_scores(path: Path) -> dict[str, np.ndarray]:
    """Return (tasks, trainings) test accuracy in points, by contestant; {} if it is not there."""
    found: dict[str, dict[int, list[float]]] = {}
    for trial in _trials(path):
        own = found.setdefault(trial["contestant"], {})
        own.setdefault(trial["seed"], []).append(100 * trial["test_accuracy"])
    return {name: np.array([*own.values()]) for name, own in found.items()}


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
    ended = [step for step in STEPS if (out / step / "trials.jsonl").is_file()]
    commands = [f"{step}: {' '.join(settings_of(step, Path('runs/worlds')))}" for step in ended]
    tasks = played.of("", ["agent", "none"])
    runs = len(played.scores["none"][tasks[0]])
    return "\n".join(
        [
            *("# Worlds: what was learned on the embedded sets, played elsewhere", ""),
            f"{len(tasks)} drawn tasks x {runs} training runs in "
            f"{len({played.worlds[task] for task in tasks})} worlds of which none was learned on, "
            "paired in images, weights and batches. Test accuracy in points, 95 % intervals over "
            "tasks (bootstrap). "
            f"{machine()}. The suite's best fixed choice is `{best}` ({source}).",
            "",
            *("```", "python -m results.scripts.worlds --out runs/worlds --page results/worlds.md"),
            *(*commands, "```", ""),
            *("## The agent and everybody else", "", drift(played), "", *differences(played)),
            *("## Seeds of the agent", "", *seeds_table(played)),
            *("## Regret to each task's own best fixed choice, cross-fitted", ""),
            *regrets(played, best),
            *at_home(out),
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
