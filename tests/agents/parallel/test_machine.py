"""How many workers fit into what there is."""

from __future__ import annotations

from automix.agents.config.settings import AgentSettings, RaySettings, RunSettings
from automix.agents.parallel.devices import worker_count
from automix.agents.parallel.machine import Capacity, equal_share, fit
from automix.agents.parallel.pool import gpus_per_worker


def test_how_many_fit():
    for there, one, wanted in (
        ((8, 0), (1, 0), 8),
        ((8, 0), (3, 0), 2),
        ((0.3, 0), (0.1, 0), 3),
        ((2, 0), (3, 0), 0),
        ((8, 2), (1, 1), 2),
        ((8, 4), (1, 2), 2),
        ((8, 2), (1, 1 / 3), 6),
        ((8, 2), (1, 0.4), 4),  # twice on each GPU, never across two
        ((8, 0.5), (1, 0.5), 1),  # of a GPU that another has a part of
        ((4, 2), (1, 0.3), 4),
        ((8, 0), (1, 0.5), 0),
        ((2, 4), (0, 0.5), 8),
        ((2, 0), (0, 0), 2),
    ):
        assert fit(Capacity(*there), Capacity(*one)) == wanted, (there, one)


def test_gpus_are_dealt_out_equally_and_never_beyond_one(monkeypatch):
    cases = ((1, 1, 1.0), (2, 1, 0.5), (3, 1, 0.3333), (3, 2, 0.5), (2, 4, 1.0))
    for count, gpus, share in cases:
        there = Capacity(8, gpus)
        assert equal_share(gpus, count) == share
        assert fit(there, Capacity(0, share)) >= count
        monkeypatch.setattr(
            "automix.agents.parallel.pool.capacity", lambda settings, there=there: there
        )
        assert gpus_per_worker(count, "cuda", RaySettings()) == share
        assert gpus_per_worker(count, "cuda", RaySettings(gpus_per_worker=0.1)) == 0.1
        assert gpus_per_worker(count, "cpu", RaySettings()) == 0


def test_there_are_as_many_workers_as_places_or_blocks(monkeypatch):
    for there, ray, device, wanted in (
        (Capacity(4, 0), {}, "cpu", 4),
        (Capacity(64, 0), {}, "cpu", 8),
        (Capacity(4, 0), {"cpus_per_worker": 2.0}, "cpu", 2),
        (Capacity(4, 0), {"cpus_per_worker": 8.0}, "cpu", 1),
        (Capacity(64, 2), {}, "cuda", 2),
        (Capacity(64, 2), {"gpus_per_worker": 1 / 3}, "cuda", 6),
        (Capacity(3, 2), {"gpus_per_worker": 0.25}, "cuda", 3),
    ):
        monkeypatch.setattr(
            "automix.agents.parallel.devices.capacity", lambda settings, there=there: there
        )
        settings = RunSettings(
            backend="ray", ray=RaySettings(**ray), agent=AgentSettings(groups=8, stacked_groups=1)
        )
        assert worker_count(settings, device) == wanted, (there, ray, device)
