"""The jobs behind the commands: learn and compare, or compare alone; each ends with a report.

Each can be killed at any moment and resumed from its directory: learning goes on from its last
checkpoint, searching and comparing from the pieces of work on record.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from automix.agents.config.published import published_figures
from automix.agents.config.settings import RunSettings
from automix.agents.contest.compare import TrialRecord, compare, env_of
from automix.agents.contest.explain import explain, write_rule
from automix.agents.contest.run_controls import search
from automix.agents.contest.summary import schedule_of, summarise
from automix.agents.contest.validation import pick_fixed
from automix.agents.jobs.check import (
    check,
    expanded,
    given_policy,
    going_on,
    located,
    tell_images,
    with_policy,
)
from automix.agents.learning.export import LONG, learning_cost, policy_of
from automix.agents.learning.scope import scope_of
from automix.agents.learning.training import Learned, Stopped, learn
from automix.agents.parallel.pool import workers_of
from automix.agents.parallel.worker import Worker
from automix.agents.report import write_report
from automix.agents.runs.result_cache import ResultCache
from automix.agents.runs.rundir import POLICY, STATUS, RunDirectory, announce, plain
from automix.agents.runs.stopping import Stopping, stop, stopping
from automix.core.errors import ConfigError, DataError, ResourceError
from automix.core.files import (
    read_json,
    remove_unfinished,
    short,
    write_atomically,
    write_json,
)
from automix.core.settings import differences
from automix.policy.policy import MixPolicy, load_policy, save_policy
from automix.policy.schedule import save_schedule

EXPORT, RESULT = "export", "result.json"
"""In a run directory: the policy that was learned, what came out."""

LEARNED = "checkpoints/learned.json"
"""What learning took; written when all of it has been saved."""

COUNTS = ("updates", "episodes", "classifier_epochs", "passes")
"""In it, beside the seconds: attributes of ``Learned``."""

log = logging.getLogger("automix")


def run_train(settings: RunSettings, path: Path, overwrite: bool = False) -> dict[str, Any]:
    """Learn a policy, export it, compare it on held-out tasks, and write the report.

    Returns:
        The content of ``result.json``.
    """
    settings, device = check(located(settings), learns=True)
    policy = given_policy(settings)
    directory = RunDirectory.create(path, settings, overwrite, "train", policy)
    return finish(directory, settings, device)


def run_compare(settings: RunSettings, path: Path, overwrite: bool = False) -> dict[str, Any]:
    """Compare contestants on held-out tasks and write the report.

    Returns:
        The content of ``result.json``.
    """
    settings, device = check(located(settings), learns=False)
    policy = given_policy(settings)
    directory = RunDirectory.create(path, settings, overwrite, "compare", policy)
    return finish(directory, settings, device)


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
    return finish(directory, *check(settings, directory.job == "train"))


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
    now = located(going_on(expanded(settings)))
    changed = differences(now, plain(asdict(begun)), plain(asdict(now)))
    if changed:
        raise ConfigError(
            f"{path} holds a run with other settings: {', '.join(changed)}",
            "choose another folder",
        )
    return resume(path)


def finish(directory: RunDirectory, settings: RunSettings, device: str) -> dict[str, Any]:
    """Do a run's job, or what is left of it, to the report; return the content of ``result.json``.

    Args:
        directory: Of the run; what is there already is not done again.
        settings: Checked, as ``check`` returns them.
        device: Where classifiers train.
    """
    with _working(directory, settings, device) as run:
        images = tell_images(settings)
        policy: MixPolicy | None
        learning: dict[str, Any] | None = None
        if directory.job == "compare":
            policy = given_policy(settings)
        else:
            if not (directory.path / LEARNED).is_file():
                try:
                    with run.stopping.patiently():
                        learned = learn(settings, run.workers, device, directory, run.stopping)
                except Stopped as stopped:
                    stop(stopped.signal)
                # At once: what took minutes to learn must not hang on what comes after.
                _save_learned(directory.path, learned, settings)
            policy = load_policy(directory.path / EXPORT)
            learning = _read_learning(directory.path / LEARNED)
        trials, result = _compare(settings, run.workers, device, policy, run.cache)
        # Before anything is made of them: they took the longest.
        directory.write_lines("trials.jsonl", trials)
        result["images"] = images
        result["learning"] = learning
        if learning and policy:
            schedule = schedule_of(trials, settings.trainer.mix, settings.env.decisions)
            origin = {key: policy.about[key] for key in policy.about if key not in LONG}
            save_schedule(directory.path / EXPORT / "schedule.yaml", schedule, origin)
            write_rule(directory.path / EXPORT, result["explanation"], origin)
        result["published"] = published_figures(settings.published, settings.trainer.model)
        result["wall_s"] = round(directory.spent_s, 1)
        write_json(directory.path / RESULT, result)
        write_report(directory.path)
    return result


def _save_learned(path: Path, learned: Learned, settings: RunSettings) -> None:
    """Export the policy, save the whole agent, then write what learning it cost."""
    save_policy(path / EXPORT, policy_of(learned, settings))
    # The critic's weights too, without pickle.
    state = learned.agent.policy.state_dict()
    tensors = {name: value.contiguous() for name, value in state.items()}
    file = path / "checkpoints" / "final" / "agent.safetensors"
    write_atomically(file, lambda temporary: save_file(tensors, temporary))
    learning = {name: getattr(learned, name) for name in COUNTS}
    write_json(path / LEARNED, learning | {"wall_s": round(learned.wall_s, 1)})


def _read_learning(path: Path) -> dict[str, Any]:
    """Return what learning took.

    Raises:
        DataError: If the file does not tell.
    """
    found = read_json(path)
    told = found if isinstance(found, dict) else {}
    for name in (*COUNTS, "wall_s"):
        value = told.get(name)
        if not (isinstance(value, int | float) and 0 <= value < 2**63):
            raise DataError(
                f"{path}: {name} is {short(value)}, wanted a number of 0 or more",
                "the file was damaged: run it again with --overwrite",
            )
    return told


def _compare(
    settings: RunSettings,
    workers: Sequence[Worker],
    device: str,
    policy: MixPolicy | None,
    cache: ResultCache | None = None,
) -> tuple[list[TrialRecord], dict[str, Any]]:
    """Let the controls search, pick the best fixed choice, compare; return trials and result."""
    for line in scope_of(policy, settings)["outside"] if policy else ():
        log.warning("the policy is asked outside of what it was learned on: %s", line)
    cost, env = learning_cost(policy), env_of(policy, settings)
    # As the agent has it, but for the reward, which no policy holds, and decisions at shares of
    # the budget, which a suite needs whatever the agent does.
    own = env if env.decisions or not settings.worlds.suite else settings.env
    times: dict[str, Any] = {"decisions": own.decisions, "epochs_per_action": own.epochs_per_action}
    asked = replace(settings, env=replace(env, reward=settings.env.reward, **times))
    searched = search(asked, workers, device, cost[0], cache)
    picked = pick_fixed(settings, env, workers, device, cache)
    trials = compare(settings, workers, device, policy, searched, cache)
    result = summarise(trials, settings, *cost, searched, picked)
    result["scope"] = scope_of(policy, settings, trials) if policy else None
    if policy and cache:
        result["explanation"] = explain(policy, trials, settings.seed)
    return trials, result


@dataclass(frozen=True)
class _Run:
    """What a job works with."""

    workers: Sequence[Worker]
    cache: ResultCache
    stopping: Stopping


@contextmanager
def _working(directory: RunDirectory, settings: RunSettings, device: str) -> Iterator[_Run]:
    """Hold the run's directory and the workers, and keep its status true to the end."""
    path, workers = directory.path, list[Worker]()
    with directory.locked(), stopping() as asked, _status_kept(directory, workers):
        remove_unfinished(path)
        directory.status("running")
        announce(path, f"python run.py resume {path}   (should it be interrupted)")
        cache = ResultCache(path / "checkpoints" / "finished.jsonl", settings.checkpoint.share)
        with workers_of(settings, device) as started:
            workers += started
            yield _Run(started, cache, asked)


@contextmanager
def _status_kept(directory: RunDirectory, workers: Sequence[Worker]) -> Iterator[None]:
    """Keep ``log.txt`` and ``status.json`` true, however the block ends."""
    handler = logging.FileHandler(directory.path / "log.txt", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    level = log.level
    log.setLevel(logging.DEBUG)  # the file has all of it, also where no command set logging up
    try:
        yield
    except BaseException as error:
        interrupted = isinstance(error, (KeyboardInterrupt, SystemExit))
        log.debug("the run ended early", exc_info=True)
        state = "interrupted" if interrupted else "failed"
        try:
            directory.status(state, restarts=_restarts(workers), error=str(error))
        except ResourceError as second:  # a full disk, say: the first error is the one to show
            log.debug("%s", second)
        announce(directory.path, f"python run.py resume {directory.path}")
        raise
    else:
        directory.status("finished", restarts=_restarts(workers))
    finally:
        log.setLevel(level)
        log.removeHandler(handler)
        handler.close()


def _restarts(workers: Sequence[Worker]) -> int:
    return sum(worker.restarts for worker in workers)


def evaluate(settings: RunSettings, contestant: str, policy: str) -> dict[str, Any]:
    """Score one contestant on the held-out tasks; writes nothing.

    Args:
        settings: Tasks, trainer and seeds.
        contestant: A name; ``agent`` stands for the policy.
        policy: An export folder, the name of a policy that comes along, or empty: that of the
            settings, else the one that is meant where none is named.
    """
    compared = replace(settings.compare, contestants=(contestant,), validation_draws=0)
    settings = replace(settings, compare=compared, policy=policy or settings.policy)
    settings, device = check(with_policy(settings, named=True), learns=False)
    learned, images = given_policy(settings), tell_images(settings)
    with workers_of(settings, device) as workers:
        return {"images": images} | _compare(settings, workers, device, learned)[1]
