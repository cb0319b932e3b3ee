"""One run that learned and compared, and its page."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from automix.agents.report import write_report
from tests.agents.report.made_run import make_run


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """A run that learned and compared; not to be written to."""
    return make_run(tmp_path_factory.mktemp("runs") / "trained")


@pytest.fixture(scope="session")
def index(trained) -> Path:
    """Its page; not to be written to."""
    return write_report(trained)


@pytest.fixture
def run(trained, tmp_path) -> Path:
    """A run that learned and compared, one's own."""
    without_report = shutil.ignore_patterns("report")
    return Path(shutil.copytree(trained, tmp_path / "run", ignore=without_report))
