"""Actors as workers, and the Rays that they live in."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from numpy.testing import assert_array_equal

from automix.agents.config.settings import RaySettings
from automix.agents.learning.training import make_mix_block
from automix.agents.parallel import ray_session
from automix.agents.parallel.pool import map_in_order, start_workers
from automix.agents.parallel.ray_session import capacity
from automix.agents.parallel.ray_worker import RayWorker, cause_of
from automix.agents.parallel.worker import InlineWorker, WorkerDied, WorkerError
from automix.agents.vec_env.group_vec_env import GroupVecEnv
from automix.core.errors import ConfigError, ResourceError
from automix.envs.worlds import WorldSettings
from tests import tiny
from tests.agents.parallel.calls import count_up, hang, hang_once, refuse_three
from tests.agents.vec_env.test_group_vec_env import played_on, trajectory
from tests.envs import worlds

ROOT = Path(__file__).parents[3]


def test_too_much_is_refused_before_anything_starts(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(ray_session, "_start", lambda *_: pytest.fail("it started"))
    asked = f"asked 512 CPU, cluster has {capacity(RaySettings()).cpus:g}"
    with pytest.raises(ResourceError, match=asked) as refused, start_workers(512, backend="ray"):
        pass
    assert refused.value.exit_code == 4
    assert "backend=local" in refused.value.hint
    four = RaySettings(gpus_per_worker=2.0, cpus_per_worker=0)
    for settings in (four, RaySettings(cpus_per_worker=0)):
        with (
            pytest.raises(ResourceError, match=r"asked \d GPU, cluster has 0"),
            start_workers(2, 1, "cuda", backend="ray", ray=settings),
        ):
            pass


def test_ray_deals_gpus_out_by_itself():
    with (
        pytest.raises(ConfigError, match="wanted cuda"),
        start_workers(1, 1, "cuda:1", backend="ray"),
    ):
        pass


def test_without_ray_there_is_a_hint(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(ResourceError, match=r'pip install "automix\[ray\]"') as missing,
        start_workers(1, backend="ray"),
    ):
        pass
    assert "backend=local" in missing.value.hint


def test_a_ray_that_was_not_tested_is_refused(monkeypatch):
    """Private names of it are used, and kept it quiet and local when it was tested."""
    import ray

    for version, refused in (("2.59.0", True), ("3.0.0", True), ("2.6", True), ("2.60.7", False)):
        monkeypatch.setattr(ray, "__version__", version)
        if not refused:
            assert ray_session._imported() is ray
            continue
        with pytest.raises(ResourceError, match=f"Ray {version} is installed, wanted 2.60") as e:
            ray_session._imported()
        assert "pip install 'ray[tune]==2.60.*'" in e.value.hint


def test_a_cluster_that_does_not_answer_is_told_within_seconds(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    for address in ("127.0.0.1:9", "auto", "ray://127.0.0.1:9", "nonsense"):
        start = time.monotonic()
        with pytest.raises(ResourceError, match=f"ray.address={address}: ") as lost:
            capacity(RaySettings(address=address))
        assert time.monotonic() - start < 10
        assert lost.value.exit_code == 4
        assert "backend=local" in lost.value.hint
    assert os.environ["RAY_ADDRESS"] == "127.0.0.1:9"
    assert "RAY_USAGE_STATS_ENABLED" not in os.environ, "what it set for Ray is gone"


def test_a_port_where_nobody_speaks_is_no_cluster_either(monkeypatch):
    """Connections are refused at once; one that is only dropped takes ``CONNECT_S``."""
    monkeypatch.setattr(ray_session, "CONNECT_S", 0.2)
    monkeypatch.setattr(socket, "create_connection", _too_slow)
    with pytest.raises(ResourceError, match="timed out"):
        capacity(RaySettings(address="192.0.2.1:6379"))


def _too_slow(address: Any, timeout: float) -> Any:
    assert timeout == 0.2
    raise TimeoutError("timed out")


def test_causes_are_told_in_a_few_words():
    from ray import exceptions

    full = (
        "Task was killed due to the node running low on memory.\n"
        "Memory on the node (IP: 10.0.0.1, ID: ab) where the lease was running was 15.2GB / 16.0GB "
        "(0.95), which exceeds the memory usage threshold of 0.95."
    )
    assert cause_of(exceptions.OutOfMemoryError(full)) == "out of memory: 15.2GB / 16.0GB"
    assert cause_of(exceptions.NodeDiedError("The node died.")) == "its machine is gone"
    assert cause_of(exceptions.RayActorError()) == str(exceptions.RayActorError())
    killed = "The actor died.\nWorker exit type: SYSTEM_ERROR Worker exit detail: End of file."
    assert cause_of(exceptions.WorkerCrashedError()) == "killed or crashed"
    assert cause_of(RuntimeError(killed)) == "killed or crashed"


# With a Ray ---------------------------------------------------------------------------------------


def on_ray(test: Any) -> Any:
    """Mark a test that starts Ray, which warns of what is not ours."""
    return pytest.mark.ray(pytest.mark.filterwarnings("ignore")(test))


@pytest.fixture(scope="module")
def actors():
    """Two actors that may die often."""
    with start_workers(2, backend="ray", step_timeout_s=60.0, max_restarts=20) as workers:
        yield workers


def pid(state: dict[str, Any]) -> int:
    return os.getpid()


def threads(state: dict[str, Any]) -> tuple[int, str]:
    return torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]


@on_ray
def test_a_ray_of_our_own_leaves_nothing_and_a_cluster_is_left(tmp_path):
    """Twice in one process, one inside another, then a cluster; see ``ray_lives``."""
    # Short, for the sake of Ray's sockets.
    folders = {name: Path(f"/tmp/{name}-{os.getpid()}") for name in ("h", "t")}
    for folder in folders.values():
        folder.mkdir()
    own = {"HOME": str(folders["h"]), "TMPDIR": str(folders["t"]), "RAY_ADDRESS": "127.0.0.1:9"}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tests.agents.parallel.ray_lives"],
            cwd=ROOT,
            env={**os.environ, **own},
            capture_output=True,
            text=True,
            timeout=400,
        )
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
    finally:
        for folder in folders.values():
            shutil.rmtree(folder, ignore_errors=True)
    for life in (found["first"], found["second"]):
        assert set(life["listening"]) <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
        assert life["listening"]
        assert life["inner"]
        assert life["auth"] == "token"
        assert life["cpus"] == 1
    assert not found["up"]
    assert found["left"] == []
    assert found["environment"]
    assert found["sigterm"]
    assert found["files"] == []
    assert found["joined"] == {"cpus": [2, 2], "up": False}


@on_ray
def test_actors_keep_state_hand_errors_over_and_live_on(actors):
    for worker in actors:
        worker.submit(count_up, 2)
    assert [worker.result() for worker in actors] == [2, 2]
    worker = actors[0]
    worker.submit(threads)
    assert worker.result() == (1, "1")
    worker.submit(dict.__getitem__, "nobody")
    with pytest.raises(WorkerError, match=r"^worker 0 failed: KeyError: 'nobody'$"):
        worker.result()
    worker.submit(refuse_three, 3)
    with pytest.raises(ConfigError, match="no threes"):
        worker.result()
    worker.submit(count_up, 2)
    assert worker.result() == 4
    worker.close()
    worker.submit(count_up, 2)
    assert worker.result() == 2


@on_ray
@pytest.mark.fault
def test_a_killed_actor_is_never_called_again_by_ray(actors):
    """Ray would go on with a fresh object, which counts from 0 again."""
    worker = actors[0]
    worker.submit(count_up, 3)
    worker.result()
    worker.submit(pid)
    os.kill(worker.result(), signal.SIGKILL)
    worker.submit(count_up, 1)
    with pytest.raises(WorkerDied, match=r"^worker 0 died \(killed or crashed\)$"):
        worker.result()
    before = worker.restarts
    worker.restart()
    assert worker.restarts == before + 1
    worker.submit(count_up, 1)
    assert worker.result() == 1


@on_ray
@pytest.mark.fault
def test_an_actor_that_hangs_is_killed(actors, tmp_path, monkeypatch):
    """The time to start, and to import what the first function needs, does not count."""
    for worker in actors:
        monkeypatch.setattr(worker, "_step_timeout_s", 3.0)
        worker.close()
        worker.submit(count_up, 1)
    for worker in actors:
        worker.result()
    actors[1].submit(hang)
    with pytest.raises(WorkerDied, match=r"hung for more than 3 s"):
        actors[1].result()
    actors[1].restart()
    actors[1].submit(count_up, 1)
    assert actors[1].result() == 1
    before = sum(worker.restarts for worker in actors)
    items = [(tmp_path / "one",), (tmp_path / "two",), (tmp_path / "one",)]
    assert map_in_order(actors, hang_once, items) == ["done"] * 3
    assert sum(worker.restarts for worker in actors) >= before + 2


@on_ray
def test_an_actor_without_a_place_is_told(actors, monkeypatch):
    monkeypatch.setattr(RayWorker, "place_s", 1.0)
    worker = RayWorker(8, cpus=1)
    worker.submit(count_up, 1)
    with pytest.raises(ResourceError, match=r"worker 8 found no place .* asked 1 CPU"):
        worker.result()


@on_ray
def test_a_lean_actor_does_without_torch(actors):
    """Asked by a function that travels by value, because this module imports torch."""

    def modules(state: dict[str, Any]) -> list[str]:
        return list(sys.modules)

    found = []
    for lean in (True, False):
        worker = RayWorker(6, cpus=0, lean=lean)
        worker.submit(modules)
        found.append("torch" in worker.result())
        worker.close()
    assert found == [False, True]


@on_ray
def test_an_actor_without_a_gpu_refuses_to_work_on_one(actors):
    worker = RayWorker(9, cpus=0, device="cuda")
    worker.submit(count_up, 1)
    with pytest.raises(ResourceError, match="Ray has assigned no GPU"):
        worker.result()
    worker.close()


@on_ray
@pytest.mark.fault
def test_actors_give_what_this_process_gives_even_when_one_is_killed(actors):
    """Bit for bit; killed between two steps, and gone on from a state."""
    make_block = partial(
        make_mix_block,
        *(2, 1, [WorldSettings(worlds.FAMILY, tiny.trainer_settings(epochs=2))]),
        *(worlds.settings(), "cpu"),
    )

    def played(workers: Any, kill: bool) -> list[Any]:
        env = GroupVecEnv(make_block, 3, workers, 5)
        found = trajectory(env, 3)
        state = env.state_dict()
        assert all(block.flags.writeable for block in state["blocks"])
        if kill:
            workers[0].submit(pid)
            os.kill(workers[0].result(), signal.SIGKILL)
        found += played_on(env, 2)
        other = GroupVecEnv(make_block, 3, workers, 5)
        other.load_state_dict(state)
        return found + played_on(other, 2)

    wanted = played([InlineWorker()], kill=False)
    before = sum(worker.restarts for worker in actors)
    got = played(actors, kill=True)
    assert sum(worker.restarts for worker in actors) == before + 1
    assert len(got) == len(wanted)
    for one, other in zip(got, wanted, strict=True):
        assert_array_equal(one, other)
