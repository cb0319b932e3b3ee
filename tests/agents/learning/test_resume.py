"""Every agent that is stopped anywhere and taken up again ends as one that was left alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest
import torch

from automix.agents.config.settings import CheckpointSettings, RunSettings
from automix.agents.learning.agent_state import agent_state_dict, with_replay
from automix.agents.learning.algorithms import AGENTS
from automix.agents.learning.training import Learned, Learning, Stopped, never
from automix.agents.runs.rundir import RunDirectory
from automix.core.errors import ConfigError, DataError
from automix.core.seeding import borrowed_global_rng, set_global_rng_state
from automix.core.snapshots import to_bytes
from tests.agents import surrogate_runs
from tests.cases import each

BUDGET, ROUNDS = 4, 3
RARELY = 1e-9
"""One checkpoint at the first step, further ones only where a test asks for them."""
SIGTERM = 15

every_agent = each("name", list(AGENTS))
VARIANTS = [
    ("ppo", "agent.normalise=true"),
    ("ars", "agent.normalise=true"),
    ("dqn", "agent.normalise=true"),
    ("ppo", "env.fork=true", "agent.normalise=true"),
    ("recurrent_ppo", "env.fork=true"),
    ("sac", "env.fork=true"),
    # Rollouts that begin and end within episodes:
    ("a2c", "agent.n_steps=3"),
    ("dqn", "agent.train_freq=3", "agent.target_update_interval=20"),
    # A buffer of 5 places that is overwritten within a rollout, and returns over several steps:
    ("td3", "agent.train_freq=3", "agent.buffer_size=20"),
    ("qr_dqn", "agent.train_freq=3", "agent.buffer_size=20", "agent.n_steps=2"),
]


def settings_of(name: str, *words: str, share: float = RARELY) -> RunSettings:
    """Return settings of three rounds of four trainings of four epochs."""
    given = (*surrogate_runs.tiny_words(name), f"agent.total_timesteps={ROUNDS * 4 * BUDGET}")
    if "env.fork=true" in words:
        given = (*given, "agent.group_size=3", f"agent.total_timesteps={ROUNDS * 6 * BUDGET}")
    settings = surrogate_runs.settings_of(name, *given, *words, f"trainer.epochs={BUDGET}")
    return replace(settings, checkpoint=CheckpointSettings(share=share))


def learning_of(
    settings: RunSettings, folder: Path, stop: Callable[[], int] = never
) -> tuple[Learning, bool]:
    """Return a learning in a run's directory, as a new process makes it, and whether it resumed."""
    folder.mkdir(exist_ok=True)
    env = surrogate_runs.environments(settings, BUDGET, 7)
    learning = Learning(settings, env, RunDirectory(folder), stop)
    return learning, learning.load()


def after(steps: int) -> Callable[[], int]:
    """Return a wish to stop after some steps."""
    left = iter(range(steps - 1, -1, -1))
    return lambda: 0 if next(left) else SIGTERM


def stopped(tmp_path: Path, steps: int, settings: RunSettings | None = None) -> Path:
    """Return the folder of one that was stopped after some steps."""
    folder = tmp_path / "run"
    with pytest.raises(Stopped):
        learning_of(settings or settings_of("ppo"), folder, after(steps))[0].run()
    return folder


@dataclass(frozen=True)
class End:
    """What must be equal in the end."""

    metrics: bytes
    agent: bytes
    """Parameters, optimizers, counters, generators, what was stored and what was logged."""
    cost: tuple[int, ...]

    @classmethod
    def of(cls, learning: Learning, folder: Path) -> End:
        done: Learned = learning.learned()
        with borrowed_global_rng(0):
            set_global_rng_state(learning._generators)
            state = with_replay(learning.agent, agent_state_dict(learning.agent))
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
        except Stopped:
            stops += 1
        else:
            break
    assert stops >= ROUNDS * BUDGET
    assert End.of(learning, folder) == undisturbed(*words)


@each("name", ["dqn", "ars"])
@each("steps", [3, 4, 6])
def test_one_stop_in_mid_rollout_or_at_its_end_changes_nothing(tmp_path, undisturbed, name, steps):
    settings = settings_of(name)
    folder = stopped(tmp_path, steps, settings)
    learning, resumed = learning_of(settings, folder)
    assert resumed
    learning.run()
    assert End.of(learning, folder) == undisturbed(name)


@each("steps", [1, 4, 5, 12])
def test_one_that_is_killed_goes_on_from_the_step_before(tmp_path, undisturbed, steps):
    """Nothing is written at the end, the last record may be torn."""
    settings, folder = settings_of("ppo", share=1), tmp_path / "run"
    with pytest.raises(ZeroDivisionError):
        learning_of(settings, folder, killed_after(steps))[0].run()
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"update": 9, "timesteps": 99}\n{"update": 10, "time')
    taken = []
    learning, resumed = learning_of(settings, folder, lambda: taken.append(0) or 0)
    assert resumed == (steps > 1)
    learning.run()
    assert len(taken) == ROUNDS * BUDGET - steps + 1, "steps that were trained again"
    assert End.of(learning, folder) == undisturbed("ppo")


def killed_after(steps: int) -> Callable[[], int]:
    """Return what breaks a learning off."""
    left = iter(range(steps - 1, -1, -1))
    return lambda: 0 if next(left) else 1 // 0


def test_one_that_has_ended_is_taken_up_at_its_end(tmp_path, undisturbed):
    settings, folder = settings_of("ppo"), tmp_path / "run"
    first, _ = learning_of(settings, folder)
    first.run()
    first.save()
    again, resumed = learning_of(settings, folder, stop=lambda: pytest.fail("a step was played"))
    assert resumed
    assert again.finished
    again.run()
    assert End.of(again, folder) == undisturbed("ppo")
    assert again.learned().wall_s >= first.learned().wall_s > 0


def test_the_time_of_all_parts_is_summed(tmp_path):
    settings, folder = settings_of("ppo"), tmp_path / "run"
    learning, _ = learning_of(settings, folder, after(5))
    learning._wall_s = 1000.0
    with pytest.raises(Stopped):
        learning.run()
    learning, _ = learning_of(settings, folder)
    learning.run()
    assert 1000.0 < learning.learned().wall_s < 1100.0


def test_without_checkpoints_a_stop_leaves_none(tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(Stopped) as stopped:
        learning_of(settings_of("ppo", share=0), folder, after(3))[0].run()
    assert stopped.value.signal == SIGTERM
    assert not (folder / "checkpoints").exists()


def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(tmp_path, undisturbed, caplog):
    settings = settings_of("ppo", share=1)
    folder = stopped(tmp_path, 6, settings)
    damaged = folder / "checkpoints" / "step_000000024" / "agent.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    learning, resumed = learning_of(settings, folder)
    assert resumed
    assert f"{damaged} has" in caplog.text
    learning.run()
    assert End.of(learning, folder) == undisturbed("ppo")


# In slices --------------------------------------------------------------------------------------


@every_agent
def test_one_that_pauses_after_every_update_ends_as_one_that_does_not(tmp_path, undisturbed, name):
    """In the same process, and in one process a slice."""
    settings, folder = settings_of(name), tmp_path / "run"
    learning, _ = learning_of(settings, folder)
    learning.run(until_updates=1)
    assert learning.updates_done == 1
    assert not learning.finished
    learning.run(until_updates=2)
    learning.save()
    learning, resumed = learning_of(settings, folder)
    assert resumed
    assert learning.updates_done == 2
    learning.run(until_updates=3)
    assert learning.finished
    assert End.of(learning, folder) == undisturbed(name)


def test_what_one_has_saved_another_adopts_with_settings_of_its_own(tmp_path, undisturbed):
    donor, _ = learning_of(settings_of("ppo"), tmp_path / "donor")
    donor.run(until_updates=2)
    donor.save(tmp_path / "saved")
    equal, _ = learning_of(settings_of("ppo"), tmp_path / "equal")
    equal.load(tmp_path / "saved")
    equal.run()
    assert End.of(equal, tmp_path / "equal") == undisturbed("ppo")
    other, _ = learning_of(settings_of("ppo", "agent.ent_coef=0.5"), tmp_path / "other")
    other.load(tmp_path / "saved")
    assert other.updates_done == 2
    assert other.agent.ent_coef == 0.5
    for name, value in donor.agent.policy.state_dict().items():
        assert torch.equal(other.agent.policy.state_dict()[name], value)
    other.run()
    end, wanted = End.of(other, tmp_path / "other"), undisturbed("ppo")
    assert end.agent != wanted.agent
    assert end.metrics.splitlines()[:2] == wanted.metrics.splitlines()[:2]


def test_one_of_another_form_is_not_adopted(tmp_path):
    donor, _ = learning_of(settings_of("ppo"), tmp_path / "donor")
    donor.run(until_updates=1)
    donor.save(tmp_path / "saved")
    other, _ = learning_of(settings_of("ppo", "agent.net_arch=[16]"), tmp_path / "other")
    with pytest.raises(ConfigError, match=r"agent\.net_arch was .*, is "):
        other.load(tmp_path / "saved")
    with pytest.raises(DataError, match="nothing has no whole checkpoint"):
        other.load(tmp_path / "nothing")


# Refused ----------------------------------------------------------------------------------------


def test_settings_may_change_if_no_number_does_and_others_are_refused_by_name(tmp_path):
    folder = stopped(tmp_path, 2)
    before = (folder / "checkpoints").stat().st_mtime_ns
    for words, told in (
        (("agent.learning_rate=0.5",), r"learning_rate was 0\.003, is 0\.5$"),
        (("seed=3", "agent.ent_coef=0.1"), r"ent_coef was 0\.003, is 0\.1; seed was 0, is 3"),
        (("agent.net_arch=[8,8]",), r"net_arch was \[8\], is \[8, 8\]"),
    ):
        with pytest.raises(ConfigError, match=rf"agent\.{told}"):
            learning_of(settings_of("ppo", *words), folder)
    assert (folder / "checkpoints").stat().st_mtime_ns == before
    words = ("workers=2", "threads=2", "compare.seeds=3", "name=x")
    assert learning_of(settings_of("ppo", *words, share=0.5), folder)[1]


def test_an_agent_that_chooses_otherwise_than_was_written_down_is_told(tmp_path):
    """As on a machine that rounds otherwise."""
    folder = stopped(tmp_path, 3)
    learning, _ = learning_of(settings_of("ppo"), folder)
    with torch.no_grad():
        bias = learning.agent.policy.action_net.bias
        bias += torch.arange(len(bias))
    with pytest.raises(DataError, match=r"does not come out the same: .* otherwise at step 1"):
        learning.run()


def test_a_checkpoint_that_is_whole_but_of_another_form_is_told(tmp_path):
    folder = tmp_path / "run"
    learning, _ = learning_of(settings_of("ppo"), folder, after(3))
    start = learning._mark_start

    def without_optimizer() -> None:
        start()
        del learning._start["agent"]["parameters"]["policy.optimizer"]

    learning._mark_start = without_optimizer
    with pytest.raises(Stopped):
        learning.run()
    with pytest.raises(DataError, match=r"step_000000012 cannot be gone on from: 'policy.optim"):
        learning_of(settings_of("ppo"), folder)


def test_records_that_are_gone_are_told(tmp_path):
    folder = stopped(tmp_path, 6)
    (folder / "metrics.jsonl").write_text("")
    with pytest.raises(DataError, match=r"metrics.jsonl has 0 records, .* after 1"):
        learning_of(settings_of("ppo"), folder)
