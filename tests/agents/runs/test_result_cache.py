"""What is on record is not done again, whatever was cut off; what is under way goes on."""

from __future__ import annotations

import json

import pytest

from automix.agents.parallel.worker import InlineWorker
from automix.agents.runs.result_cache import ResultCache, TaskCheckpoint


def test_a_piece_of_work_goes_on_from_the_state_that_it_left(tmp_path, caplog):
    checkpoint = TaskCheckpoint(tmp_path / "x.safetensors", share=1.0)
    assert checkpoint.load() is None
    checkpoint.saver().save_if_due(lambda: {"epoch": 3})
    assert checkpoint.load() == {"epoch": 3}
    checkpoint.path.write_bytes(b"half of it")
    assert checkpoint.load() is None
    assert "x.safetensors is not a snapshot" in caplog.text
    assert "starts afresh" in caplog.text


def test_nothing_is_saved_without_a_file_or_before_it_is_due(tmp_path):
    TaskCheckpoint(None, share=1.0).saver().save_if_due(lambda: pytest.fail("nowhere to"))
    assert TaskCheckpoint(None).load() is None
    TaskCheckpoint(tmp_path / "x").saver().save_if_due(lambda: pytest.fail("too early"))


CALLS: list[int] = []


def work(state, number, checkpoint):
    CALLS.append(number)
    return {"square": number * number, "third": number / 3}


def played(path, numbers=range(5), what="playing"):
    CALLS.clear()
    done = []
    items = [(number,) for number in numbers]
    results = ResultCache(path).map(what, [InlineWorker()], work, items, lambda: done.append(1))
    assert len(done) == len(items)
    return results, list(CALLS)


@pytest.fixture
def told(caplog):
    caplog.set_level("WARNING", logger="automix")
    return caplog


def test_a_finished_piece_is_not_done_again(tmp_path):
    path = tmp_path / "finished.jsonl"
    first, calls = played(path)
    assert calls == [0, 1, 2, 3, 4]
    again, calls = played(path)
    assert calls == []
    assert again == first == [{"square": n * n, "third": n / 3} for n in range(5)]
    assert played(path, what="comparing")[1] == [0, 1, 2, 3, 4]  # another name, other work


def test_a_line_that_was_cut_off_is_done_again(tmp_path, told):
    for cut in (1, 5, 90):
        path = tmp_path / f"{cut}.jsonl"
        first, _ = played(path)
        path.write_bytes(path.read_bytes()[:-cut])
        again, calls = played(path)
        assert again == first
        assert calls == ([4] if cut < 50 else [3, 4])
        assert "what follows is done again" in told.text
        told.clear()
        assert played(path) == (first, [])
        assert told.text == ""


def test_nothing_is_believed_after_a_broken_line(tmp_path, told):
    for number, line in enumerate((b"nonsense\n", b"[1]\n", b'{"name": "x"}\n', b"\xff\n", b"\n")):
        path = tmp_path / f"{number}.jsonl"
        first, _ = played(path)
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join([*lines[:2], line, *lines[2:]]))
        assert played(path) == (first, [2, 3, 4]), line
        assert f"{number}.jsonl, line 3" in told.text


def test_without_a_file_nothing_is_recorded(tmp_path):
    assert played(None)[1] == [0, 1, 2, 3, 4]
    assert list(tmp_path.iterdir()) == []


def half_done(state, number, checkpoint):
    if number == 2:
        checkpoint.saver().save_if_due(lambda: {"reached": number})
        raise KeyboardInterrupt
    return (checkpoint.load() or {}).get("reached", "nothing")


def finished(state, number, checkpoint):
    return (checkpoint.load() or {}).get("reached", "nothing")


def test_a_piece_that_was_under_way_finds_its_state_which_goes_when_it_is_done(tmp_path):
    path, items = tmp_path / "finished.jsonl", [(n,) for n in range(3)]
    with pytest.raises(KeyboardInterrupt):
        ResultCache(path, 1.0).map("playing", [InlineWorker()], half_done, items)
    left = sorted(file.name for file in tmp_path.iterdir())
    assert left == ["finished.jsonl", "playing_2.safetensors"]
    results = ResultCache(path, 1.0).map("playing", [InlineWorker()], finished, items)
    assert results == ["nothing", "nothing", 2]
    assert [file.name for file in tmp_path.iterdir()] == ["finished.jsonl"]


def test_a_result_is_known_by_name(tmp_path):
    cache = ResultCache(tmp_path / "finished.jsonl")
    assert cache.get("found/grid") is None
    cache.add("found/grid", {"epochs": 3})
    assert cache.get("found/grid") == {"epochs": 3}
    assert ResultCache(tmp_path / "finished.jsonl").get("found/grid") == {"epochs": 3}
    record = json.loads((tmp_path / "finished.jsonl").read_text(encoding="utf-8"))
    assert record == {"name": "found/grid", "result": {"epochs": 3}}
