"""What this machine offers."""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Capacity:
    """Cores and GPUs: what there is, or what one worker takes; may be fractions."""

    cpus: float
    gpus: float = 0.0


def fit(there: Capacity, one: Capacity) -> int:
    """Return how many workers that take ``one`` fit; those that take nothing get a core each."""
    counts = []
    if one.cpus:
        counts.append(_times(there.cpus, one.cpus))
    if one.gpus:
        whole = int(there.gpus)
        # A share of 0.3 fits three times on each GPU, never across two.
        shared = whole * _times(1.0, one.gpus) + _times(there.gpus - whole, one.gpus)
        counts.append(shared if one.gpus < 1 else _times(there.gpus, one.gpus))
    return min(counts, default=int(there.cpus))


def _times(there: float, one: float) -> int:
    return int(there / one + 1e-6)  # a third of a GPU three times is one GPU


def equal_share(gpus: float, workers: int) -> float:
    """Return the share of a GPU with which so many workers fit; 1 where each gets one."""
    # Ray counts in ten thousandths.
    return 1.0 if workers <= gpus else int(1e4 / -(-workers // max(gpus, 1))) / 1e4


def usable_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def use_threads(wanted: int) -> int:
    """Let torch use so many threads in this process, at most one a core; return how many.

    More would wait for each other, and starve whoever else is at work here.
    """
    import torch

    threads = min(wanted, usable_cores())
    torch.set_num_threads(threads)
    return threads


def keep_memory() -> None:
    """Tell glibc to keep freed blocks of up to 256 MB for the next operation.

    By default it hands large ones back to the kernel, operation after operation, and the page
    faults then cost more than the arithmetic of a small net. Other systems are left alone.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # musl has no such call
        return
    for option in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
        set_option(option, 2**28)


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
