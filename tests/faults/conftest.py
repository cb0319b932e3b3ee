"""What the runs of these tests are compared with."""

from __future__ import annotations

import pytest

from automix.agents.jobs.run import run_train
from tests.agents import tiny_run
from tests.faults.killing import results_of
from tests.faults.runs import WORDS


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory) -> dict[str, object]:
    """What ``runs.WORDS`` come to."""
    path = tmp_path_factory.mktemp("undisturbed") / "run"
    run_train(tiny_run.settings(*WORDS), path)
    return results_of(path)
