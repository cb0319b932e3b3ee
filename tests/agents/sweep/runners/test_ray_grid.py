"""Sweeps on Ray: results of plain runs, whatever fails, dies or is killed."""

from __future__ import annotations

import hashlib
import signal
import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from automix.agents.jobs.run import train_or_resume
from automix.agents.parallel.ray_session import QUIET, _read_auth_anew
from automix.agents.sweep import resume_sweep, run_sweep
from automix.agents.sweep.folder import SweepDirectory
from automix.agents.sweep.runners.ray_grid import run_grid, sees
from tests.agents.sweep.runners.ray_jobs import troubled
from tests.agents.sweep.stand_ins import WORDS, Inlines, events_by_trial, state
from tests.faults.commands import Command, run

LONG = "agent.total_timesteps=480"
"""Seconds, so that a kill comes in the middle."""


def figures(path: Path) -> dict[str, dict]:
    """Return the figures of each trial that has finished."""
    directory = SweepDirectory(path)
    names = [trial.name for trial in (path / "trials").iterdir()]
    return {name: found for name in names if (found := directory.figures(name))}


def test_a_machine_sees_a_folder_if_the_file_in_it_is_the_same(tmp_path):
    file = tmp_path / "sweep.yaml"
    file.write_text("words: []\n")
    digest = hashlib.sha256(b"words: []\n").hexdigest()
    assert sees(file, digest)
    assert not sees(file, "0" * 64)
    assert not sees(tmp_path / "elsewhere.yaml", digest)


@pytest.mark.ray
@pytest.mark.fault
@pytest.mark.timeout(900)
def test_two_of_six_fail_the_others_finish_and_resume_runs_only_those(tmp_path):
    words = [*WORDS, "seed=0,1,2,13,14,15", "sweep.max_retries=1"]
    path = tmp_path / "s"
    result = run_sweep(words, path, runner=partial(run_grid, job=troubled))
    assert result["finished"] == 4
    errors = {failure["words"]: failure["error"] for failure in result["failed"]}
    assert errors["seed=13"] == "it broke"
    assert errors["seed=14"].startswith("its process or its machine died 2 times")
    happened = events_by_trial(path)
    told = Counter(tuple(happened[trial]) for trial in happened)
    assert told == {
        ("planned", "started", "finished"): 3,
        ("planned", "started", "failed"): 1,  # its own fault: not tried again
        ("planned", "started", "retried", "failed"): 1,
        ("planned", "started", "retried", "finished"): 1,
    }
    (path / "mended").touch()
    result = resume_sweep(path, runner=partial(run_grid, job=troubled))
    assert (result["finished"], result["failed"]) == (6, [])
    again = [trial for trial in happened if events_by_trial(path)[trial] != happened[trial]]
    assert sorted(again) == sorted(trial for trial in happened if happened[trial][-1] == "failed")
    plain = tmp_path / "plain"
    run_sweep(words, plain, runner=Inlines().runs(train_or_resume))
    assert figures(path) == figures(plain)


@pytest.mark.ray
def test_a_trial_on_two_cores_has_the_same_numbers(tmp_path):
    words = [*WORDS, "seed=0"]
    run_sweep([*words, "sweep.cpus_per_trial=2"], tmp_path / "two")
    run_sweep(words, tmp_path / "one", runner=Inlines().runs(train_or_resume))
    assert figures(tmp_path / "two") == figures(tmp_path / "one")
    assert len(figures(tmp_path / "one")) == 1


# A cluster of two nodes on this machine ----------------------------------------------------------


@pytest.fixture
def cluster(monkeypatch):
    """A head that runs nothing and two nodes of one core, on the loopback, with a token."""
    for name, value in {**QUIET, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "t" * 64}.items():
        monkeypatch.setenv(name, value)
    import ray
    from ray._private import ray_constants
    from ray.cluster_utils import Cluster

    _read_auth_anew()  # another test may have had a Ray of its own
    # Else Ray would take the address of this machine on the network.
    monkeypatch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", False)
    node = {"node_ip_address": "127.0.0.1", "object_store_memory": 10**8}
    cluster = Cluster(
        initialize_head=True, head_node_args={**node, "num_cpus": 0, "include_dashboard": False}
    )
    try:
        cluster.nodes = [cluster.add_node(num_cpus=1, **node) for _ in range(2)]
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.mark.ray
@pytest.mark.fault
@pytest.mark.timeout(900)
def test_a_node_is_killed_in_mid_sweep_and_no_number_changes(tmp_path, cluster):
    words = [*WORDS, LONG, "agent.learning_rate=1e-3,3e-2", "seed=0,1"]
    path = tmp_path / "s"

    def kill():
        ledger = path / "ledger.jsonl"
        while not ledger.exists() or ledger.read_text().count('"started"') < 2:
            time.sleep(0.1)
        cluster.remove_node(cluster.nodes[1], allow_graceful=False)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    result = run_sweep([*words, f"ray.address={cluster.address}"], path)
    killer.join()
    assert (result["finished"], result["failed"]) == (4, [])
    assert sum(told.count("retried") for told in events_by_trial(path).values()) == 1
    plain = tmp_path / "plain"
    run_sweep(words, plain, runner=Inlines().runs(train_or_resume))
    assert figures(path) == figures(plain)


# The command itself, told to stop and killed -----------------------------------------------------


@pytest.mark.ray
@pytest.mark.fault
@pytest.mark.timeout(900)
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_command_can_be_stopped_and_killed_and_goes_on(tmp_path, sent):
    words = ("sweep", *WORDS, LONG, "seed=0,1,2", "--run-dir", "s")
    path = tmp_path / "s"
    command, ledger = Command(tmp_path, *words), path / "ledger.jsonl"
    deadline = time.monotonic() + 200
    while not ledger.exists() or '"started"' not in ledger.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert command.left()
    command.send(sent)
    outcome = command.outcome()
    if sent == signal.SIGKILL:
        assert outcome.code == -sent
    else:
        assert outcome.code == 128 + sent
        assert f"next: python run.py resume {path}" in outcome.err
        assert "Traceback" not in outcome.err
        assert "interrupted" in [told[-1] for told in events_by_trial(path).values()]
        assert state(path) == "interrupted"
    command.assert_nobody_left(90)  # Ray's agents look for a killed cluster for a minute
    again = run(tmp_path, *words)
    assert again.code == 0, again.err
    assert len(figures(path)) == 3
