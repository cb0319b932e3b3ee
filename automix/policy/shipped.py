"""Learned policies that come with the package, found by name."""

from __future__ import annotations

from pathlib import Path

from automix.core.errors import ConfigError, did_you_mean
from automix.policy.policy import load_policy

POLICIES = Path(__file__).parent / "policies"
"""One folder a policy: ``policy.json``, ``policy.safetensors``, ``schedule.yaml``."""


def shipped(root: Path = POLICIES) -> dict[str, Path]:
    """Return the folders of the policies that come along, by name."""
    return {path.parent.name: path.parent for path in sorted(root.glob("*/policy.json"))}


def policy_folder(given: str, root: Path = POLICIES) -> Path:
    """Return the folder of a policy: a path that exists, else one that comes along.

    Raises:
        ConfigError: If a word is neither; the closest name is offered.
    """
    path, known = Path(given), shipped(root)
    if path.exists() or path.name != given:
        return path
    if given in known:
        return known[given]
    raise ConfigError(
        f"policy={given}: neither a folder nor a policy that comes along."
        f"{did_you_mean(given, known)}",
        "give an export folder, such as policy=runs/<name>/export"
        + (f"; policies that come along: {', '.join(known)}" if known else ""),
    )


def summary_of(folder: Path) -> str:
    """Return what a policy was learned for, in one line.

    Raises:
        DataError: If the folder holds no sound policy.
    """
    about = load_policy(folder).about
    words = [f"{about[key]}" for key in ("agent", "dataset", "model") if key in about]
    words += [f"{about['budget']} epochs"] if "budget" in about else []
    return ", ".join(words)
