"""Compare contestants on held-out tasks.

All contestants meet the same tasks with the same initial weights, batches and mixing draws, so
every difference is paired. The test split is read once, after the last epoch.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from automix.agents.config.draws import cell_of
from automix.agents.config.settings import RunSettings
from automix.agents.config.worlds import held_out, world_of_task
from automix.agents.contest.contestants import Contestant, Player, contestants_of
from automix.agents.contest.controls import SearchResult
from automix.agents.contest.own_training import OWN_TRAINING, asks_policy
from automix.agents.contest.own_training.settling import settle
from automix.agents.parallel.worker import State, Worker
from automix.agents.runs.progress import progress
from automix.agents.runs.result_cache import ResultCache, TaskCheckpoint
from automix.core.errors import ConfigError, DataError
from automix.core.seeding import derived_seed
from automix.data.tasks import TaskSpec
from automix.envs.codec import ActionCodec, ActionSettings
from automix.envs.groups import StackedGroups
from automix.envs.rewards import RewardSettings
from automix.envs.settings import EnvSettings
from automix.envs.worlds import ImageWorld, WorldSettings
from automix.mixing.actions import MixAction
from automix.policy.policy import MixPolicy
from automix.training.evaluation import TestScores, test_scores
from automix.training.metrics import EpochMetrics
from automix.training.population import Population

TrialRecord = dict[str, Any]
"""A line of ``trials.jsonl``."""


@dataclass(frozen=True, kw_only=True)
class Match:
    """One task that contestants meet.

    Attributes:
        spec: The task.
        task: What trials call it: its kind, or the cell that a drawn task is shown in.
        trainings: How often each contestant trains it, each time with other initial weights,
            batches and mixing draws.
        scored: Whether the test split is read in the end.
    """

    spec: TaskSpec
    task: str
    trainings: int = 1
    scored: bool = True

    def seed(self, purpose: str, training: int) -> int:
        """Return the seed of one training for a purpose."""
        # The first is named as where there is one only, so that more add to it.
        repeat = (training,) if training else ()
        return derived_seed(self.spec.seed, purpose, self.spec.kind, *repeat)


@dataclass(frozen=True)
class _FinishedRun:
    """A finished training run."""

    contestant: Contestant
    training: int
    score: TestScores | None
    history: Sequence[EpochMetrics]
    mixes: Sequence[str]
    seen: Sequence[np.ndarray]


def compare(
    settings: RunSettings,
    workers: Sequence[Worker],
    device: str,
    policy: MixPolicy | None,
    searched: Mapping[str, SearchResult] | None = None,
    cache: ResultCache | None = None,
) -> list[TrialRecord]:
    """Train with every contestant on every held-out task; return one record a trial.

    Args:
        settings: Of the run.
        workers: Share the tasks.
        device: Where classifiers train.
        policy: Of the contestant ``agent``.
        searched: What the controls among the contestants found.
        cache: Of the run; finished tasks are not done again.

    Raises:
        AutomixError: As ``env_of`` does.
    """
    env = env_of(policy, settings)
    actions = ActionCodec(env.actions).choices
    contestants = contestants_of(settings.compare.contestants, actions, searched)
    matches = matches_of(settings)
    return play_matches(matches, contestants, env, settings, workers, device, policy, cache=cache)


def matches_of(settings: RunSettings) -> list[Match]:
    """Return what is compared on."""
    drawn = settings.compare.draws > 0
    return [
        Match(
            spec=spec,
            task=spec.world or (cell_of(spec, settings.task) if drawn else spec.kind),
            trainings=settings.compare.seeds if drawn else 1,
        )
        for kind in held_out(settings)
        for spec in kind
    ]


def play_matches(
    matches: Sequence[Match],
    contestants: Sequence[Contestant],
    env: EnvSettings,
    settings: RunSettings,
    workers: Sequence[Worker],
    device: str,
    policy: MixPolicy | None = None,
    what: str = "comparing",
    cache: ResultCache | None = None,
) -> list[TrialRecord]:
    """Share matches out to the workers; return their trials in the order of the matches."""
    worlds, cache = world_of_task(settings), cache or ResultCache()
    choices = ActionCodec(env.actions).choices
    tasks = [(worlds[m.spec.world], m.spec, m.seed("settling", 0)) for m in matches]
    settled = settle(contestants, tasks, choices, workers, device, cache)
    items = [
        (worlds[match.spec.world], env, device, own, policy, match)
        for match, own in zip(matches, settled, strict=True)
    ]
    with progress(what, len(items)) as tick:
        groups = cache.map(what, workers, play_group, items, tick)
    return [trial for group in groups for trial in group]


def play_group(
    state: State,
    settings: WorldSettings,
    env: EnvSettings,
    device: str,
    contestants: Sequence[Contestant],
    policy: MixPolicy | None,
    match: Match,
    checkpoint: TaskCheckpoint = TaskCheckpoint(),  # noqa: B008 (frozen)
) -> list[TrialRecord]:
    """Train a task's classifiers for each contestant, side by side, and score them."""
    runs: list[_FinishedRun] = []
    tables: dict[tuple[tuple[str, float], ...], list[Contestant]] = {}
    for one in contestants:
        if one.kind == "own":
            runs += _train_alone(_world(settings, device), one, match)
        else:
            tables.setdefault(one.settled.recipe if one.settled else (), []).append(one)
    for recipe, together in tables.items():
        trainer = replace(settings.trainer, **dict(recipe))  # type: ignore[arg-type]
        world = _world(replace(settings, trainer=trainer), device)
        # A state is of one table only: another recipe's begins anew after a kill.
        saved = TaskCheckpoint() if recipe else checkpoint
        runs += _play_together(world, env, together, policy, match, saved)
    place = {contestant.name: number for number, contestant in enumerate(contestants)}
    runs.sort(key=lambda run: (run.training, place[run.contestant.name]))
    return [_record(run, match) for run in runs]


def _play_together(
    world: ImageWorld,
    env: EnvSettings,
    contestants: Sequence[Contestant],
    policy: MixPolicy | None,
    match: Match,
    checkpoint: TaskCheckpoint,
) -> Iterator[_FinishedRun]:
    """Train for all that choose epoch by epoch: a group for each training run, stacked."""
    groups = StackedGroups(world, env, len(contestants), match.trainings)
    facts = world.facts(match.spec)
    budget = facts.budget
    starts = env.starts(budget)
    # With shares of the budget nobody looks between two decisions, and measuring is dear.
    measured = starts if env.decisions else list(range(budget))
    choices = ActionCodec(env.actions).choices
    pairs = [(c, training) for training in range(match.trainings) for c in contestants]
    players = [
        Player(c, choices, policy, match.seed("players", training), facts, starts)
        for c, training in pairs
    ]
    seeds = [match.seed("trial", training) for training in range(match.trainings)]
    seen, saver = _begin(groups, match, seeds, checkpoint), checkpoint.saver()
    done = [*measured, budget][len(seen) - 1]
    for epoch in range(budget):
        shown = seen[bisect(measured, epoch) - 1].copy()
        shown[:, 0] = epoch / budget
        # Players remember what they have seen, so that they are asked again for what is done.
        actions = _actions(players, shown, epoch in starts)
        if epoch < done:
            continue
        if epoch + 1 not in (*measured, budget):
            groups.train_epoch(actions)
            continue
        steps = groups.step(actions, epochs=1)
        seen.append(np.concatenate([step.observations for step in steps]))
        saver.save_if_due(lambda: {"table": groups.state_dict(), "shown": seen})
    decisions = np.stack([seen[measured.index(start)] for start in starts])
    scores = _scores(groups.training, match)
    histories = [history for group in groups.groups for history in group.histories]
    mixes = [own for group in groups.groups for own in group.mixes]
    for m, (contestant, training) in enumerate(pairs):
        yield _FinishedRun(
            contestant, training, scores[m], histories[m], mixes[m], [*decisions[:, m]]
        )


def _begin(
    groups: StackedGroups, match: Match, seeds: Sequence[int], checkpoint: TaskCheckpoint
) -> list[np.ndarray]:
    """Start the training runs, or go on with them; return all observations (k, d) until now."""
    state = checkpoint.load()
    if state is None:
        return [groups.reset([match.spec] * match.trainings, seeds)]
    groups.load_state_dict(state["table"])
    seen: list[np.ndarray] = state["shown"]
    return seen


def _actions(players: Sequence[Player], observations: np.ndarray, due: bool) -> list[MixAction]:
    """Return what each player does about its row of the observations (k, d)."""
    return [player.act(row, due) for player, row in zip(players, observations, strict=True)]


def _train_alone(world: ImageWorld, contestant: Contestant, match: Match) -> Iterator[_FinishedRun]:
    """Let a contestant train by itself, from the seeds that all others have."""
    train = OWN_TRAINING[contestant.name]
    for training in range(match.trainings):
        done = train(world, match.spec, match.seed("trial", training))
        (score,) = _scores(done.population, match)
        yield _FinishedRun(contestant, training, score, done.history, done.mixes, ())


def _scores(population: Any, match: Match) -> Sequence[TestScores | None]:
    assert isinstance(population, Population)
    return test_scores(population) if match.scored else [None] * population.members


def _record(run: _FinishedRun, match: Match) -> TrialRecord:
    """Return the record of one training run; the task's first pays for what was settled."""
    history = run.history
    trial = {
        "contestant": run.contestant.name,
        "kind": run.contestant.kind,
        "task": match.task,
        "train_size": match.spec.train_size,
        "label_noise": match.spec.label_noise,
        "seed": match.spec.seed,
        "training": run.training,
        "val_accuracy": history[-1].val_accuracy,
        "mixes": list(run.mixes),
        "measured": [m.epoch for m in history],
        "val_curve": [round(m.val_accuracy, 6) for m in history],
        "partner_share": [round(m.partner_share, 6) for m in history[1:]],
        "forward_passes": sum(m.forward_passes for m in history),
        "backward_passes": sum(m.backward_passes for m in history),
        "diverged": history[-1].diverged,
    }
    if run.score is not None:
        trial["test_accuracy"] = run.score.accuracy
        trial["test_ece"] = run.score.calibration_error
        trial["test_top5"] = run.score.top5_accuracy
    settled = run.contestant.settled
    if settled and not run.training:
        trial |= {"settling_epochs": settled.epochs, "settling_passes": settled.passes}
    if run.contestant.kind == "agent":
        # What its choices can be explained by.
        trial["observations"] = [[round(float(x), 6) for x in row] for row in run.seen]
    return trial


def env_of(policy: MixPolicy | None, settings: RunSettings) -> EnvSettings:
    """Return the interface that a policy was learned with, or the one that is offered.

    Raises:
        ConfigError: If ``agent`` is named and there is no policy, or if the policy was learned
            with other actions than the settings offer.
        DataError: If this version does not know the policy's observations or actions.
    """
    offered = settings.env
    if policy is None:
        asking = [name for name in settings.compare.contestants if asks_policy(name)]
        if asking:
            raise ConfigError(
                f"the contestant {asking[0]!r} has no policy",
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
    except ConfigError as error:
        raise DataError(f"the policy cannot be asked: {error.message}", error.hint) from None
    policy.observer()  # which refuses what this version cannot show it
    _refuse_other_actions(actions, offered.actions)
    return EnvSettings(
        actions=actions,
        observations=form.observations,
        epochs_per_action=form.epochs_per_action,
        decisions=form.decisions,
    )


def _refuse_other_actions(learned: ActionSettings, offered: ActionSettings) -> None:
    """Refuse actions that the settings offer and that a policy was not learned with.

    The default asks for nothing in particular: then the policy's own actions are taken.
    """
    names = ("methods", "ratios", "saliency")
    differences = [
        f"{name} it {difference}"
        for name in names
        if (difference := _difference(getattr(learned, name), getattr(offered, name)))
    ]
    default = all(getattr(offered, name) == getattr(ActionSettings(), name) for name in names)
    if differences and not default:
        fitting = " ".join(f"env.actions.{n}={_as_override(getattr(learned, n))}" for n in names)
        raise ConfigError(
            f"the policy was learned with other actions than env.actions offers: in "
            f"{'; in '.join(differences)}",
            f"set {fitting}, or leave env.actions out",
        )


def _difference(learned: Sequence[Any], offered: Sequence[Any]) -> str:
    """Return which entries one has more than the other, as a sentence."""
    more = [str(value) for value in learned if value not in offered]
    less = [str(value) for value in offered if value not in learned]
    parts = [f"has {', '.join(more)} more"] if more else []
    parts += [f"lacks {', '.join(less)}"] if less else []
    return " and ".join(parts)


def _as_override(values: Sequence[Any]) -> str:
    # YAML reads a bare off as false.
    return f"[{','.join(repr(v) if v == 'off' else str(v) for v in values)}]"


@lru_cache(maxsize=64)
def _world(settings: WorldSettings, device: str) -> ImageWorld:
    """Return a world of a worker; building the first of an image set reads the images."""
    return ImageWorld(settings.task, settings.trainer, device, settings.name)
