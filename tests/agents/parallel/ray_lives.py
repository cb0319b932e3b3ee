"""A process in which Rays start and stop; prints what they did, as JSON.

Run with an empty HOME, and RAY_ADDRESS set to where nobody answers: neither must matter.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

from automix.agents.config.settings import RaySettings
from automix.agents.parallel.pool import start_workers
from automix.agents.parallel.ray_session import capacity, ray_session
from automix.agents.parallel.ray_worker import RayWorker


def children() -> list[Any]:
    """Return the processes below this one."""
    import psutil  # Ray brings it along

    return [p for p in psutil.Process().children(recursive=True) if p.status() != "zombie"]


def listening() -> list[str]:
    """Return the addresses at which this process and those below it wait for callers."""
    import psutil

    sockets = [
        socket for p in (psutil.Process(), *children()) for socket in p.net_connections("inet")
    ]
    return sorted({socket.laddr.ip for socket in sockets if socket.status == "LISTEN"})


def auth(state: dict[str, Any]) -> str:
    """Return how this process proves who it is."""
    return os.environ.get("RAY_AUTH_MODE", "")


def alone() -> dict[str, Any]:
    """Start a local Ray, one inside it, and look."""
    with ray_session(RaySettings(), cpus=1):
        with ray_session(RaySettings(), cpus=1):
            pass
        inner = ray.is_initialized()
        worker = RayWorker(0, lean=True)
        worker.submit(auth)
        return {
            "inner": inner,
            "auth": worker.result(),
            "listening": listening(),
            "cpus": ray.cluster_resources()["CPU"],
        }


def joined() -> dict[str, Any]:
    """Join a cluster twice; the first leaves it as it was."""
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False}
    )
    settings = RaySettings(address=cluster.address)
    try:
        found = [capacity(settings).cpus]
        with start_workers(2, backend="ray", ray=settings) as workers:
            for worker in workers:
                worker.submit(auth)
            for worker in workers:
                worker.result()
            found.append(ray.cluster_resources()["CPU"])
    finally:
        cluster.shutdown()
    return {"cpus": found, "up": ray.is_initialized()}


def lives() -> dict[str, Any]:
    """Go through all of it."""
    signal.signal(signal.SIGTERM, on_sigterm := lambda *_: None)
    before = dict(os.environ)
    found: dict[str, Any] = {"first": alone(), "up": ray.is_initialized()}
    found["second"] = alone()
    found["left"] = [" ".join(process.cmdline()) for process in children()]
    found["environment"] = dict(os.environ) == before
    found["sigterm"] = signal.getsignal(signal.SIGTERM) is on_sigterm
    places = [Path(os.environ["HOME"]), Path(os.environ["TMPDIR"])]
    found["files"] = [str(path) for place in places for path in place.rglob("*")]
    found["joined"] = joined()
    return found


if __name__ == "__main__":
    print(json.dumps(lives()))
