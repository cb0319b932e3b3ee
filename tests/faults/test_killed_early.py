"""Rows 27, 28: what is killed while it writes its few files: a new run, an export, a report."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from automix.agents.jobs.run import resume, run_compare
from automix.agents.learning.export import copy_export
from automix.agents.report import page, write_report
from automix.agents.report.run_files import read_run
from automix.agents.runs.rundir import STATUS, RunDirectory
from tests.agents import tiny_run
from tests.cases import named
from tests.cli.conftest import run  # noqa: F401 (a fixture)
from tests.faults.killing import ended, forked, killing_itself, results_of

pytestmark = pytest.mark.fault


def killed_at(write: int, folder: Path, job: Callable[[], object]) -> bool:
    """Do a job in a child that dies at a write below a folder; return whether it did."""

    def dying() -> None:
        killing_itself(folder, write)
        job()

    code = ended(forked(dying))
    assert code in (0, -signal.SIGKILL), code
    return code != 0


@pytest.mark.row(27)
def test_a_comparison_needs_nothing_but_its_directory_from_the_first_file_on(
    run,  # noqa: F811
    tmp_path,
    monkeypatch,
):
    """Whoever resumes it is elsewhere, and the policy that it was given is gone."""
    words = ("compare.contestants=[agent,none]", "compare.seeds=1", "compare.kinds=[40@0.0]")
    settings = tiny_run.settings(*words, "trainer.epochs=1", "policy=given")
    (tmp_path / "elsewhere").mkdir()
    shutil.copytree(run / "export", tmp_path / "given")
    monkeypatch.chdir(tmp_path)
    run_compare(settings, tmp_path / "whole")
    begun, write = 0, 0
    while begun < 2:  # at the first write after the status too
        with named("write", write):
            home, path = tmp_path / str(write), tmp_path / f"run{write}"
            shutil.copytree(run / "export", home / "given")
            monkeypatch.chdir(home)
            assert killed_at(write, path, lambda path=path: run_compare(settings, path))
            if (path / STATUS).exists():
                shutil.rmtree(home / "given")
                monkeypatch.chdir(tmp_path / "elsewhere")
                resume(path)
                begun += 1
                assert results_of(path) == results_of(tmp_path / "whole")
            else:
                RunDirectory.create(path, settings, overwrite=False, job="compare")
        write += 1
    assert write > 12  # the files before the status were killed one by one


@pytest.mark.row(28)
@pytest.mark.parametrize("command", ["export", "report"])
def test_what_was_killed_leaves_nothing_behind_once_it_is_done_again(
    run,  # noqa: F811
    tmp_path,
    monkeypatch,
    command,
):
    html, pictures = page.render(read_run(run))
    # Drawing takes a second, and all pictures are written alike.
    monkeypatch.setattr(page, "render", lambda read: (html, pictures[:1]))
    own = Path(shutil.copytree(run, tmp_path / "run"))
    out = own / "report" if command == "report" else tmp_path / "out"

    def job() -> None:
        write_report(own) if command == "report" else copy_export(own, out)

    job()
    whole, write, left = files(out), 0, 0
    while True:
        shutil.rmtree(out)
        if not killed_at(write, out, job):
            break
        left += sum(name.startswith(".") for name in files(out))
        job()
        assert files(out) == whole, write
        write += 1
    assert left > 1  # or else there was nothing to remove


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
