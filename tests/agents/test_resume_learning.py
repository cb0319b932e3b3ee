"""Every agent that is stopped anywhere and taken up again ends as one that was left alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest

from agents.checkpoints import CheckpointSettings
from agents.learners import AGENTS
from agents.rundir import RunDirectory
from agents.settings import RunSettings
from agents.training import Learned, Learning, Stopped, never
from automix.snapshots import to_bytes
from tests.agents import surrogate_runs

BUDGET, ROUNDS = 4, 3
RARELY = 1e-9
"""One checkpoint at the first step, further ones only where a test asks for them."""
SIGTERM = 15

every_agent = pytest.mark.parametrize("name", list(AGENTS))
VARIANTS = [
    ("ppo", "agent.normalise=true"),
    ("ars", "agent.normalise=true"),
    ("dqn", "agent.normalise=true"),
    ("ppo", "env.fork=true"),
    ("recurrent_ppo", "env.fork=true"),
    ("sac", "env.fork=true"),
    # Rollouts that begin and end within episodes:
    ("a2c", "agent.n_steps=3"),
    ("dqn", "agent.train_freq=3"),
    # A buffer of 5 places that is overwritten within a rollout, and returns over several steps:
    ("td3", "agent.train_freq=3", "agent.buffer_size=20"),
    ("qr_dqn", "agent.train_freq=3", "agent.buffer_size=20", "agent.n_steps=2"),
]


def settings_of(name: str, *words: str, share: float = RARELY) -> RunSettings:
    """Return settings of three rounds of four trainings of four epochs."""
    given = (*surrogate_runs.tiny_words(name), f"agent.total_timesteps={ROUNDS * 4 * BUDGET}")
    if "env.fork=true" in words:
        given = (*given, "agent.group_size=3", f"agent.total_timesteps={ROUNDS * 6 * BUDGET}")
    if name == "ars" and "env.fork=true" in words:
        raise AssertionError("candidates cannot take each other's state over")
    settings = surrogate_runs.settings_of(name, *given, *words, f"trainer.epochs={BUDGET}")
    return replace(settings, checkpoint=CheckpointSettings(share=share))


def learning_of(
    settings: RunSettings, folder: Path, stop: Callable[[], int] = never
) -> tuple[Learning, bool]:
    """Return a learning in a run's directory, as a new process makes it, and whether it resumed."""
    folder.mkdir(exist_ok=True)
    env = surrogate_runs.environments(settings, BUDGET, 7)
    learning = Learning(settings, env, RunDirectory(folder), stop)
    return learning, learning.resume()


def after(steps: int) -> Callable[[], int]:
    """Return a wish to stop after some steps."""
    left = iter(range(steps - 1, -1, -1))
    return lambda: 0 if next(left) else SIGTERM


@dataclass(frozen=True)
class End:
    """What must be equal in the end."""

    metrics: bytes
    agent: bytes
    """All of ``agent_state``: parameters, optimizers, counters, generators, what was logged."""
    cost: tuple[int, ...]

    @classmethod
    def of(cls, learning: Learning, folder: Path) -> End:
        done: Learned = learning.learned()
        state = learning._start["agent"]
        return cls(
            metrics=(folder / "metrics.jsonl").read_bytes(),
            agent=to_bytes(state),
            cost=(done.updates, done.episodes, done.classifier_epochs, done.passes),
        )


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory) -> Callable[..., End]:
    """What is left alone; once for each agent and words."""

    @cache
    def made(name: str, *words: str) -> End:
        folder = tmp_path_factory.mktemp("undisturbed") / "run"
        learning, resumed = learning_of(settings_of(name, *words, share=0), folder)
        assert not resumed
        learning.run()
        assert learning.finished
        assert not (folder / "checkpoints").exists()
        return End.of(learning, folder)

    return made


# Stopped ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [(name,) for name in AGENTS] + VARIANTS, ids="-".join)
def test_one_that_is_stopped_after_every_step_ends_as_one_that_is_left_alone(
    tmp_path, undisturbed, words
):
    settings, folder, stops = settings_of(*words), tmp_path / "run", 0
    while True:
        learning, resumed = learning_of(settings, folder, after(1))
        assert resumed == (stops > 0)
        try:
            learning.run()
        except Stopped as stopped:
            assert stopped.signal == SIGTERM
            stops += 1
            continue
        break
    assert stops >= ROUNDS * BUDGET
    assert End.of(learning, folder) == undisturbed(*words)


@every_agent
@pytest.mark.parametrize("steps", [3, 4, 6])
def test_one_stop_in_mid_rollout_or_at_its_end_changes_nothing(tmp_path, undisturbed, name, steps):
    settings, folder = settings_of(name), tmp_path / "run"
    learning, _ = learning_of(settings, folder, after(steps))
    with pytest.raises(Stopped):
        learning.run()
    learning, resumed = learning_of(settings, folder)
    assert resumed
    learning.run()
    assert End.of(learning, folder) == undisturbed(name)
