"""``evaluate`` starts the workers that its settings say, on every backend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from automix.agents.jobs.run import evaluate
from automix.agents.parallel import pool
from automix.agents.parallel.ray_worker import RayWorker
from automix.agents.parallel.worker import InlineWorker, Worker
from tests.agents import tiny_run
from tests.faults.killing import without_times

WORDS = ("compare.seeds=1", "compare.kinds=[40@0.0]")
ON_RAY = ("backend=ray", "workers=2", "ray.cpus_per_worker=0.5", "max_restarts=7")


def scored(*words: str) -> object:
    settings = tiny_run.settings(*WORDS, *words)
    return without_times(evaluate(settings, "fixed:cutmix@0.5", ""))


def test_all_that_is_set_about_workers_counts(monkeypatch):
    asked: dict[str, Any] = {}

    @contextmanager
    def started(count: int, *args: Any, **settings: Any) -> Iterator[Sequence[Worker]]:
        asked.update(settings, count=count)
        yield [InlineWorker()]

    monkeypatch.setattr(pool, "start_workers", started)
    scored(*ON_RAY, "step_timeout_s=60")
    assert asked["ray"].cpus_per_worker == 0.5
    del asked["ray"]
    assert asked == {"count": 2, "backend": "ray", "max_restarts": 7, "step_timeout_s": 60.0}


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
def test_actors_score_as_this_process_does(monkeypatch):
    started = []
    start = RayWorker._start
    monkeypatch.setattr(RayWorker, "_start", lambda worker: started.append(start(worker)))
    on_ray = scored(*ON_RAY)
    assert len(started) == 2
    assert on_ray == scored()
