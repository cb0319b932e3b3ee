"""The jobs behind the commands: learn and compare, or compare alone; each ends with a report.

Each can be killed at any moment and resumed from its directory: learning goes on from its last
checkpoint, searching and comparing from the pieces of work on record.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from safetensors.torch import save_file

from automix.agents.config.published import published_figures
from automix.agents.config.settings import RunSettings, sample_specs
from automix.agents.contest.compare import Trial, compare, env_of
from automix.agents.contest.contestants import contestants_of
from automix.agents.contest.explain import explain, write_rule
from automix.agents.contest.search import search, search_epochs
from automix.agents.contest.summary import schedule_of, summarise
from automix.agents.contest.validation import pick_fixed
from automix.agents.learning.algorithms import AGENTS, check_agent, updates_of
from automix.agents.learning.export import learning_cost, policy_of
from automix.agents.learning.training import Learned, Stopped, learn
from automix.agents.parallel.devices import choose_device, stacked_groups, worker_count
from automix.agents.parallel.pool import start_workers
from automix.agents.parallel.worker import Worker
from automix.agents.report import write_report
from automix.agents.runs.result_cache import ResultCache
from automix.agents.runs.rundir import STATUS, RunDirectory, announce, plain
from automix.agents.runs.stopping import Stopping, stop, stopping
from automix.core.errors import ConfigError, ResourceError
from automix.core.extras import require
from automix.core.files import read_json, remove_unfinished, write_atomically, write_json
from automix.core.settings import differences
from automix.envs.codec import ALL, ActionCodec
from automix.envs.groups import EpisodeGroup
from automix.envs.vocabulary import expanded as expanded_actions
from automix.envs.worlds import ImageWorld
from automix.policy.policy import MixPolicy, load_policy, save_policy
from automix.policy.schedule import save_schedule
from automix.policy.shipped import policy_folder
from automix.training.population import Population

EXPORT, POLICY, RESULT = "export", "policy", "result.json"
"""In a run directory: what was learned, what was given, what came out."""

log = logging.getLogger("automix")


def run_train(settings: RunSettings, path: Path, overwrite: bool = False) -> dict[str, Any]:
    """Learn a policy, export it, compare it on held-out tasks, and write the report.

    Returns:
        The content of ``result.json``.
    """
    settings, device = check(located(settings), learns=True)
    return _done(RunDirectory.create(path, settings, overwrite, "train"), settings, device)


def run_compare(settings: RunSettings, path: Path, overwrite: bool = False) -> dict[str, Any]:
    """Compare contestants on held-out tasks and write the report.

    Returns:
        The content of ``result.json``.
    """
    policy = given_policy(settings)
    settings, device = check(located(settings), learns=False)
    directory = RunDirectory.create(path, settings, overwrite, "compare")
    if policy:
        # The run needs nothing but its directory to go on.
        save_policy(directory.path / POLICY, policy)
    return _done(directory, settings, device)


def resume(path: Path) -> dict[str, Any]:
    """Go on with a run that was interrupted or killed; a finished one is left as it is.

    Returns:
        The content of ``result.json``, equal to that of a run that was left alone but for the time
        that it took.

    Raises:
        ConfigError: If its settings were changed, or a process is working on it.
        DataError: If it is no run directory, or is damaged.
    """
    directory, settings, state = RunDirectory.open(path)
    if state == "finished":
        log.info("%s is finished", directory.path)
        return dict(read_json(directory.path / RESULT))
    if (directory.path / POLICY / "policy.json").is_file():  # the last of its files
        settings = replace(settings, policy=str(directory.path / POLICY))
    return _done(directory, *check(settings, directory.job == "train"))


def train_or_resume(settings: RunSettings, path: Path) -> dict[str, Any]:
    """Start a run in a folder that is not there yet, or go on with the one that is.

    Returns:
        The content of ``result.json``.

    Raises:
        ConfigError: If the folder holds a run of other settings.
    """
    if not (path / STATUS).is_file():
        return run_train(settings, path)
    _, begun, _ = RunDirectory.open(path)
    now = located(expanded(settings))
    changed = differences(now, plain(asdict(begun)), plain(asdict(now)))
    if changed:
        raise ConfigError(
            f"{path} holds a run with other settings: {', '.join(changed)}",
            "choose another folder",
        )
    return resume(path)


def located(settings: RunSettings) -> RunSettings:
    """Name the images by their whole path, so that the run can go on from any folder."""
    root = settings.task.root
    if not root:
        return settings
    return replace(settings, task=replace(settings.task, root=str(Path(root).absolute())))


def expanded(settings: RunSettings) -> RunSettings:
    """Name what the word ``all`` stands for among the actions, so that the run and its policy do.

    Raises:
        AutomixError: If the images or the classifier cannot be used.
    """
    if ALL not in (*settings.env.actions.methods, *settings.env.actions.saliency):
        return settings
    # What can be played does not depend on the device, which may be that of another machine.
    world = ImageWorld(settings.task, settings.trainer)
    actions = expanded_actions(settings.env.actions, world.check)
    return replace(settings, env=replace(settings.env, actions=actions))


def _done(directory: RunDirectory, settings: RunSettings, device: str) -> dict[str, Any]:
    """Do a run's job, or what is left of it."""
    with _at_work(directory, settings, device) as run:
        policy, learning = _JOBS[directory.job](run)
        trials, result = _contest(settings, run.workers, device, policy, run.journal)
        # Before anything is made of them: they took the longest.
        directory.write_lines("trials.jsonl", trials)
        result["learning"] = learning
        if learning and policy:
            schedule = schedule_of(trials, settings.trainer.mix)
            save_schedule(directory.path / EXPORT / "schedule.yaml", schedule, policy.about)
            write_rule(directory.path / EXPORT, result["explanation"], policy.about)
        _finish(run, result)
    return result


def _learned_policy(run: _Run) -> tuple[MixPolicy, dict[str, Any]]:
    """Learn, or read what was learned before the run was interrupted."""
    export, noted = run.directory.path / EXPORT, run.directory.path / "checkpoints" / "learned.json"
    if noted.is_file():
        return load_policy(export), dict(read_json(noted))
    try:
        with run.asked.patiently():
            learned = learn(run.settings, run.workers, run.device, run.directory, run.asked)
    except Stopped as stopped:
        stop(stopped.signal)
    policy = policy_of(learned, run.settings)
    # At once: what took minutes to learn must not hang on what comes after.
    save_policy(export, policy)
    _save_agent(run.directory.path / "checkpoints" / "final" / "agent.safetensors", learned)
    learning = {
        "updates": learned.updates,
        "episodes": learned.episodes,
        "classifier_epochs": learned.classifier_epochs,
        "passes": learned.passes,
        "wall_s": round(learned.wall_s, 1),
    }
    write_json(noted, learning)
    return policy, learning


def _given(run: _Run) -> tuple[MixPolicy | None, None]:
    return given_policy(run.settings), None


_JOBS: dict[str, Callable[[_Run], tuple[MixPolicy | None, dict[str, Any] | None]]] = {
    "train": _learned_policy,
    "compare": _given,
}
"""Where the policy of a run comes from, and what learning it took."""


def given_policy(settings: RunSettings) -> MixPolicy | None:
    """Read the policy that the settings name, if they do.

    Raises:
        AutomixError: If there is none of that name, or it cannot be read.
    """
    return load_policy(policy_folder(settings.policy)) if settings.policy else None


def with_menu(settings: RunSettings, policy: MixPolicy | None) -> RunSettings:
    """Give everybody the actions of the policy that plays, and ``config.yaml`` the truth.

    Raises:
        AutomixError: As ``env_of`` does.
    """
    actions = env_of(policy, settings).actions
    return replace(settings, env=replace(settings.env, actions=actions))


def _contest(
    settings: RunSettings,
    workers: Sequence[Worker],
    device: str,
    policy: MixPolicy | None,
    journal: ResultCache | None = None,
) -> tuple[list[Trial], dict[str, Any]]:
    """Let the controls search, pick the best fixed choice, play all; return trials and result."""
    cost = learning_cost(policy)
    found = search(settings, workers, device, cost[0], journal)
    picked = pick_fixed(settings, env_of(policy, settings), workers, device, journal)
    trials = compare(settings, workers, device, policy, found, journal)
    result = summarise(trials, settings, *cost, found, picked)
    if policy and journal:
        result["explanation"] = explain(policy, trials, settings.seed)
    return trials, result


def check(settings: RunSettings, learns: bool) -> tuple[RunSettings, str]:
    """Check what can be known before anything is written.

    Args:
        settings: Of the run.
        learns: Whether the agent learns in it, or plays with a policy that is given.

    Returns:
        The settings with the actions that are really played, each by its name, and the device.

    Raises:
        AutomixError: If the images, the splits, the names or the device cannot be used.
    """
    require("report")  # now, and not after hours of learning
    if settings.backend == "ray":
        require("ray", hint="or use backend=local")
    settings = expanded(settings)
    if not learns:
        policy = given_policy(settings)
        settings = with_menu(settings, policy)
        search_epochs(settings, learning_cost(policy)[0])
    elif "agent" not in settings.compare.contestants:
        raise ConfigError("compare.contestants lacks 'agent'", "train compares what it has learned")
    else:
        check_agent(settings.agent, settings.env.actions.space)
        updates_of(settings.agent, settings.env.steps(settings.trainer.epochs))
    AGENTS.entry(settings.agent.name)
    menu = ActionCodec(settings.env.actions).choices
    contestants = contestants_of(settings.compare.contestants, menu)
    device = choose_device(settings.device)
    stacked_groups(settings, device)
    torch.set_num_threads(settings.threads)
    world = ImageWorld(settings.task, settings.trainer, device)
    EpisodeGroup(world, settings.env, settings.agent.group_size)
    world.check([action for one in contestants if (action := one.fixed)])
    specs = sample_specs(settings.compare, settings.task)
    for spec in specs:
        world.family.task(spec)
    # Two untrained classifiers tell of a model, optimizer or scheduler that does not fit.
    world.start([specs[0]] * 2).reset([0, 0])
    return settings, device


def seconds_per_epoch(settings: RunSettings, device: str) -> float:
    """Time a few classifier epochs of each kind of held-out task; return seconds for one.

    Divided by the number of worker processes, so that a run's epochs times this is about its
    length, if nothing else keeps the cores busy.
    """
    world = ImageWorld(settings.task, settings.trainer, device)
    specs = sample_specs(settings.compare, settings.task)
    members = settings.agent.group_size * stacked_groups(settings, device)
    times = [_epoch_seconds(world.start([spec] * members), settings) for spec in specs]
    return mean(times) / members / worker_count(settings, device)


def _epoch_seconds(population: Population, settings: RunSettings) -> float:
    """Time one epoch of a population that plays the whole menu."""
    menu = ActionCodec(settings.env.actions).choices
    actions = [menu[member % len(menu)] for member in range(population.members)]
    population.reset([0] * population.members)
    start = time.perf_counter()
    population.run_epoch(actions)
    if settings.trainer.epochs > 1:
        # The first epoch paid for what is set up once.
        start = time.perf_counter()
        population.run_epoch(actions)
    return time.perf_counter() - start


@dataclass(frozen=True)
class _Run:
    """What a job works with while it runs."""

    settings: RunSettings
    directory: RunDirectory
    workers: Sequence[Worker]
    device: str
    journal: ResultCache
    asked: Stopping


@contextmanager
def _at_work(directory: RunDirectory, settings: RunSettings, device: str) -> Iterator[_Run]:
    """Hold the run's directory and the workers, and keep the records true to the end."""
    path = directory.path
    with directory.locked(), stopping() as asked, _told(directory) as crew:
        remove_unfinished(path)
        directory.status("running")
        announce(path, f"python run.py resume {path}   (should it be interrupted)")
        journal = ResultCache(path / "checkpoints" / "finished.jsonl", settings.checkpoint.share)
        count = worker_count(settings, device)
        with start_workers(
            count,
            settings.threads,
            device,
            backend=settings.backend,
            max_restarts=settings.max_restarts,
            step_timeout_s=settings.step_timeout_s,
            ray=settings.ray,
        ) as workers:
            crew += workers
            yield _Run(settings, directory, workers, device, journal, asked)


@contextmanager
def _told(directory: RunDirectory) -> Iterator[list[Worker]]:
    """Keep ``log.txt`` and ``status.json`` true, however the block ends; it fills in who works."""
    handler = logging.FileHandler(directory.path / "log.txt", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    level = log.level
    log.setLevel(logging.DEBUG)  # the file has all of it, also where no command set logging up
    crew: list[Worker] = []
    try:
        yield crew
    except BaseException as error:
        interrupted = isinstance(error, (KeyboardInterrupt, SystemExit))
        log.debug("the run ended early", exc_info=True)
        state = "interrupted" if interrupted else "failed"
        try:
            directory.status(state, restarts=_restarts(crew), error=str(error))
        except ResourceError as second:  # a full disk, say: what came first is to be told
            log.debug("%s", second)
        announce(directory.path, f"python run.py resume {directory.path}")
        raise
    else:
        directory.status("finished", restarts=_restarts(crew))
    finally:
        log.setLevel(level)
        log.removeHandler(handler)
        handler.close()


def _restarts(crew: Sequence[Worker]) -> int:
    return sum(worker.restarts for worker in crew)


def _finish(run: _Run, result: dict[str, Any]) -> None:
    """Write result and report."""
    directory = run.directory
    settings = run.settings
    result["published"] = published_figures(settings.published, settings.trainer.model)
    result["wall_s"] = round(directory.spent_s, 1)
    write_json(directory.path / RESULT, result)
    write_report(directory.path)


def _save_agent(path: Path, learned: Learned) -> None:
    """Write the whole agent's weights, the critic's too, without pickle."""
    tensors = {
        name: value.contiguous() for name, value in learned.agent.policy.state_dict().items()
    }
    write_atomically(path, lambda temporary: save_file(tensors, temporary))


def without_agent(settings: RunSettings, named: bool) -> RunSettings:
    """Leave ``agent`` out where no policy is given, unless the user named the contestants."""
    names = settings.compare.contestants
    if settings.policy or named:
        return settings
    rest = tuple(name for name in names if name != "agent")
    return replace(settings, compare=replace(settings.compare, contestants=rest))


def evaluate(settings: RunSettings, contestant: str, policy: str) -> dict[str, Any]:
    """Score one contestant on the held-out tasks; writes nothing.

    Args:
        settings: Tasks, trainer and seeds.
        contestant: A name; ``agent`` stands for the policy.
        policy: An export folder, the name of a policy that comes along, or empty.
    """
    compared = replace(settings.compare, contestants=(contestant,), validation_draws=0)
    settings, device = check(replace(settings, compare=compared, policy=policy), learns=False)
    learned = given_policy(settings)
    count = worker_count(settings, device)
    with start_workers(count, settings.threads, device) as workers:
        return _contest(settings, workers, device, learned)[1]
