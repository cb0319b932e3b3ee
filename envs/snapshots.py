"""What snapshots of games have in common: what they are of, and the state of a generator."""

from __future__ import annotations

from typing import Any

import numpy as np

from automix.core.errors import ConfigError

Snapshot = dict[str, Any]
"""Plain data for ``automix.core.snapshots``: everything that the next step depends on."""

Setup = dict[str, str | int]
"""What a game and its snapshot must have in common, by name."""

SETUP = "setup"
"""Where a snapshot says it."""


def check_setup(snapshot: Snapshot, setup: Setup) -> None:
    """Refuse what is not a snapshot of such a game.

    Raises:
        ConfigError: If it is of another, or of none.
    """
    found = snapshot.get(SETUP)
    if not isinstance(found, dict):
        raise ConfigError(
            "this is not a snapshot of an environment",
            "restore what the snapshot() of an environment returned",
        )
    for name, own in setup.items():
        if found.get(name) != own:
            raise ConfigError(
                f"the snapshot is of an environment with {name} {found.get(name)!r}, "
                f"this one has {own!r}",
                "restore it in an environment of the settings that it was taken with",
            )


def not_begun(called: str) -> ConfigError:
    """Return the answer to who calls something too early."""
    return ConfigError(f"{called} was called before reset", "call env.reset() first")


def generator_at(state: Any) -> np.random.Generator:
    """Return a generator that goes on from ``bit_generator.state`` of one of gymnasium's."""
    bits = np.random.PCG64(0)
    bits.state = state
    return np.random.Generator(bits)
