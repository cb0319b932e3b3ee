"""Learned policies that come with the package, found by name."""

from __future__ import annotations

import os
from pathlib import Path

from automix.core.errors import ConfigError, did_you_mean

POLICIES = Path(__file__).parent / "policies"
"""One folder a policy: ``policy.json``, ``policy.safetensors``, ``schedule.yaml``."""

DEFAULT = "worlds"
"""The policy that is meant where none is named: learned on many image sets, nets and budgets."""

AGAIN = "another version of automix wrote it: update automix, or export the policy again"
"""The next step where a file of an export is of another format."""


def shipped(root: Path = POLICIES) -> dict[str, Path]:
    """Return the folders of the policies that come along, by name."""
    return {path.parent.name: path.parent for path in sorted(root.glob("*/policy.json"))}


def policy_folder(given: str | Path, root: Path = POLICIES) -> Path:
    """Return where a policy lies, or its file: the one place that knows what a user may name it by.

    Args:
        given: A path that exists, of an export or of the run that holds it, else the name of a
            policy that comes along.
        root: Where those are.

    Raises:
        ConfigError: If a word is neither; the closest name is offered.
    """
    path, known = Path(given), shipped(root)
    if os.path.isdir(path / "export"):  # unlike pathlib's, no error for a name that is too long
        return path / "export"
    if os.path.exists(path) or path.name != str(given):
        return path
    if path.name in known:
        return known[path.name]
    raise ConfigError(
        f"{path.name!r} is neither a folder nor a policy that comes along."
        f"{did_you_mean(path.name, known)}",
        "give an export folder, such as runs/<name>/export"
        + (f"; policies that come along: {', '.join(known)}" if known else ""),
    )
