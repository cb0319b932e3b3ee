"""Checkpoints of a run: whole, checked, and no more of them than asked for."""

from __future__ import annotations

from dataclasses import dataclass

from automix.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class CheckpointSettings:
    """How often a run notes where it is, and how much of that is kept."""

    share: float = 0.02
    """The most of the time that checkpoints may take: the next one waits until the last one is that
    small a part. Never more often than once an epoch; 0 writes none, 1 one after every epoch."""
    keep: int = 2
    """The last so many are kept, and the one with the best validation accuracy."""

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ConfigError(
                f"checkpoint.share is {self.share}, wanted a number from 0 to 1",
                "0.02 spends at most 2 % of the time on checkpoints",
            )
        if self.keep < 1:
            raise ConfigError(f"checkpoint.keep is {self.keep}, wanted 1 or more")
