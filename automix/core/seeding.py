"""One root seed, many named and independent generators.

A name is a path of strings and numbers, such as ``("group", 3, "order")``. The same root and path
give the same numbers in every process, whatever was drawn elsewhere before. Nothing outside this
module reads or sets a global generator.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

Path = str | int


def seed_sequence(root: int, *path: Path) -> np.random.SeedSequence:
    """Return the seed sequence that belongs to a path under a root seed (>= 0)."""
    key = tuple(zlib.crc32(p.encode()) if isinstance(p, str) else int(p) for p in path)
    return np.random.SeedSequence(root, spawn_key=key)


def generator(root: int, *path: Path) -> np.random.Generator:
    """Return a fresh NumPy generator for a path under a root seed."""
    return np.random.Generator(np.random.PCG64(seed_sequence(root, *path)))


def derived_seed(root: int, *path: Path) -> int:
    """Return an int seed in [0, 2**31) for libraries that take nothing else."""
    return int(seed_sequence(root, *path).generate_state(1)[0] >> 1)


@contextmanager
def borrowed_global_rng(seed: int) -> Iterator[None]:
    """Seed the global generators inside the block and put them back after it.

    timm initialises weights, torch drops out, and stable-baselines3 samples actions from the
    global generators only. They are lent a private state here, so that a caller's own state is
    neither read nor moved.
    """
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002
            random.setstate(python_state)


def global_rng_state() -> dict[str, Any]:
    """Return the state of the global generators as plain data.

    Call it and ``set_global_rng_state`` inside ``borrowed_global_rng`` only.
    """
    return {
        "numpy": np.random.get_state(),  # noqa: NPY002
        "python": random.getstate(),
        "torch": torch.get_rng_state(),
    }


def set_global_rng_state(state: dict[str, Any]) -> None:
    """Let the global generators go on from what ``global_rng_state`` returned."""
    np.random.set_state(state["numpy"])  # noqa: NPY002
    random.setstate(state["python"])
    torch.set_rng_state(state["torch"])
