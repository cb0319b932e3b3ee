"""The door: help at once, one form of error, exit codes that scripts can read."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import automix
import automix.agents.jobs.run
from automix.agents.cli.main import COMMANDS
from automix.agents.config.compose import groups
from automix.core.errors import AutomixError, ConfigError, DataError, ResourceError
from tests.agents import tiny_run

ROOT = Path(__file__).resolve().parents[2]

HEAVY = ("torch", "timm", "numpy", "gymnasium", "stable_baselines3", "hydra", "ray", "rich", "yaml")


def python(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], cwd=cwd, capture_output=True, text=True, timeout=120
    )


def test_help_lists_every_command(cli):
    for words in (["--help"], ["-h"]):
        shown = cli(*words)
        assert shown.code == 0
        for command in COMMANDS:
            assert f"\n  {command} " in shown.out


def test_every_command_file_is_listed():
    files = {path.stem for path in (ROOT / "agents/cli/commands").glob("[!_]*.py")}
    assert files == set(COMMANDS)


def test_every_command_has_help_with_its_options(cli):
    for command in COMMANDS:
        shown = cli(command, "--help")
        assert shown.code == 0
        options = ["--json", "--quiet"]
        if command in ("train", "compare"):
            options += ["--run-dir", "--overwrite", "--dry-run"]
        for option in options:
            assert option in shown.out, (command, option)


def test_help_imports_nothing_heavy_and_answers_at_once():
    code = f"""
import sys, time
sys.argv = ["run.py", "train", "--help"]
from automix.agents.cli.main import main
try:
    main()
except SystemExit as end:
    assert end.code == 0
print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
"""
    start = time.monotonic()
    done = python("-c", code)
    assert done.stderr.strip() == "[]"
    assert "python run.py train seed=3" in done.stdout
    assert time.monotonic() - start < 10  # 0.1 s alone; shared machines are slow


def test_the_version_is_that_of_the_package(cli):
    shown = cli("--version")
    assert (shown.code, shown.out) == (0, f"automix {automix.__version__}\n")


def test_nothing_at_all_shows_the_help(cli):
    shown = cli()
    assert shown.code == 2
    assert "Usage:" in shown.out + shown.err


def test_misuse_is_one_line_with_the_next_step(cli):
    for words, says in [
        (["trian"], "'trian' is not a command. Did you mean 'train'?"),
        (["train", "--dryrun"], "--dryrun"),
        (["train", "--run-dir"], "'--run-dir' requires an argument"),
        (["export", "somewhere"], "Missing option '--out'"),
        (["list", "mixes", "more"], "unexpected extra argument"),
        (["--nope"], "--nope"),
    ]:
        outcome = cli(*words)
        outcome.assert_refused(2, says, hint="")
        assert outcome.out == "", words


def test_each_kind_of_error_has_its_exit_code(cli, monkeypatch):
    for kind, code in (AutomixError, 1), (ConfigError, 2), (DataError, 3), (ResourceError, 4):

        def fail(*args, kind=kind):
            raise kind("it failed", "try again")

        monkeypatch.setattr("automix.agents.cli.catalogue.catalogue", fail)
        outcome = cli("list")
        assert outcome.code == code
        assert outcome.err == "error: it failed\nhint: try again\n"
        assert outcome.out == ""

    def without_hint(*args):
        raise DataError("it failed")

    monkeypatch.setattr("automix.agents.cli.catalogue.catalogue", without_hint)
    assert cli("list").err == "error: it failed\n"


def test_a_defect_is_one_line_too_and_a_traceback_only_with_v(cli, monkeypatch):
    def fail(*args):
        raise ValueError("over\ntwo lines")

    monkeypatch.setattr("automix.agents.cli.catalogue.catalogue", fail)
    outcome = cli("list")
    assert outcome.code == 1
    assert outcome.error == "error: ValueError: over two lines"
    assert "-v" in outcome.hint
    assert "Traceback" not in outcome.err
    assert "Traceback" in cli("list", "-v").err


@pytest.mark.usefixtures("ctrl_c_is_heard")
def test_ctrl_c_and_sigterm_end_with_their_signals_codes(cli, monkeypatch, tmp_path):
    """A run that was interrupted says so, and where it can be read."""
    for number, (raised, code) in enumerate([(signal.SIGINT, 130), (signal.SIGTERM, 143)]):

        def interrupt(*args, raised=raised, **kwargs):
            for _ in range(2):  # the first one would end the epoch
                os.kill(os.getpid(), raised)
                time.sleep(0.1)
            time.sleep(10)

        monkeypatch.setattr(automix.agents.jobs.run, "learn", interrupt)
        run_dir = tmp_path / f"run{number}"
        outcome = cli("train", *tiny_run.WORDS, "--run-dir", run_dir)
        assert outcome.code == code
        assert "Traceback" not in outcome.err
        assert '"state": "interrupted"' in (run_dir / "status.json").read_text(encoding="utf-8")


def test_the_real_process_ends_with_the_same_codes(tmp_path):
    """``run.py`` adds nothing to what the other tests see inside this process."""
    run = str(ROOT / "run.py")
    unknown = python(run, "train", "task=cifr10", cwd=tmp_path)
    assert unknown.returncode == 2
    assert unknown.stdout == ""
    assert unknown.stderr.splitlines() == [
        "error: 'task=cifr10': there is no task 'cifr10'. Did you mean 'cifar10'?",
        f"hint: task: {', '.join(groups()['task'])}",
    ]
    missing = python(run, "report", "nowhere", cwd=tmp_path)
    assert missing.returncode == 3
    assert [line.split(":")[0] for line in missing.stderr.splitlines()] == ["error", "hint"]
    assert list(tmp_path.iterdir()) == []


def test_what_the_system_refuses_is_no_defect(cli, monkeypatch):
    for error, code, told in (
        (FileNotFoundError(2, "No such file or directory", "a/b"), 3, "a/b: No such file"),
        (IsADirectoryError(21, "Is a directory", "x.json"), 3, "x.json: Is a directory"),
        (NotADirectoryError(20, "Not a directory", b"x/y"), 3, "x/y: Not a directory"),
        (PermissionError(13, "Permission denied", "x"), 4, "x: Permission denied"),
        (OSError(24, "Too many open files", "x"), 4, "x: Too many open files"),
        (OSError(12, "Cannot allocate memory"), 4, "the system refused: Cannot allocate memory"),
        (OSError(28, "No space left on device"), 4, "stdout cannot be written: No space left"),
        (MemoryError("Unable to allocate 9 TiB"), 4, "out of memory: Unable to allocate 9 TiB"),
        (MemoryError(), 4, "out of memory"),
    ):

        def fail(*args, error=error):
            raise error

        monkeypatch.setattr("automix.agents.cli.catalogue.catalogue", fail)
        outcome = cli("list")
        outcome.assert_refused(code, told)
        assert "defect" not in outcome.err


def test_a_word_that_is_not_utf8_is_refused(cli):
    for words in (["train", "--run-dir", "\udcff"], ["report", "a\udce4"], ["list", "\udc80"]):
        cli(*words).assert_refused(2, "is not UTF-8", "rename")
    assert list(Path.cwd().iterdir()) == []


def test_the_empty_word_is_no_path(cli):
    for words in (
        *(["train", "--run-dir", ""], ["compare", "--run-dir", ""], ["sweep", "--run-dir", ""]),
        *(
            ["resume", ""],
            ["report", ""],
            ["export", "", "--out", "x"],
            ["export", "x", "--out", ""],
        ),
        ["gallery", "--out", ""],
    ):
        cli(*words).assert_refused(2, "it is empty, wanted a path", hint="")
    cli("evaluate", "").assert_refused(2, "'' is not a contestant")
    assert list(Path.cwd().iterdir()) == []


def test_a_pipe_may_be_closed_early():
    command = [sys.executable, "run.py", "list", "mixes"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as listing:
        listing.stdout.close()  # at once, so that nothing can be written
        assert listing.stderr.read() == ""
    assert listing.returncode == 0
