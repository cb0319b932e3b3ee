"""What checkpoints of a learning run weigh and cost, and what it takes to go on from one.

python -m benchmarks --only checkpoints
"""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from automix.agents.config.compose import load_settings
from automix.agents.config.settings import RunSettings
from automix.agents.config.worlds import worlds_of
from automix.agents.learning import training
from automix.agents.learning.training import Learning, Stopped, make_mix_block
from automix.agents.parallel.devices import worker_count
from automix.agents.parallel.pool import start_workers
from automix.agents.runs import checkpoints as files
from automix.agents.runs.rundir import RunDirectory
from automix.agents.vec_env.group_vec_env import GroupVecEnv
from automix.core.seeding import derived_seed
from benchmarks.harness import Row, Section, Target, threads

SECONDS = 90.0

DEFAULT = "default run"
LARGE = "resnet18, 32 px, 2 trainings"
LARGE_WORDS = (
    *("task=npz", "task.train_sizes=[64]", "task.label_noise=[0]", "task.val_size=64"),
    *("trainer.model=resnet18", "trainer.epochs=20"),
    *("agent.groups=1", "agent.group_size=2", "agent.total_timesteps=80", "workers=1"),
    *("checkpoint.share=1",),
)
"""A checkpoint after every epoch, to have several of them in little time."""

WRITE, COLLECT, ENCODE, COPY = "write", "collect", "encode", "copy"
PLACES = {
    WRITE: (Learning, "_save"),
    COLLECT: (Learning, "_state_dict"),
    ENCODE: (files, "to_bytes"),
    COPY: (training, "agent_state_dict"),
}
"""Where the time of checkpoints goes: all of it, its parts, and the copy of the agent that each
rollout begins with, whether a checkpoint follows or not."""

Spans = Mapping[str, Sequence[tuple[float, float]]]
"""Start and end of each call, in seconds, by the name of what was called."""


@dataclass(frozen=True)
class Part:
    """What was seen of the checkpoints of one run.

    Attributes:
        name: Of the run.
        size: Bytes of a checkpoint.
        epoch_s: Median seconds of a step of all trainings.
        spans: Of the functions in ``PLACES``.
        resume: Seconds that reading and restoring took, and playing the rollout again.
    """

    name: str
    size: int
    epoch_s: float
    spans: Spans
    resume: tuple[float, float]


def run(seconds: float) -> Section:
    """Learn for a while with the default's checkpoints, and with large nets; resume both."""
    with threads(1), tempfile.TemporaryDirectory(prefix="automix-") as folder:
        here = Path(folder)
        noise = here / "noise.npz"
        _write_noise(noise)
        default, large = load_settings([]), load_settings([*LARGE_WORDS, f"task.root={noise}"])
        return section(
            [
                observed(DEFAULT, default, here / "default", 0.6 * seconds),
                observed(LARGE, large, here / "large", 0.25 * seconds),
            ]
        )


def _write_noise(path: Path, images: int = 600) -> None:
    """Write images of noise of ten classes; no figure here depends on what they show."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (images, 32, 32, 3), dtype=np.uint8)
    np.savez(path, images=pixels, labels=np.arange(images) % 10)


def observed(name: str, settings: RunSettings, path: Path, seconds: float) -> Part:
    """Learn for some seconds, and go on from the last checkpoint as a fresh process would."""
    directory = RunDirectory.create(path, settings, overwrite=False)
    with start_workers(worker_count(settings, "cpu")) as workers, watched(PLACES) as spans:
        env = _env(settings, workers)
        steps = watch_steps(env)
        until = time.perf_counter() + seconds
        # Asked only after a step: the checkpoint that a stop writes comes when all is measured.
        learning = Learning(settings, env, directory, lambda: int(time.perf_counter() > until))
        stopped(learning)
        env.close()
    with start_workers(worker_count(settings, "cpu")) as workers:
        resume = _resumed(settings, workers, directory)
    # The last one was written because the time was over.
    end = spans[WRITE].pop()[0]
    spans = {name: [s for s in calls if s[0] < end] for name, calls in spans.items()}
    # One that was written between two episodes has no momentum in it.
    sizes = [
        sum(file.stat().st_size for file in folder.iterdir())
        for folder in (path / "checkpoints").glob("step_*")
    ]
    return Part(
        name=name,
        size=max(sizes),
        epoch_s=float(np.median([end - start for start, end in steps])),
        spans=spans,
        resume=resume,
    )


def _env(settings: RunSettings, workers: Sequence[Any]) -> GroupVecEnv:
    make_block = partial(
        make_mix_block,
        settings.agent.group_size,
        1,
        worlds_of(settings),
        settings.env,
        "cpu",
    )
    return GroupVecEnv(
        make_block, settings.agent.groups, workers, derived_seed(settings.seed, "env")
    )


def stopped(learning: Learning) -> None:
    """Learn until it is asked to stop, or all is learned."""
    try:
        learning.run()
    except Stopped:
        return
    learning.save()  # it was faster than the time that it was given


def _resumed(
    settings: RunSettings, workers: Sequence[Any], directory: RunDirectory
) -> tuple[float, float]:
    """Return the seconds of reading and restoring a checkpoint, and of the replay after it."""
    env = _env(settings, workers)
    learning = Learning(settings, env, directory, lambda: 1)
    start = time.perf_counter()
    learning.load()
    restored = time.perf_counter()
    steps = watch_steps(env)
    stopped(learning)
    env.close()
    # The first step that reaches the trainings ends the replay; a run that is over has none.
    return restored - start, (steps[0][0] if steps else time.perf_counter()) - restored


@contextmanager
def watched(
    places: Mapping[str, tuple[Any, str]],
) -> Iterator[dict[str, list[tuple[float, float]]]]:
    """Note start and end of each call of some functions inside the block.

    Args:
        places: Owner and attribute of each function, by a name of one's own.
    """
    spans: dict[str, list[tuple[float, float]]] = {name: [] for name in places}
    before = {name: getattr(owner, attribute) for name, (owner, attribute) in places.items()}
    for name, (owner, attribute) in places.items():
        setattr(owner, attribute, noted(before[name], spans[name]))
    try:
        yield spans
    finally:
        for name, (owner, attribute) in places.items():
            setattr(owner, attribute, before[name])


def noted(function: Callable[..., Any], spans: list[tuple[float, float]]) -> Callable[..., Any]:
    """Return a function that also notes when each of its calls began and ended."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            spans.append((start, time.perf_counter()))

    return call


def watch_steps(env: GroupVecEnv) -> list[tuple[float, float]]:
    """Return a list that fills with the spans of the environment's steps."""
    steps: list[tuple[float, float]] = []
    begun: list[float] = []
    send, wait = env.step_async, env.step_wait

    def step_async(actions: np.ndarray) -> None:
        begun.append(time.perf_counter())
        send(actions)

    def step_wait() -> Any:
        answer = wait()
        steps.append((begun[-1], time.perf_counter()))
        return answer

    env.step_async, env.step_wait = step_async, step_wait  # type: ignore[method-assign]
    return steps


def section(parts: Sequence[Part]) -> Section:
    """Return the table of what was seen."""
    rows = [_row(part) for part in parts]
    shares = {part.name: 100 * taken for part in parts if (taken := share_taken(part)) is not None}
    return Section(
        title="Checkpoints",
        about="Learning with checkpoints on the disk of temporary files. Collect: all trainings' "
        "states, as bytes from the workers. Encode and write: one file each for agent and "
        "trainings, hashed and on the disk. Share: of the time from the first checkpoint "
        "to the last, that one left out, the copies of the agent at rollouts included.",
        columns=list(dict.fromkeys(name for row in rows for name in row)),
        rows=rows,
        targets=[
            Target.of(
                "time that checkpoints take",
                {name: shares[name] for name in shares if name == DEFAULT},
                at_most=2,
                unit="%",
            )
        ],
        notes=[
            "A kill costs on average half the seconds between two, and the resume; the start of a "
            "process and its imports come on top (benchmark `startup`).",
            f"{LARGE}: one after every epoch, to see several. `at 2 %` is how far apart the "
            "default's share would put what they cost.",
        ],
    )


def _row(part: Part) -> Row:
    writes = part.spans[WRITE]
    whole, collect = _medians(part, WRITE), _medians(part, COLLECT)
    # Agent and trainings are encoded one after the other.
    encode = sum(end - start for start, end in part.spans[ENCODE]) / max(len(writes), 1)
    taken = share_taken(part)
    return {
        "run": part.name,
        "epoch s": part.epoch_s,
        "MB": part.size / 1e6,
        "collect s": collect,
        "encode s": encode,
        "write s": whole - collect - encode,
        "checkpoint s": whole,
        "written": len(writes),
        "every s": apart(part),
        "at 2 %": whole / 0.02,
        "share %": None if taken is None else 100 * taken,
        "restore s": part.resume[0],
        "replay s": part.resume[1],
    }


def _medians(part: Part, name: str) -> float:
    return float(np.median([end - start for start, end in part.spans[name]]))


def share_taken(part: Part) -> float | None:
    """Return the share of the time that checkpoints took, in [0, 1]; None of fewer than two.

    What one costs is paid by the wait after it, so each counts with the time until the next.
    """
    writes = part.spans[WRITE]
    if len(writes) < 2:
        return None
    first, last = writes[0][0], writes[-1][0]
    spans = [*writes, *part.spans[COPY]]
    return sum(end - start for start, end in spans if first <= start < last) / (last - first)


def apart(part: Part) -> float | None:
    """Return the mean seconds from one checkpoint to the next; None of fewer than two."""
    writes = part.spans[WRITE]
    return (writes[-1][0] - writes[0][0]) / (len(writes) - 1) if len(writes) > 1 else None
