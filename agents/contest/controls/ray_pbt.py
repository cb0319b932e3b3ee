"""Population Based Training with Ray Tune, its schedule replayed."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from automix.agents.contest.controls import (
    CONTROLS,
    ControlInfo,
    SearchResult,
    result_of,
    trainings_within,
)
from automix.agents.contest.controls.evaluator import SearchEvaluator, Start
from automix.agents.contest.controls.pbt_member import PBTMember
from automix.agents.parallel.machine import keep_memory, usable_cores
from automix.agents.parallel.ray_session import ray_session
from automix.agents.parallel.ray_tuning import in_order, quiet_tune, seeded
from automix.core.errors import AutomixError
from automix.core.seeding import borrowed_global_rng
from automix.mixing.actions import MixAction

TRIALS = 16
"""The population; more where there are epochs for more tasks than a trial may hold."""
TASKS = 128
"""The most that a trial trains at once: each of its steps is some overhead of Ray's, and its
classifiers stay in memory."""
DECISIONS = 5
"""Times in a training that the weak may copy the strong, about."""
METRIC = "val_accuracy"


@CONTROLS.register(
    "pbt", ControlInfo(least=lambda choices: TRIALS, packages=("ray",), one_budget=True)
)
def pbt(evaluator: SearchEvaluator, epochs: int) -> SearchResult:
    """Train a population whose weak copy the strong and change action; replay the best's history.

    A trial trains one classifier on each of several tasks, the same for all trials, all under the
    trial's action, and is judged by their mean validation accuracy. Five times in a training run
    the worst quarter takes over weights and history of the best and moves to a neighbouring action,
    or to any other. Jaderberg et al., "Population Based Training of Neural Networks" (2017), as Ho
    et al., "Population Based Augmentation" (2019), use it for augmentation. The algorithm is Ray
    Tune's.

    What is left of the epochs is less than one more task for all trials, or one more trial.
    """
    trainings = trainings_within("pbt", evaluator, epochs)
    tasks = min(trainings // TRIALS, TASKS)
    played = _best_history(evaluator, evaluator.draw(tasks), trainings // tasks)
    return result_of(evaluator, [MixAction.parse(action) for action in played])


def _best_history(evaluator: SearchEvaluator, starts: Sequence[Start], trials: int) -> list[str]:
    """Return the actions of the winner of one population, epoch by epoch."""
    actors = min(len(evaluator.workers), usable_cores())
    gpus = 1 if evaluator.shares.device.startswith("cuda") else 0
    for worker in evaluator.workers:
        # They would only wait, and actors among them hold the places that the trials need.
        worker.close()
    # Ray shuffles its work with the global generators: lend it private ones.
    with (
        ray_session(evaluator.shares.ray, actors, gpus),
        tempfile.TemporaryDirectory(prefix="automix-", ignore_cleanup_errors=True) as folder,
        borrowed_global_rng(evaluator.seed),
    ):
        results = _population(evaluator, starts, trials, {"cpu": 1, "gpu": gpus / actors}, folder)
    if results.num_errors:
        # Of a traceback from another process, the last line.
        cause = str(results.errors[0]).strip().splitlines()[-1]
        raise AutomixError(f"a trial of population based training failed: {cause}")
    best: Any = results.get_best_result()
    return list(best.metrics["played"])


def _population(
    evaluator: SearchEvaluator,
    starts: Sequence[Start],
    trials: int,
    needs: Mapping[str, float],
    folder: str,
) -> Any:
    """Let Ray Tune train a population; return its results."""
    from ray import tune

    quiet_tune()
    interval = math.ceil(evaluator.budget / DECISIONS)
    choices = list(range(len(evaluator.actions)))
    return tune.Tuner(
        tune.with_resources(_trainable(evaluator, starts, interval), dict(needs)),
        param_space={"action": tune.choice(choices)},
        tune_config=tune.TuneConfig(
            metric=METRIC,
            mode="max",
            num_samples=trials,
            # Equally many trials start with each choice.
            search_alg=in_order(
                {"action": choices[trial % len(choices)]} for trial in range(trials)
            ),
            scheduler=_scheduler(choices, evaluator.seed),
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            storage_path=folder,
            stop={"training_iteration": math.ceil(evaluator.budget / interval)},
            callbacks=[_counter(evaluator)],
            # Copying reads the last but one at most; older ones only fill the disk.
            checkpoint_config=tune.CheckpointConfig(num_to_keep=4),
            failure_config=tune.FailureConfig(fail_fast=True),
            verbose=0,
        ),
    ).fit()


def _scheduler(choices: Sequence[int], seed: int) -> Any:
    """Return Ray's PBT; all trials wait for each other, so that few processes can hold many."""
    from ray.tune.schedulers import PopulationBasedTraining

    return seeded(
        PopulationBasedTraining,
        seed,
        time_attr="training_iteration",
        perturbation_interval=1,
        hyperparam_mutations={"action": list(choices)},
        quantile_fraction=0.25,
        resample_probability=0.25,
        log_config=False,
        synch=True,
    )


def _trainable(evaluator: SearchEvaluator, starts: Sequence[Start], interval: int) -> type:
    """Return the class of a trial; Ray sends it to its processes by value."""
    from ray import tune

    worlds, actions, budget = evaluator.worlds, evaluator.actions, evaluator.budget

    class PBTTrial(tune.Trainable):
        """A member in Ray's hands."""

        def setup(self, config: Mapping[str, Any]) -> None:
            import torch

            keep_memory()
            torch.set_num_threads(1)
            self._member = PBTMember(worlds, starts)

        def reset_config(self, new_config: Mapping[str, Any]) -> bool:
            self._member.begin()
            return True

        def step(self) -> dict[str, Any]:
            epochs = min(interval, budget - len(self._member.played))
            accuracy, passes = self._member.train(actions[self.config["action"]], epochs)
            return {
                METRIC: accuracy,
                "epochs": epochs * len(starts),
                "passes": passes,
                "played": list(self._member.played),
            }

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            self._member.save(Path(checkpoint_dir))

        def load_checkpoint(self, checkpoint: Any) -> None:
            self._member.load(Path(checkpoint))

    return PBTTrial


def _counter(evaluator: SearchEvaluator) -> Any:
    """Return a callback that counts what trials spend."""
    from ray import tune

    class Counter(tune.Callback):
        """Adds every result to what the evaluator counts."""

        def on_trial_result(
            self, iteration: int, trials: Any, trial: Any, result: Mapping[str, Any], **info: Any
        ) -> None:
            evaluator.count(result["epochs"], result["passes"])

        def __reduce__(self) -> tuple[type, tuple[()]]:
            # Ray writes it to disk and never reads it: the evaluator stays out of it.
            return tune.Callback, ()

    return Counter()
