"""Errors for users: one line, however long what they name."""

from __future__ import annotations

from automix.core.errors import LONGEST, ConfigError


def test_a_message_of_any_length_keeps_its_beginning_and_its_end():
    for length in (10, LONGEST - 100, 100_000):
        message = ConfigError(f"root is {'x' * length}, wanted a folder").message
        assert len(message) <= LONGEST
        assert message.startswith("root is x")
        assert message.endswith("x, wanted a folder")


def test_an_error_may_be_built_from_one_as_gymnasium_does_between_processes():
    error = ConfigError(ConfigError("the action is -1", "another"))  # type: ignore[arg-type]
    assert (str(error), error.message) == ("the action is -1", "the action is -1")
