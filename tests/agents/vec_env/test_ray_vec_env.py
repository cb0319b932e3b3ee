"""Environments in Ray actors. What a ``WorkerVecEnv`` does in any worker is tested on its own."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from automix.agents.config.settings import RaySettings
from automix.agents.parallel import ray_session as session
from automix.agents.parallel.ray_session import ray_session
from automix.agents.parallel.worker import WorkerError
from automix.agents.vec_env import ray_vec_env
from automix.agents.vec_env.env_host import EnvError
from automix.agents.vec_env.ray_vec_env import RayVecEnv
from automix.core.errors import ConfigError, ResourceError
from automix.core.seeding import borrowed_global_rng
from tests.agents.vec_env.envs import KeptWalk, Walk, lived, same, wrapped_walk, zeros

ROOT = Path(__file__).resolve().parents[3]
RAY = pytest.mark.ray
FAULT = pytest.mark.fault
HALF = partial(RayVecEnv, workers=2, cpus_per_worker=0.5)


def test_arguments_are_checked_before_ray_is_touched():
    for words, message in (
        ({"workers": 0}, "workers is 0, wanted 1 or more"),
        ({"threads": 0}, "threads is 0, wanted 1 or more"),
        ({"max_restarts": -1}, "max_restarts is -1, wanted 0 or more"),
        ({"step_timeout_s": float("nan")}, "step_timeout_s is nan"),
        ({"cpus_per_worker": -1}, "cpus_per_worker is -1"),
        ({"checkpoint_share": -1}, "checkpoint_share is -1"),
    ):
        with pytest.raises(ConfigError, match=message):
            RayVecEnv([Walk], **words)


def test_functions_that_cannot_be_sent_and_one_environment_for_two_are_refused():
    lock, lone = threading.Lock(), Walk()
    for env_fns, message in (
        ([Walk, lambda: lock], r"env_fns\[1\] cannot be sent to an actor: .*lock"),
        ([lambda: lone, Walk, lambda: lone], r"env_fns\[2\] returns the .* of env_fns\[0\]"),
        ([partial(wrapped, lone), partial(wrapped, lone)], r"env_fns\[1\] returns the env"),
    ):
        with pytest.raises(ConfigError, match=message):
            ray_vec_env._check_functions(env_fns)
    ray_vec_env._check_functions([Walk, lambda: Walk(), partial(wrapped, Walk())])


def wrapped(env: Walk) -> Walk:
    return env


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One Ray of two cores for all tests here."""
    with ray_session(RaySettings(), cpus=2):
        yield


def actors_of(env: VecEnv) -> set[int]:
    return set(env.env_method("pid"))


def gone(pids: set[int], within_s: float = 10.0) -> bool:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return True
        time.sleep(0.1)
    return False


@RAY
def test_an_agent_learns_the_same_in_actors_and_leaves_ray_alone(cluster):
    import ray

    weights, pids = [], set()
    on_ray = {"vec_env_cls": RayVecEnv, "vec_env_kwargs": {"workers": 2}}
    for words in ({}, on_ray):
        with borrowed_global_rng(0):
            env = make_vec_env(KeptWalk, 4, seed=3, **words)
            agent = PPO("MlpPolicy", env, n_steps=8, batch_size=16, n_epochs=2, seed=1)
            agent.learn(96)
        weights.append(agent.policy.state_dict())
        pids = actors_of(env)
        env.step_async(zeros(env))
        env.close()
        env.close()
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]), name
    assert len(pids) == 2
    assert os.getpid() not in pids
    assert ray.is_initialized()
    assert gone(pids)


@RAY
def test_an_environment_that_raises_in_an_actor_is_named_and_its_traceback_logged(
    cluster, tmp_path, caplog
):
    sign = tmp_path / "sign"
    env = HALF([Walk, partial(Walk, str(sign))])
    env.reset()
    ends = []
    for _ in range(9):
        ends += [i for i in env.step(zeros(env))[3] if "terminal_observation" in i]
    for array in (
        *(info["terminal_observation"] for info in ends),
        *env.env_method("action_masks"),
    ):
        array[...] = 0  # what comes out may be written to
    assert ends
    sign.write_text("fail")
    with (
        caplog.at_level(logging.DEBUG, "automix"),
        pytest.raises(EnvError, match="environment 1: step failed: ValueError: no such place"),
    ):
        env.step(zeros(env))
    assert "in obey" in caplog.text
    with pytest.raises(AttributeError, match="nobody"):
        env.get_attr("nobody")
    env.close()


@RAY
def test_a_second_one_takes_what_is_free_or_is_refused_at_once(cluster, monkeypatch):
    monkeypatch.setattr(session, "FREE_S", 2.0)
    with pytest.raises(ResourceError, match="asked 3 CPU, cluster has 2"):
        RayVecEnv([Walk] * 3, workers=3)
    first = RayVecEnv([Walk] * 3, workers=1)
    waits(1.0)
    second = RayVecEnv([Walk] * 3)
    assert len(actors_of(second)) == 1
    start = time.monotonic()
    for words in ({}, {"workers": 1}):
        with pytest.raises(ResourceError, match=r"asked 1 CPU .* of this Ray 0 and 0 are free"):
            RayVecEnv([Walk] * 3, **words)
    assert time.monotonic() - start < 60
    third = RayVecEnv([Walk] * 3, cpus_per_worker=0)  # which there always is room for
    for env in (first, second, third):
        same(env.reset()[:, 0], np.zeros(3, dtype=np.float32))
        env.close()
    waits(2.0)


def waits(cpus: float) -> None:
    """Wait until Ray knows that so many cores are free."""
    deadline = time.monotonic() + 30
    while session._free().cpus < cpus and time.monotonic() < deadline:
        time.sleep(0.1)


TWO = """
import os
import gymnasium
from automix.agents.vec_env.ray_vec_env import RayVecEnv

def make():
    return gymnasium.make("CartPole-v1")

if __name__ == "__main__":
    os.environ["RAY_USAGE_STATS_ENABLED"] = "mine"
    train = RayVecEnv([make], workers=1)
    os.environ["SET_MEANWHILE"] = "1"
    test = RayVecEnv([make], workers=1)
    train.reset()
    train.close()
    print(test.reset().shape)  # the Ray that they share is still there
    test.close()
    import ray
    print(ray.is_initialized(), os.environ["SET_MEANWHILE"], os.environ["RAY_USAGE_STATS_ENABLED"])
    unclosed = RayVecEnv([make], workers=1)
    unclosed.reset()
"""


@RAY
@pytest.mark.parametrize("script", ["two.py", "example"])
def test_a_ray_of_their_own_ends_with_the_last_and_leaves_nothing(tmp_path, script):
    """Closed in any order, or not at all; the environment's variables are left alone."""
    mark = f"AUTOMIX_TEST={uuid4().hex}"
    path = ROOT / "examples" / "ray_vec_env.py"
    if script == "two.py":
        path = tmp_path / script
        path.write_text(TWO)
    done = subprocess.run(
        [sys.executable, str(path)],
        env={**os.environ, **dict([mark.split("=")]), "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if script == "two.py":
        assert done.stdout.splitlines() == ["(1, 4)", "False 1 mine"]
        assert done.stderr == ""
        path.unlink()
    else:
        assert "episodes, the last ones with return" in done.stdout
    assert gone(marked(mark))
    assert list(tmp_path.iterdir()) == []


def marked(mark: str) -> set[int]:
    """Return the processes that inherited a mark."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in path.read_bytes():
                found.add(int(path.parent.name))
        except OSError:
            continue
    return found


@RAY
@FAULT
def test_an_actor_that_is_lost_changes_nothing(cluster, tmp_path, caplog, monkeypatch):
    """Killed in mid-step, killed between two calls, and hung in mid-step."""
    sign = tmp_path / "sign"
    env = HALF([partial(wrapped_walk, sign=str(sign)) for _ in range(4)], step_timeout_s=6.0)
    calm, seen = DummyVecEnv([wrapped_walk] * 4), actors_of(env)
    for number, word in enumerate(("die", "kill", "hang"), start=1):
        if word == "kill":
            os.kill(env.env_method("pid", indices=[3])[0], signal.SIGKILL)
        else:
            sign.write_text(word)
        caplog.clear()
        with caplog.at_level(logging.WARNING, "automix"):
            same(lived(env), lived(calm))
        assert not sign.exists()
        assert env.restarts == number
        (told,) = caplog.messages
        assert re.match(r"worker [01] died \(.*\): restarted", told)
        assert "hung" in told or word != "hang"
        seen |= actors_of(env)
    assert len(seen) == 2 + 3
    # One that hangs does not keep us from leaving.
    monkeypatch.setattr("automix.agents.vec_env.worker_vec_env.CLOSE_S", 1.0)
    sign.write_text("hang")
    env.step_async(zeros(env))
    env.close()
    assert gone(seen)


@RAY
@FAULT
def test_an_actor_that_dies_too_often_ends_it_and_nothing_is_left(cluster, tmp_path):
    sign = tmp_path / "sign"
    env = HALF([Walk, partial(Walk, str(sign))], max_restarts=1)
    env.reset()
    pids = actors_of(env)
    sign.write_text("die always")
    assert env.step(zeros(env))[2].tolist() == [False, True]  # the first death ends the episode
    with pytest.raises(WorkerError, match="worker 1 died 2 times"):
        env.step(zeros(env))
    assert env.closed
    assert gone(pids)
