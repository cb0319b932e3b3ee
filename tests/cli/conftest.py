"""The command line inside this process: words in; exit code, stdout and stderr out."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from automix.agents.cli.main import main
from tests.agents import tiny_run


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line that says what is wrong."""
        (line,) = (line for line in self.err.splitlines() if line.startswith("error: "))
        return line

    @property
    def hint(self) -> str:
        """The one line that says what to do, right after it."""
        lines = self.err.splitlines()
        (line,) = (line for line in lines if line.startswith("hint: "))
        assert lines.index(line) == lines.index(self.error) + 1 == len(lines) - 1
        return line

    def assert_refused(self, code: int, error: str, hint: str | None = None) -> None:
        """Fail unless it ended with this code, error and hint; "" is any hint, None also none."""
        assert self.code == code, self.err
        assert error in self.error
        assert hint is None or hint in self.hint


Cli = Callable[..., Outcome]


@pytest.fixture
def cli(monkeypatch, capsys, tmp_path) -> Iterator[Cli]:
    """Run ``python run.py <words>`` in an empty folder."""
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)
    log = logging.getLogger("automix")
    terminate = signal.getsignal(signal.SIGTERM)

    def call(*words: str | Path) -> Outcome:
        monkeypatch.setattr("sys.argv", ["run.py", *(str(word) for word in words)])
        log.handlers.clear()
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Outcome(ended.value.code, out, err)

    yield call
    signal.signal(signal.SIGTERM, terminate)
    log.handlers.clear()
    log.setLevel(logging.NOTSET)
    log.propagate = True


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Path:
    """The directory of a finished run; read only."""
    return tiny_run.finished(tmp_path_factory)


def everything_below(folder: Path) -> list[str]:
    """Names of all files and folders."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture
def ctrl_c_is_heard() -> Iterator[None]:
    """Let SIGINT through, here and in child processes; tests in the background may not hear it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
