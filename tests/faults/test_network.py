"""Row 24: nothing is sent anywhere, and nothing listens to anybody else."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.commands import ROOT, Command
from tests.faults.killing import results_of
from tests.faults.runs import WORDS
from tests.faults.trouble import PATIENCE_S, Trouble

pytestmark = [pytest.mark.fault, pytest.mark.row(24)]

GUARD = Path(__file__).parent / "guard"
LISTENS = "0A"
"""A state of /proc/net/tcp."""


def guarded(tmp_path: Path) -> dict[str, str]:
    return {"PYTHONPATH": str(GUARD), "AUTOMIX_GUARD": str(tmp_path / "noted")}


def python(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=tmp_path,
        env={**os.environ, **guarded(tmp_path)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


@pytest.mark.parametrize(
    "program",
    [
        "import socket; socket.create_connection(('192.0.2.1', 80), 1)",
        "import socket; socket.socket().bind(('', 0))",
        "import socket; socket.getaddrinfo('example.org', 80)",
        "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 80))",
    ],
)
def test_the_guard_sees_it(tmp_path, program):
    assert python(tmp_path, "-c", program).returncode == 1
    assert (tmp_path / "noted").exists()


def test_a_run_with_workers_reaches_for_nothing(tmp_path, undisturbed):
    words = ("workers=2", "--run-dir", "run")
    done = python(tmp_path, str(ROOT / "run.py"), "train", *WORDS, *words)
    assert done.returncode == 0, done.stderr
    assert results_of(tmp_path / "run") == undisturbed
    assert not (tmp_path / "noted").exists()


@pytest.mark.ray
def test_nor_does_one_on_ray_which_listens_to_this_machine_only(tmp_path, undisturbed):
    """Whatever Ray is elsewhere, and whatever its own defaults are."""
    words = ("backend=ray", "workers=2", "--run-dir", "run")
    trouble = Trouble(tmp_path)
    elsewhere = {"RAY_ADDRESS": "127.0.0.1:1", "RAY_USAGE_STATS_ENABLED": "1"}
    command = Command(
        tmp_path, "train", *WORDS, *words, fault=Guarded(trouble, guarded(tmp_path) | elsewhere)
    )
    trouble.waiting()
    everybody = [command.pid, *command.left()]
    assert {"raylet", "gcs_server"} <= {program(pid) for pid in everybody}
    addresses = {address for pid in everybody for address in listening(pid)}
    assert addresses  # Ray's own
    assert {address for address in addresses if not address.startswith(("127.", "::1"))} == set()
    for pid in everybody[1:]:
        environ = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"RAY_USAGE_STATS_ENABLED=1" not in environ
        if program(pid) in ("raylet", "gcs_server"):  # others write their title over it
            assert b"RAY_USAGE_STATS_ENABLED=0" in environ
        assert b"dashboard.py" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    trouble.let_go()
    outcome = command.outcome()
    assert outcome.code == 0, outcome.err
    assert results_of(tmp_path / "run") == undisturbed
    noted = tmp_path / "noted"
    assert not noted.exists(), noted.read_text()
    command.assert_nobody_left()


class Guarded:
    """Trouble, and the guard in the command's process and all that it starts."""

    def __init__(self, trouble: Trouble, environment: dict[str, str]) -> None:
        self.trouble, self.environment = trouble, environment

    def __call__(self) -> None:
        os.environ.update(self.environment)
        sys.path.insert(0, str(GUARD))
        sys.modules.pop("sitecustomize", None)
        import sitecustomize  # noqa: F401

        self.trouble()


def program(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/exe").resolve().name
    except OSError:
        return ""


def listening(pid: int) -> Iterator[str]:
    """Yield the addresses at which a process waits for connections."""
    try:
        files = [os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return
    own = {found[1] for name in files if (found := re.fullmatch(r"socket:\[(\d+)\]", name))}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == LISTENS and inode in own:
                yield address_of(local.partition(":")[0])


def address_of(text: str) -> str:
    """Read an address as the kernel writes it: words of four bytes, in the machine's order."""
    words = [bytes.fromhex(text[i : i + 8]) for i in range(0, len(text), 8)]
    packed = b"".join(word[::-1] if sys.byteorder == "little" else word for word in words)
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    return socket.inet_ntop(family, packed).removeprefix("::ffff:")
