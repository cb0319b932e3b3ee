"""One tiny run and two worker processes, made once for all tests here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from automix.agents.parallel.process_worker import ProcessWorker
from tests.agents import tiny_run


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Path:
    """The directory of a finished run; read only."""
    return tiny_run.finished(tmp_path_factory)


@pytest.fixture(scope="session")
def processes() -> Iterator[list[ProcessWorker]]:
    """Two processes that nobody kills."""
    workers = [ProcessWorker(index) for index in range(2)]
    yield workers
    for worker in workers:
        worker.close()
