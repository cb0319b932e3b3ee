"""The kernel benchmark on planted times, and once on images so small that it takes a moment."""

from __future__ import annotations

import pytest
import torch

from benchmarks.harness import Section, interleaved
from benchmarks.measures import kernels
from benchmarks.measures.kernels import Cell

TINY = Cell(8, 4, 1, batches=2)


def planted(cell: Cell = kernels.GRID[0], **changes: float) -> dict[kernels.Key, float]:
    """A copy of 10 us; ours 25, derange 35, fresh 45; peers 60 and 70, of which some change."""
    us = {"ours": 25.0, "derange": 35.0, "fresh": 45.0} | changes
    peers = {"batch": {"timm batch": 60.0, "torchvision": 70.0}, "image": {"timm elem": 60.0}}
    seconds: dict[kernels.Key, float] = {("copy", "", ""): 10e-6 * cell.batches}
    for method, per in kernels.methods():
        for who, took in (us | (peers[per] if method in kernels.PEERED else {})).items():
            seconds[method, per, who] = 1e-6 * took * cell.batches
    return seconds


def judged(*rows: kernels.Row) -> list[bool]:
    return [target.met for target in kernels.section(list(rows), []).targets]


def test_a_row_tells_one_batch_in_copies_and_against_the_fastest_peer():
    wanted = {
        **{"px": 32, "dtype": "float32", "threads": 2, "method": "mixup", "per": "batch"},
        **{"copy us": 10.0, "ours us": 25.0, "copies": 2.5},
        **{"derange copies": 3.5, "fresh copies": 4.5},
        **{"fastest peer": "timm batch", "peer us": 60.0, "times faster": 2.4},
    }
    for batches, batch in (1, "64"), (16, "16 x 64"):
        cell = Cell(32, 64, 2, batches=batches)
        assert kernels.rows_of(cell, planted(cell))[0] == pytest.approx(wanted | {"batch": batch})


def test_every_method_has_a_row_and_only_those_of_the_papers_a_peer():
    rows = kernels.rows_of(TINY, planted())
    assert {row["method"] for row in rows if row["per"] == "image"} == {"mixup", "cutmix", "rmix"}
    assert {row["method"] for row in rows if row["per"] == "batch"} == {"mixup", "cutmix"}
    assert {row["method"] for row in rows if "peer us" in row} == {"mixup", "cutmix"}


def test_targets_are_met_in_every_cell_or_missed():
    good, slow = (kernels.rows_of(cell, planted(cell)) for cell in kernels.GRID[:2])
    assert judged(*good, *slow) == [True] * 5
    slow = kernels.rows_of(kernels.GRID[1], planted(ours=31.0))
    assert judged(*good, *slow) == [False, False, False, False, True]
    measured = kernels.section([*good, *slow], []).targets[0].measured
    assert measured == "3.1 copies at worst (mixup, 32 px, batch 64, threads 2); 2 of 4 meet it"


def test_other_dtypes_and_many_batches_a_call_are_shown_and_not_judged():
    good = kernels.rows_of(kernels.GRID[0], planted())
    others = [
        row
        for cell in (*kernels.TRAINER, *kernels.DTYPES)
        for row in kernels.rows_of(cell, planted(cell, ours=900.0))
    ]
    assert judged(*good, *others) == [True] * 5


def test_a_peer_that_refuses_leaves_its_cells_empty():
    seconds = planted()
    for who in ("timm batch", "torchvision"):
        del seconds["mixup", "batch", who]
    row = kernels.rows_of(TINY, seconds)[0]
    assert not {"fastest peer", "peer us", "times faster"} & set(row)


def test_a_case_that_raises_is_told_and_left_out():
    def refuse():
        raise RuntimeError("no bytes\nplease")

    able, refused = kernels.usable(
        {("mixup", "batch", "x"): refuse, ("mixup", "batch", "y"): lambda: None}
    )
    assert list(able) == [("mixup", "batch", "y")]
    assert refused == ["x refuses mixup per batch: no bytes"]


def test_cells_in_which_others_had_the_cores_are_told():
    one, two = kernels.GRID[:2]
    assert not kernels.disturbed({one: 0.0, two: 0.1})
    (line,) = kernels.disturbed({one: 0.0, two: 0.9})
    assert line.endswith(": 32 px, batch 64, float32, threads 2 (90 %)")


def test_tiny_images_are_measured_and_the_table_holds_them(monkeypatch):
    monkeypatch.setattr("benchmarks.harness.TURN_SECONDS", 0.0)
    monkeypatch.setattr("benchmarks.harness.SAMPLE_SECONDS", 0.0)
    cases, refused = kernels.usable(kernels.cases_of(TINY))
    assert not refused
    rows = kernels.rows_of(TINY, interleaved(cases, 0.0, at_least=1))
    assert isinstance(kernels.section(rows, []), Section)
    assert all(row["ours us"] > 0 for row in rows)


def test_uint8_images_are_mixed_without_a_float_in_between():
    cell = Cell(8, 4, 1, dtype=torch.uint8)
    images, _ = kernels.data(cell)
    assert images.dtype == torch.uint8
    assert images.max() > 200
    able, _ = kernels.usable(kernels.cases_of(cell))
    assert ("mixup", "image", "ours") in able
