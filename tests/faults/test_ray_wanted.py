"""Rows 14, 15: Ray is asked for more than there is, or is not there."""

from __future__ import annotations

import pytest

from automix.agents.parallel.machine import usable_cores
from tests.faults.commands import run
from tests.faults.runs import WORDS
from tests.faults.trouble import ray_is_not_installed, ray_may_not_start

pytestmark = pytest.mark.fault


@pytest.mark.row(14)
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("workers=64",), f"asked 64 CPU, cluster has {usable_cores()}"),
        (("workers=1", "ray.gpus_per_worker=64"), "asked 64 GPU, cluster has "),
    ],
)
def test_more_than_there_is_is_refused_before_ray_is_started(tmp_path, words, told):
    own = ("backend=ray", *words, "--run-dir", "run")
    outcome = run(tmp_path, "train", *WORDS, *own, fault=ray_may_not_start)
    assert outcome.code == 4
    assert outcome.error.startswith(f"error: {told}")
    assert "backend=local" in outcome.hint


@pytest.mark.row(15)
@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_a_cluster_that_does_not_answer_is_named(tmp_path, address):
    words = ("backend=ray", f"ray.address={address}", "workers=1", "--run-dir", "run")
    outcome = run(tmp_path, "train", *WORDS, *words, fault=ray_may_not_start)
    assert outcome.code == 4
    told = f"error: no Ray cluster can be joined at ray.address={address}: "
    assert outcome.error.startswith(told)
    assert "Connection refused" in outcome.error
    assert "backend=local" in outcome.hint


@pytest.mark.row(15)
def test_a_ray_that_is_not_installed_is_asked_for(tmp_path):
    words = ("backend=ray", "workers=1", "--run-dir", "run")
    outcome = run(tmp_path, "train", *WORDS, *words, fault=ray_is_not_installed)
    assert outcome.code == 4
    assert outcome.error == 'error: ray is not installed: pip install "automix[ray]"'
    assert "backend=local" in outcome.hint


@pytest.mark.row(15)
def test_nobody_else_needs_it(tmp_path):
    outcome = run(tmp_path, "train", *WORDS, "--run-dir", "run", fault=ray_is_not_installed)
    assert outcome.code == 0, outcome.err
