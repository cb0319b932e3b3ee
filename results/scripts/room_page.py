"""What a log of ``results.scripts.room`` says, as the page results/room.md.

    python -m results.scripts.room_page --log runs/room --out results/room.md

Three questions. How far do fixed choices differ over the worlds, and what would the best choice of
each task be worth? What of it can be told from what is known when the training starts, or from what
its first 20 or 40 % show? And does that carry over to image sets that were not learned from?
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from results.scripts.pages import interval, machine, write_page

SIGNS = (
    *("train_loss", "val_loss", "skill", "train_skill", "accuracy_gap", "loss_gap"),
    *("train_loss_change", "val_loss_change", "val_accuracy_change", "val_confidence", "lr_share"),
)
"""Single numbers of a training that has begun, which mean the same for any set and net."""

MARGINS = (0.0, 1.0)
"""Points that a mix must be ahead of ``none`` by prediction to be chosen."""

REGRESSIONS: Mapping[str, Callable[[], Any]] = {
    "trees": lambda: ExtraTreesRegressor(300, min_samples_leaf=3, random_state=0),
    "a plane": lambda: make_pipeline(StandardScaler(), RidgeCV(np.logspace(-1, 4, 11))),
}


@dataclass(frozen=True)
class Log:
    """Fixed choices on n drawn tasks.

    Attributes:
        choices: k names, ``none`` first.
        sets: (n,) the family of image sets: what is left out together.
        noisy: (n,) bool: a tenth of the labels or more are wrong.
        entries: (n,) the entry of the suite.
        test: (n, k) test accuracy in points.
        val: (n, k) calibrated validation accuracy.
        random: (n,) mean test accuracy of choices drawn for each decision.
        facts: (n, f) what is known at the start.
        signs: Share of the budget -> (n, s), of a training without mixing.
    """

    choices: Sequence[str]
    sets: np.ndarray
    noisy: np.ndarray
    entries: np.ndarray
    test: np.ndarray
    val: np.ndarray
    random: np.ndarray
    facts: np.ndarray
    signs: Mapping[float, np.ndarray]

    @property
    def gain(self) -> np.ndarray:
        """Test accuracy over that of ``none``, (n, k) points."""
        return self.test - self.test[:, :1]


def read(folder: Path) -> Log:
    """Read the lines of a log, whoever wrote them."""
    paths = sorted(folder.glob("log-*.jsonl"))
    rows = [json.loads(line) for path in paths for line in path.open(encoding="utf-8")]
    rows.sort(key=lambda row: row["number"])
    k = len(rows[0]["choices"])
    entries = np.array([row["spec"]["world"].split()[0] for row in rows])
    seen = np.array([row["observations"] for row in rows])[:, 0]  # of the member without mixing
    columns = [rows[0]["columns"][name] for name in SIGNS]
    steps = seen.shape[1] - 1
    return Log(
        choices=rows[0]["choices"],
        sets=np.array([entry.split("_")[0] for entry in entries]),
        noisy=np.array([row["spec"]["label_noise"] >= 0.1 for row in rows]),
        entries=entries,
        test=100 * np.array([row["test_accuracy"][:k] for row in rows]),
        val=np.array([row["val_calibrated"][:k] for row in rows]),
        random=100 * np.array([np.mean(row["test_accuracy"][slice(*row["drawn"])]) for row in rows]),
        facts=np.array([_facts(row["facts"]) for row in rows]),
        signs={step / steps: seen[:, step, columns] for step in (1, 2)},
    )


def _facts(facts: Mapping[str, Any]) -> list[float]:
    batches = -(-facts["train_size"] // facts["batch_size"])
    return [
        np.log(facts["budget"]),
        np.log(facts["budget"] * batches),
        np.log(facts["train_size"] / facts["num_classes"]),
        float(facts["augmented"]),
    ]


def told_by(log: Log, known: np.ndarray, regression: str, margin: float) -> np.ndarray:
    """Choose for each task by a regression on the tasks of all other sets; return the gains (n,).

    Args:
        log: The trainings.
        known: (n, f) what the regression sees.
        regression: A name in ``REGRESSIONS``.
        margin: Points by which a mix must be predicted to beat ``none``.
    """
    gained = np.zeros(len(known))
    for name in np.unique(log.sets):
        here = log.sets == name
        fitted = REGRESSIONS[regression]().fit(known[~here], log.gain[~here])
        predicted = fitted.predict(known[here])
        predicted[:, 0] = margin
        chosen = predicted.argmax(1)
        gained[here] = np.take_along_axis(log.gain[here], chosen[:, None], 1)[:, 0]
    return gained


def best_elsewhere(log: Log) -> np.ndarray:
    """Return the gains (n,) of the fixed choice that is best on the tasks of all other sets."""
    gained = np.zeros(len(log.sets))
    for name in np.unique(log.sets):
        here = log.sets == name
        gained[here] = log.gain[here, log.gain[~here].mean(0).argmax()]
    return gained


def page(log: Log, command: str) -> str:
    """Return the page."""
    forms = {
        "sizes and steps, known at the start": log.facts,
        "the same, and signs at 20 %": np.hstack([log.facts, log.signs[0.2]]),
        "the same, and signs at 40 %": np.hstack([log.facts, log.signs[0.4]]),
        "signs at 40 % alone": log.signs[0.4],
    }
    tried = log.gain[np.arange(len(log.val)), log.val.argmax(1)]
    rows = [
        ("best choice of each task, in hindsight (so by luck too)", log.gain.max(1)),
        ("best by validation: all choices tried on the task", tried),
        ("one choice for all: the best on the other sets", best_elsewhere(log)),
        ("a choice drawn for each decision", log.random - log.test[:, 0]),
    ]
    rows += [
        (
            f"{name}, by {regression}" + (f", if {margin:g} ahead" if margin else ""),
            told_by(log, known, regression, margin),
        )
        for name, known in forms.items()
        for regression in REGRESSIONS
        for margin in MARGINS
    ]
    lines = [
        *("| chosen by | minus none | worst entry |", "|---|---|---|"),
        *(f"| {name} | {interval(gained)} | {_worst(log, gained)} |" for name, gained in rows),
    ]
    return "\n".join(
        [
            *("# Room: what a choice is worth over the embedded worlds", ""),
            f"{len(log.sets)} drawn tasks, one training of each choice, paired in weights, batches "
            f"and mixing draws. Test accuracy in points; intervals over tasks (95 %, bootstrap). "
            f"{machine()}.",
            *("", "```", command, "```", ""),
            *("## By entry of the suite", "", *_by_entry(log), ""),
            *("## By what a training without mixing shows at 40 % of its budget", ""),
            *_by_fit(log),
            "",
            *("## What could be had, and what can be told", "", *lines, ""),
            "Regressions (extra trees; a plane, which is ridge regression on observations scaled to a "
            "deviation of 1) are fitted to the gains of all choices on the tasks of the "
            "other families of sets (digits, letters, textures, patches) and asked about the one "
            "left out. Signs are of a training without mixing; what is gained is that of the "
            "choice played from the start, so that those at 20 and 40 % say what can be told by "
            "then, not what a policy earns that begins without mixing.",
            "",
        ]
    )


def _by_entry(log: Log) -> list[str]:
    return _table(log, "entry", [(e, log.entries == e) for e in np.unique(log.entries)])


def _table(log: Log, of: str, rows: Sequence[tuple[str, np.ndarray]]) -> list[str]:
    """Return the mean gains of each choice on some parts of the tasks."""
    names = [*log.choices[1:], "drawn"]
    gains = np.column_stack([log.gain[:, 1:], log.random - log.test[:, 0]])
    head = " | ".join([of, "tasks", "none", *names])
    lines = [f"| {head} |", "|---" * (len(names) + 3) + "|"]
    for name, here in rows:
        means = " | ".join(f"{value:+.1f}" for value in gains[here].mean(0))
        lines.append(f"| {name} | {here.sum()} | {log.test[here, 0].mean():.1f} | {means} |")
    return lines


def _by_fit(log: Log) -> list[str]:
    """Return a table by accuracy on the clean probe: how far a training has memorised."""
    fit = 100 * log.signs[0.4][:, SIGNS.index("train_skill")]
    parts = [("below 75 %", fit < 75)]
    parts += [
        (
            f"75 % and more, labels {'wrong' if noisy else 'right'}",
            (fit >= 75) & (log.noisy == noisy),
        )
        for noisy in (False, True)
    ]
    return _table(log, "accuracy above chance on training images", parts)


def _worst(log: Log, gained: np.ndarray) -> str:
    entries = {entry: gained[log.entries == entry].mean() for entry in np.unique(log.entries)}
    worst = min(entries, key=lambda entry: entries[entry])
    return f"{entries[worst]:+.1f} ({worst})"


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    command = (args.log / "command.txt").read_text().strip()
    again = "python -m results.scripts.room_page --log runs/room --out results/room.md"
    write_page(args.out, page(read(args.log), f"{command}\n{again}"))


if __name__ == "__main__":
    main()
