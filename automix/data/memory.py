"""How much memory images may take."""

from __future__ import annotations

import os
from pathlib import Path

import torch

SHARE = 0.25
"""Of the free memory, what one set may take, and each split of it as floats. A training also
holds the net and the mixed images, and several processes may load at the same time."""

UNKNOWN = 4 * 10**9
"""Bytes taken to be free where the system does not say."""

PIECE = 2**26
"""Bytes of float images that are read in one go. The scale of large images is taken from one such
piece, so that results hang on it: it is fixed, whatever memory there is."""


def fits(size: int, limit_gb: float = 0.0, device: torch.device | None = None) -> bool:
    """Return whether so many bytes of images may be held.

    Args:
        size: Bytes.
        limit_gb: What main memory may hold, in 1e9 bytes; 0 is ``SHARE`` of what is free. It
            says nothing about a GPU, where the share is always the limit.
        device: Where; default main memory.
    """
    if device is not None and device.type == "cuda":
        return size <= SHARE * free_memory(device)
    return size <= (limit_gb * 1e9 if limit_gb > 0 else SHARE * free_memory())


def free_memory(device: torch.device | None = None) -> int:
    """Return the memory that is free, in bytes, as far as the system tells.

    Args:
        device: A GPU, of which a process may have a share only; default main memory.
    """
    if device is not None and device.type == "cuda":
        index = device.index  # None is the current one
        free, total = torch.cuda.mem_get_info(index)
        own = torch.cuda.get_per_process_memory_fraction(index) * total
        return int(min(free, own - torch.cuda.memory_allocated(index)))
    try:
        # Linux: free pages alone would leave out what only caches files.
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        available = next(line for line in lines if line.startswith("MemAvailable:"))
        return int(available.split()[1]) * 1024
    except (OSError, StopIteration, ValueError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf
        return UNKNOWN


def images_a_piece(shape: tuple[int, int, int]) -> int:
    """Return how many float images of a shape (c, h, w) make a piece, at least one."""
    return max(1, PIECE // (4 * shape[0] * shape[1] * shape[2]))
