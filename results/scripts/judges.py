"""Which reward tells schedules apart, as the page results/judges.md.

    python -m benchmarks.judges --out results/judges.md

Seven fixed choices on twelve kinds of digits task, several trainings of each. A judge looks at the
validation split after the last epoch; how well it judges is measured on the test split, which no
policy learns from here.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import torch

from agents.config import load_settings
from agents.rundir import describe_machine
from automix.data.tasks import TaskSpec
from automix.evaluation import test_scores
from automix.files import write_text
from automix.metrics import EpochMetrics
from benchmarks.digits import told_of
from envs.codec import ActionCodec
from envs.game import ImageWorld

EXPERIMENT = "experiment=digits_full"
SEED = 700_000

JUDGES: dict[str, Callable[[EpochMetrics], float]] = {
    "accuracy": lambda record: record.val_accuracy,
    "loss": lambda record: -record.val_loss,
    "calibrated": lambda record: float(np.exp(-(record.val_calibrated_loss or 0.0))),
}


def played(trainings: int, images: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the judges' verdicts and the test accuracies, (kinds, trainings, choices) each."""
    settings = load_settings([EXPERIMENT, f"task.val_size={images}"])
    world = ImageWorld(settings.task, settings.trainer)
    menu = ActionCodec(settings.env.actions).choices
    kinds = list(product(settings.task.train_sizes, settings.task.label_noise))
    verdicts = {name: np.zeros((len(kinds), trainings, len(menu))) for name in JUDGES}
    tests = np.zeros((len(kinds), trainings, len(menu)))
    for (kind, (size, noise)), training in product(enumerate(kinds), range(trainings)):
        spec = TaskSpec(train_size=size, label_noise=noise, seed=SEED + training)
        population = world.start([spec] * len(menu))
        population.reset([training] * len(menu))
        records = population.run_epoch(menu, world.budget)
        for name, judge in JUDGES.items():
            verdicts[name][kind, training] = [judge(record) for record in records]
        tests[kind, training] = [score.accuracy for score in test_scores(population)]
    return verdicts, tests


def table(verdicts: dict[str, np.ndarray], tests: np.ndarray) -> str:
    """Return a row for each judge."""
    lines = [
        "| judge | variance between choices / within one | correlation with their worth "
        "| lost by picking after one training, points |",
        "|---|---|---|---|",
    ]
    worth = _centred(tests).mean(1)
    for name, given in verdicts.items():
        given = _centred(given)
        between = given.mean(1).var() / (given - given.mean(1, keepdims=True)).var()
        everywhere = np.broadcast_to(worth[:, None], given.shape)
        together = np.corrcoef(given.ravel(), everywhere.ravel())[0, 1]
        picked = np.take_along_axis(everywhere, given.argmax(2)[..., None], 2)[..., 0]
        lost = 100 * (worth.max(1)[:, None] - picked).mean()
        lines.append(f"| {name} | {between:.2f} | {together:.3f} | {lost:.2f} |")
    return "\n".join(lines)


def _centred(values: np.ndarray) -> np.ndarray:
    """Take out how hard a task is: what a group's baseline does."""
    return np.asarray(values - values.mean(2, keepdims=True))


def main() -> None:
    """Play and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trainings", type=int, default=10)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    torch.set_num_threads(1)
    verdicts, tests = played(options.trainings, options.images)
    kinds, trainings, choices = tests.shape
    page = "\n\n".join(
        [
            "# Which reward tells schedules apart",
            f"{choices} fixed choices on {kinds} kinds of task of `{EXPERIMENT}`, {trainings} "
            f"trainings of each, judged on {options.images} validation images. The worth of a "
            "choice is its mean test accuracy on a kind of task; everything is relative to the "
            "mean of the choices on the same task and weights.",
            table(verdicts, tests),
            "`calibrated` is `exp(-loss)` at each net's best temperature: "
            "`env.reward.name=final_calibrated`.",
            f"Command: `python -m benchmarks.judges --trainings {trainings} --images "
            f"{options.images} --out results/judges.md`. {told_of([describe_machine()])}",
        ]
    )
    print(page)
    if options.out:
        write_text(options.out, page + "\n")


if __name__ == "__main__":
    main()
