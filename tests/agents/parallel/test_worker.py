"""What every worker does, shown on the one in this process."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch

from automix.agents.parallel.worker import InlineWorker
from automix.core.errors import ResourceError


def test_a_worker_keeps_its_state_between_functions():
    worker = InlineWorker()
    worker.submit(dict.__setitem__, "kept", 3)
    worker.result()
    worker.submit(dict.get, "kept")
    assert worker.result() == 3
    worker.close()
    worker.submit(dict.get, "kept")
    assert worker.result() is None


def greedy(state: dict[str, Any], error: Exception) -> None:
    raise error


def test_too_little_memory_is_an_error_with_a_hint(monkeypatch):
    """Torch's is raised here; the cache of the device is emptied once the call is over."""
    emptied = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(1))
    for error in (torch.OutOfMemoryError("CUDA out of memory.\nMore"), MemoryError()):
        with pytest.raises(
            ResourceError, match=r"^out of memory: (CUDA out of|MemoryError)"
        ) as short:
            InlineWorker().submit(greedy, error)
        assert "agent.stacked_groups" in short.value.hint
        assert "device=cpu" in short.value.hint
        assert "\n" not in str(short.value)
    assert emptied == [1, 1]


def test_what_a_call_held_is_free_when_its_memory_was_not_enough():
    held = []

    def greedy_call(state):
        tensor = torch.ones(3)
        held.append(weakref.ref(tensor))
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(ResourceError):
        InlineWorker().submit(greedy_call)
    assert held[0]() is None
