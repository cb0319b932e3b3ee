"""How hard the drawn sets are: the table of docs/image_sets.md, a row for each set.

    python -m results.scripts.image_sets letters/easy textures/hard --sizes 100 300 1000 --seeds 3
"""

from __future__ import annotations

import argparse

import numpy as np

from automix.data.tasks import FamilySettings, TaskFamily, TaskSpec
from automix.mixing.actions import PLAIN
from automix.training.evaluation import test_scores
from automix.training.population import Population
from automix.training.settings import TrainerSettings


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("sets", nargs="+")
    parser.add_argument("--sizes", nargs="+", type=int, default=[100, 300, 1000])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--model", default="small_cnn_w8")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch", type=int, default=50)
    asked = parser.parse_args()
    trainer = TrainerSettings(model=asked.model, epochs=asked.epochs, batch_size=asked.batch)
    for name in asked.sets:
        family = TaskFamily(FamilySettings(dataset=name, val_size=500))
        cells = []
        for size in asked.sizes:
            specs = [TaskSpec(train_size=size, label_noise=0.0, seed=s) for s in range(asked.seeds)]
            population = Population([family.task(spec) for spec in specs], trainer)
            population.reset(range(asked.seeds))
            seen = population.run_epoch([PLAIN] * asked.seeds, asked.epochs)
            test = 100 * np.array([scores.accuracy for scores in test_scores(population)])
            train = 100 * np.mean([metrics.train_accuracy for metrics in seen])
            cells.append(f"{train:.0f} / {test.mean():.1f} ({np.ptp(test):.1f})")
        print(f"| `{name}` | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
