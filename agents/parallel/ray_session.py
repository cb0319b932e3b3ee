"""A Ray of our own that starts and stops with the command, or a cluster that is there already."""

from __future__ import annotations

import importlib
import logging
import math
import os
import secrets
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from automix.agents.parallel.machine import Capacity, usable_cores
from automix.core.errors import ResourceError
from automix.core.extras import require

if TYPE_CHECKING:  # settings bring torch along, which a lean actor does without
    from automix.agents.config.settings import RaySettings

TESTED = "2.60"
"""The Ray whose private names are used here: see ``_start``; others are refused."""

CONNECT_S = 5.0
"""Seconds that a cluster has to answer."""

FREE_S = 10.0
"""Seconds in which what was just closed gives back what it had."""

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # the old output can be switched off
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a process without a GPU sees none
    "RAY_worker_niceness": "0",  # else workers starve beside whatever else runs
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the search, and Ray with it
}
"""Read when ray is imported, started, and by its processes."""

_CHANGED = (
    *QUIET,
    *("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"),
    *("RAY_CLIENT_MODE", "PYTHONBREAKPOINT"),  # Ray sets these itself
)
"""Variables that are put back after a session; all others are the caller's."""


@contextmanager
def ray_session(settings: RaySettings, cpus: float = 0, gpus: float = 0) -> Iterator[None]:
    """Have a Ray inside the block: the one that is up already, a cluster, or a local one.

    A local one is seen by this machine only, asks for a token that never leaves the memory of its
    processes, sends nothing anywhere, and is gone after the block with all its files. A cluster is
    left as it was. Sessions that overlap share one Ray, which ends with the last of them.

    Args:
        settings: Where.
        cpus: Wanted in all.
        gpus: Wanted in all. A local Ray that is started for this offers no more, or, where nothing
            is asked for, all that the machine has.

    Raises:
        ResourceError: If there is no Ray to be had, it is too small, or too little of one that is
            up already is free.
    """
    global _open
    _enter(settings, cpus, gpus)
    _open += 1
    try:
        yield
    finally:
        _open -= 1
        if not _open:
            _ending.close()


_open = 0
"""Sessions of this process that are open."""

_ending = ExitStack()
"""What ends the Ray that they share."""


def _enter(settings: RaySettings, cpus: float, gpus: float) -> None:
    """Have a Ray, and let ``_ending`` know how it ends."""
    with ExitStack() as stack:
        stack.callback(_put_back, {name: os.environ.get(name) for name in _CHANGED})
        os.environ.update(QUIET)
        ray = _imported()
        # Deaths are told by those who find them: Ray would print a paragraph of its own.
        stack.enter_context(_switched(ray._private.worker, "_worker_logs_enabled", False))
        if ray.is_initialized():
            _check(cpus, gpus, capacity_now())
            _check_free(cpus, gpus)
            if _open:
                return  # and what the first of these sessions set stays set
        elif settings.address:
            stack.callback(ray.shutdown)
            _join(settings.address)
            _check(cpus, gpus, capacity_now())
        else:
            _check(cpus, gpus, _machine())
            # Short, because sockets in it may have 107 letters.
            folder = tempfile.TemporaryDirectory(prefix="automix-", ignore_cleanup_errors=True)
            stack.enter_context(folder)
            stack.callback(ray.shutdown, wait_for_processes=True)
            _start(folder.name, cpus, gpus)
        _ending.push(stack.pop_all())


def _put_back(environment: Mapping[str, str | None]) -> None:
    """Set variables to what they were; None takes one away."""
    for name, value in environment.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


def capacity(settings: RaySettings) -> Capacity:
    """Return what the Ray that is up has, or else what the Ray of the settings has or would have.

    Raises:
        ResourceError: If it is a cluster that cannot be reached.
    """
    ray = sys.modules.get("ray")
    if ray and ray.is_initialized():
        return capacity_now()
    if not settings.address:
        return _machine()
    with ray_session(settings):
        return capacity_now()


def free(settings: RaySettings) -> Capacity:
    """Return what nobody has taken of the Ray that is up, or else what ``capacity`` does.

    Ray takes a moment to know.
    """
    ray = sys.modules.get("ray")
    return _free() if ray and ray.is_initialized() else capacity(settings)


def _imported() -> Any:
    """Import Ray.

    Raises:
        ResourceError: If it is not there, or another one than was tested: private names are used.
    """
    require("ray", hint="or use backend=local")
    try:
        import ray
    except ImportError as error:
        raise ResourceError(f"Ray cannot be imported: {error}", "use backend=local") from None
    if not ray.__version__.startswith(f"{TESTED}."):
        raise ResourceError(
            f"Ray {ray.__version__} is installed, wanted {TESTED}",
            f"pip install 'ray[tune]=={TESTED}.*', or use backend=local",
        )
    return ray


def _check(cpus: float, gpus: float, there: Capacity) -> None:
    for what, asked, has in (("CPU", cpus, there.cpus), ("GPU", gpus, there.gpus)):
        if asked > has + 1e-6:
            raise ResourceError(
                f"asked {asked:g} {what}, cluster has {has:g}",
                "give fewer workers, a smaller ray.cpus_per_worker or ray.gpus_per_worker, or "
                "backend=local",
            )


def _check_free(cpus: float, gpus: float) -> None:
    """Refuse what others leave no room for; what was just closed gives its room back soon."""
    deadline = time.monotonic() + FREE_S
    while cpus > (there := _free()).cpus + 1e-6 or gpus > there.gpus + 1e-6:
        if time.monotonic() > deadline:
            raise ResourceError(
                f"asked {cpus:g} CPU and {gpus:g} GPU, of this Ray {there.cpus:g} and "
                f"{there.gpus:g} are free",
                "close other actors first, or give fewer workers, or cpus_per_worker=0",
            )
        time.sleep(0.1)


def _machine() -> Capacity:
    """Return what a local Ray may take: the cores and GPUs of this machine."""
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return Capacity(usable_cores(), gpus)


def capacity_now() -> Capacity:
    """Return what the Ray that is up has."""
    import ray

    return _counted(ray.cluster_resources())


def _free() -> Capacity:
    import ray

    return _counted(ray.available_resources())


def _counted(resources: Mapping[str, float]) -> Capacity:
    return Capacity(resources.get("CPU", 0.0), resources.get("GPU", 0.0))


def _start(folder: str, cpus: float, gpus: float) -> None:
    """Start a local Ray that keeps its files in a folder and its ports to this machine."""
    import ray
    from ray._private import ray_constants, services

    there = _machine()
    # Ray would write a token to the home directory.
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    os.environ.pop("RAY_AUTH_TOKEN_PATH", None)
    _read_auth_anew()
    with (
        _own_sigterm(),
        # Else Ray replaces 127.0.0.1 by the address on the network. (It is for systems whose
        # firewalls ask people, and read from RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER at the import.)
        _switched(ray_constants, "ENABLE_RAY_CLUSTER", False),
        # Without a dashboard this process serves usage reports alone, and asks the network which
        # cloud this is even where they are switched off. It says None where it cannot start.
        _switched(services, "start_api_server", lambda *args, **words: (None, None)),
    ):
        try:
            ray.init(
                address="local",  # whatever RAY_ADDRESS says
                num_cpus=math.ceil(cpus) if cpus else int(there.cpus),
                num_gpus=math.ceil(gpus) if cpus or gpus else int(there.gpus),
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=2**27,  # what travels is small
                _node_ip_address="127.0.0.1",
                _temp_dir=folder,
            )
        except Exception as error:  # Ray raises this very class where it gives up waiting
            raise ResourceError(
                f"Ray did not start: {_one_line(error)}",
                "it waits half a minute: try again when the machine is less busy, or backend=local",
            ) from error
    if ray.util.get_node_ip_address() != "127.0.0.1":
        raise ResourceError(
            "Ray listens beyond this machine", "this version is not known: use backend=local"
        )


def _join(address: str) -> None:
    """Join a cluster.

    Raises:
        ResourceError: If it does not answer, within seconds.
    """
    import ray

    try:
        _knock(address)
        _read_auth_anew()
        with _own_sigterm():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # of a socket, of Ray, of its client: all say what is wrong
        raise ResourceError(
            f"no Ray cluster can be joined at ray.address={address}: {_one_line(error)}",
            "is it up, and its token in ~/.ray/auth_token? Without a cluster: leave ray.address "
            "empty, or backend=local",
        ) from error


def _knock(address: str) -> None:
    """Open a connection and close it: Ray itself waits two minutes for one that is not there."""
    from ray._private.services import canonicalize_bootstrap_address

    place = address.removeprefix("ray://")
    host, _, port = (canonicalize_bootstrap_address(place) or "").rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), CONNECT_S):
        pass


def _read_auth_anew() -> None:
    """Let Ray forget what the last Ray of this process asked for: it remembers mode and token."""
    raylet: Any = importlib.import_module("ray._raylet")  # compiled, and without types

    raylet.Config.initialize("")
    raylet.AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep the handler of SIGTERM, which Ray replaces."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


@contextmanager
def _switched(module: Any, name: str, value: Any) -> Iterator[None]:
    """Have something of Ray's be something else for a while."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
