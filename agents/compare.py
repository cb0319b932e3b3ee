"""Play contestants against each other on held-out tasks, and say what the difference is worth.

All contestants meet the same tasks with the same initial weights, batches and mixing draws, so
every difference is paired. The test split is read once, after the last epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from agents.contestants import Contestant, contestants_of
from agents.progress import progress
from agents.settings import RunSettings, held_out_specs
from agents.workers import State, Worker, map_in_order
from automix import stats
from automix.data.tasks import FamilySettings, TaskSpec
from automix.errors import ConfigError, DataError
from automix.evaluation import test_scores
from automix.metrics import EpochMetrics
from automix.policy import MixPolicy
from automix.population import Population
from automix.seeding import derived_seed
from automix.settings import TrainerSettings
from envs.codec import ActionCodec, ActionSettings
from envs.game import EnvSettings, Game, ImageWorld
from envs.observations import Observer
from envs.rewards import RewardSettings

Trial = dict[str, Any]


def compare(
    settings: RunSettings, workers: Sequence[Worker], device: str, policy: MixPolicy | None
) -> list[Trial]:
    """Play every contestant on every held-out task; return one record a trial.

    Raises:
        AutomixError: As ``env_of`` does.
    """
    menu = ActionCodec(settings.env.actions).choices
    contestants = contestants_of(settings.compare.contestants, menu)
    env = env_of(policy, settings)
    specs = [spec for kind in held_out_specs(settings.compare, settings.task) for spec in kind]
    items = [
        (settings.task, settings.trainer, env, device, contestants, policy, spec, settings.env)
        for spec in specs
    ]
    with progress("comparing", len(items)) as tick:
        groups = map_in_order(workers, play_group, items, tick)
    return [trial for group in groups for trial in group]


def play_group(
    state: State,
    task: FamilySettings,
    trainer: TrainerSettings,
    env: EnvSettings,
    device: str,
    contestants: Sequence[Contestant],
    policy: MixPolicy | None,
    spec: TaskSpec,
    offered: EnvSettings,
) -> list[Trial]:
    """Train one classifier per contestant on one task, side by side, and score them."""
    game = Game(_world(task, trainer, device), env, len(contestants))
    menu = ActionCodec(offered.actions).choices
    players = [
        contestant.player(menu, policy, derived_seed(spec.seed, "players", spec.kind))
        for contestant in contestants
    ]
    observations = game.reset(spec, derived_seed(spec.seed, "trial", spec.kind))
    for epoch in range(trainer.epochs):
        due = epoch % env.epochs_per_action == 0
        actions = [p.act(o, due) for p, o in zip(players, observations, strict=True)]
        observations = game.play(actions, epochs=1).observations
    population = game.training
    assert isinstance(population, Population)
    scores = test_scores(population)
    return [
        {
            "contestant": contestant.name,
            "kind": contestant.kind,
            "task": spec.kind,
            "seed": spec.seed,
            "test_accuracy": scores[m].accuracy,
            "test_ece": scores[m].calibration_error,
            **_course(game.histories[m], game.plays[m]),
        }
        for m, contestant in enumerate(contestants)
    ]


def _course(history: Sequence[EpochMetrics], mixes: Sequence[str]) -> dict[str, Any]:
    """Return what a training looked like from the inside."""
    return {
        "val_accuracy": history[-1].val_accuracy,
        "mixes": list(mixes),
        "val_curve": [round(m.val_accuracy, 6) for m in history],
        "partner_share": [round(m.partner_share, 6) for m in history[1:]],
        "forward_passes": sum(m.forward_passes for m in history),
        "backward_passes": sum(m.backward_passes for m in history),
        "diverged": history[-1].diverged,
    }


def summarise(
    trials: Sequence[Trial], settings: RunSettings, epochs_learning: int = 0, passes: int = 0
) -> dict[str, Any]:
    """Turn trials into the table: score and interval of each, and the agent's paired differences.

    Args:
        trials: As ``compare`` returns them.
        settings: Resamples and seed of the bootstrap; epochs of a training.
        epochs_learning: Classifier epochs that the agent's learning cost.
        passes: Forward and backward passes of the same.
    """
    names = list(dict.fromkeys(trial["contestant"] for trial in trials))
    tasks = list(dict.fromkeys(trial["task"] for trial in trials))
    scores = {name: score_table(trials, name, tasks) for name in names}
    rows = [
        _row(name, tasks, scores[name], [t for t in trials if t["contestant"] == name], settings)
        for name in names
    ]
    for row in rows:
        if row["kind"] == "agent":
            row["epochs_spent"] += epochs_learning
            row["passes"] += passes
    fixed = [row for row in rows if row["kind"] == "fixed"]
    return {
        "unit": "test accuracy",
        "tasks": tasks,
        "seeds": sorted({trial["seed"] for trial in trials}),
        "contestants": sorted(rows, key=lambda row: -row["iqm"]),
        "best_fixed": max(fixed, key=lambda row: row["val_accuracy"])["name"] if fixed else None,
        "agent_minus": {
            name: _difference(scores["agent"], scores[name], settings)
            for name in names
            if "agent" in scores and name != "agent"
        },
    }


def score_table(
    trials: Sequence[Trial], name: str, tasks: Sequence[str], key: str = "test_accuracy"
) -> np.ndarray:
    """Return one contestant's scores, (kinds, seeds), in the order of the trials."""
    return np.array(
        [
            [t[key] for t in trials if t["contestant"] == name and t["task"] == task]
            for task in tasks
        ]
    )


def _row(
    name: str,
    tasks: Sequence[str],
    scores: np.ndarray,
    trials: Sequence[Trial],
    settings: RunSettings,
) -> dict[str, Any]:
    interval = _bootstrap(scores, stats.iqm, settings)
    return {
        "name": name,
        "kind": trials[0]["kind"],
        "iqm": interval.value,
        "ci95": interval.bounds,
        "mean": float(scores.mean()),
        "n": int(scores.size),
        "by_task": dict(zip(tasks, scores.mean(1).tolist(), strict=True)),
        "val_accuracy": float(np.mean([t["val_accuracy"] for t in trials])),
        "ece": float(np.mean([t["test_ece"] for t in trials])),
        "diverged": sum(t["diverged"] for t in trials),
        "epochs_spent": int(scores.size) * settings.trainer.epochs,
        "passes": sum(t["forward_passes"] + t["backward_passes"] for t in trials),
    }


def _difference(ours: np.ndarray, theirs: np.ndarray, settings: RunSettings) -> dict[str, Any]:
    interval = _bootstrap(ours - theirs, stats.mean, settings)
    return {
        "mean": interval.value,
        "ci95": interval.bounds,
        "p_improvement": stats.probability_of_improvement(ours, theirs),
    }


def _bootstrap(
    scores: np.ndarray, statistic: stats.Statistic, settings: RunSettings
) -> stats.Interval:
    return stats.stratified_bootstrap(
        scores, statistic, resamples=settings.compare.resamples, seed=settings.seed
    )


def env_of(policy: MixPolicy | None, settings: RunSettings) -> EnvSettings:
    """Return the interface that a policy was learned with, or the one that is offered.

    Raises:
        ConfigError: If ``agent`` is to play and there is no policy.
        DataError: If this version does not know the policy's observations or actions.
    """
    offered = settings.env
    if policy is None:
        if "agent" in settings.compare.contestants:
            raise ConfigError(
                "the contestant 'agent' has no policy",
                "give one with policy=runs/<name>/export, or name others in compare.contestants",
            )
        return replace(offered, reward=RewardSettings())
    form = policy.form
    try:
        actions = ActionSettings(
            methods=form.methods,
            ratios=form.ratios,
            saliency=form.saliency,
            space=form.space,  # type: ignore[arg-type]
        )
        codec = ActionCodec(actions)
        sizes = Observer(form.observations, codec).sizes
    except ConfigError as error:
        raise DataError(f"the policy cannot be asked: {error.message}", error.hint) from None
    if sizes != tuple(form.observation_sizes):
        raise DataError(
            f"the policy cannot be asked: its observations have sizes "
            f"{list(form.observation_sizes)}, here they have {list(sizes)}",
            "use the version of automix that it was exported with; policy.json names it",
        )
    return EnvSettings(
        actions=actions,
        observations=form.observations,
        epochs_per_action=form.epochs_per_action,
    )


@lru_cache(maxsize=1)
def _world(task: FamilySettings, trainer: TrainerSettings, device: str) -> ImageWorld:
    """Return the world of a worker; building it reads the images."""
    return ImageWorld(task, trainer, device)
