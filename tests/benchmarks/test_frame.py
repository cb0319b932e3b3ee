"""The frame of the benchmarks, on planted figures and a planted clock: nothing here is timed."""

from __future__ import annotations

import json
import sys
from collections import Counter
from functools import cache

import pytest
import torch

from automix.agents.runs.rundir import describe_machine
from benchmarks import command, harness, measures
from benchmarks.harness import Section, Target, interleaved, threads

TOY = '''
"""Count to three."""

from benchmarks.harness import Section, Target

SECONDS = 2.0


def run(seconds):
    """Tell how much time was given."""
    return Section(
        title="Counting",
        about="Apples against pears.",
        columns=("what", "count", "seconds"),
        rows=[
            {"what": "apples", "count": 3, "seconds": seconds},
            {"what": "pears", "count": 12.3456},
        ],
        targets=[
            Target.of("apples", {"here": 3.0}, at_most=4),
            Target.of("pears", {}, at_least=1),
        ],
        notes=["Counted by hand."],
    )
'''
BROKEN = """
SECONDS = 1.0

def run(seconds):
    raise RuntimeError("no apples")
"""

machine = cache(describe_machine)  # which takes a second


@pytest.fixture
def drop(tmp_path, monkeypatch):
    """Drops a file into the folder of the benchmarks; nothing but such files is found."""
    monkeypatch.setattr(command, "describe_machine", machine)
    monkeypatch.setattr(measures, "__path__", [str(tmp_path)])
    dropped = []

    def one(name: str, text: str) -> None:
        (tmp_path / f"{name}.py").write_text(text)
        dropped.append(name)

    yield one
    for name in dropped:
        sys.modules.pop(f"benchmarks.measures.{name}", None)
        vars(measures).pop(name, None)


# Finding -----------------------------------------------------------------------------------------


def test_every_benchmark_of_the_folder_is_found_and_nothing_else():
    found = command.discover()
    assert {"kernels", "startup"} <= set(found)
    assert "ray_crowd" not in found, "it measures nothing itself"
    for module in found.values():
        assert module.__doc__
        assert 0 < module.SECONDS < command.ALL_SECONDS


def test_a_file_dropped_into_the_folder_is_a_benchmark(drop):
    drop("toy", TOY)
    drop("no_benchmark", "run = print")
    assert list(command.discover()) == ["toy"]


def test_only_what_is_asked_for_is_imported(drop):
    drop("toy", TOY)
    drop("unreadable", "raise OSError")
    assert list(command.choose(["toy"])) == ["toy"]


def test_an_unknown_name_is_told_in_one_line_and_by_exit_code_2(drop, capsys):
    drop("toy", TOY)
    assert command.main(argv=["--only", "toi"]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err == "error: 'toi' is not a benchmark. Did you mean 'toy'?; known: toy\n"


# Running and showing -----------------------------------------------------------------------------


def test_a_table_shows_columns_units_and_three_figures(drop, capsys):
    drop("toy", TOY)
    assert command.main(argv=[]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "## Counting",
        "",
        "Apples against pears.",
        "",
        "| what   | count | seconds |",
        "| ------ | ----: | ------: |",
        "| apples |     3 |       2 |",
        "| pears  |  12.3 |         |",
        "",
        "- Counted by hand.",
        "",
        "(toy: 0 s; its threads waited 0 s for a core that others had)",
        "",
        "## Targets",
        "",
        "| target | wanted     | measured             |        |",
        "| ------ | ---------- | -------------------- | ------ |",
        "| apples | at most 4  | 3                    | met    |",
        "| pears  | at least 1 | nothing was measured | MISSED |",
    ]


def test_json_holds_everything_and_is_alone_on_standard_output(drop, capsys):
    drop("toy", TOY)
    assert command.main(argv=["--json", "-"]) == 0
    out, err = capsys.readouterr()
    record = json.loads(out)
    assert "## Counting" in err
    assert set(record) == {"command", "seconds", "machine", "benchmarks"}
    assert {"cpu", "cores", "gpu", "versions"} <= set(record["machine"])
    toy = record["benchmarks"]["toy"]
    assert toy["rows"][1] == {"what": "pears", "count": 12.3456}
    assert [target["met"] for target in toy["targets"]] == [True, False]
    assert toy["notes"] == ["Counted by hand."]


def test_the_page_tells_how_where_and_what(drop, tmp_path, capsys):
    drop("toy", TOY)
    files = [str(tmp_path / "result.json"), str(tmp_path / "page.md")]
    assert command.main(argv=["--only", "toy", "--json", files[0], "--out", files[1]]) == 0
    page = (tmp_path / "page.md").read_text()
    record = json.loads((tmp_path / "result.json").read_text())
    assert page.startswith("# Performance\n\nCommand: `python ")
    assert record["machine"]["cpu"] in page
    assert f"torch {torch.__version__.partition('+')[0]}" in page
    assert page.index("## Targets") < page.index("## Counting")
    assert "| apples |     3 |       2 |" in page


def test_a_benchmark_gets_the_time_that_it_or_the_user_asks_for(drop, capsys):
    drop("toy", TOY)
    for words, given in ([], 2.0), (["--seconds", "5"], 5.0), (["--seconds", "0.5"], 0.5):
        command.main(argv=[*words, "--json", "-"])
        toy = json.loads(capsys.readouterr().out)["benchmarks"]["toy"]
        assert toy["rows"][0]["seconds"] == pytest.approx(given, rel=0.01), words


def test_all_together_stay_below_ten_minutes_however_much_they_ask_for(drop, capsys):
    drop("toy", TOY.replace("2.0", "900.0"))
    drop("twin", TOY.replace("2.0", "300.0"))
    command.main(argv=["--json", "-"])
    found = json.loads(capsys.readouterr().out)["benchmarks"].values()
    given = [one["rows"][0]["seconds"] for one in found]
    assert given == pytest.approx([0.75 * command.ALL_SECONDS, 0.25 * command.ALL_SECONDS], 0.01)
    assert sum(given) < 600


def test_a_benchmark_that_fails_is_a_missed_target_and_the_others_go_on(drop, capsys):
    drop("broken", BROKEN)
    drop("toy", TOY)
    assert command.main(argv=[]) == 1
    out, err = capsys.readouterr()
    assert "## Counting" in out
    assert "| broken runs | no error   | RuntimeError: no apples | MISSED |" in out
    assert "Traceback" in err


def test_a_row_that_no_table_could_show_is_refused():
    for row in {"pear": 1.0}, {"apple": float("nan")}, {"apple": float("inf")}:
        with pytest.raises(ValueError, match=r"^Fruit: (no column|not a finite)"):
            Section(title="Fruit", about="", columns=("apple",), rows=[row])


# Targets -----------------------------------------------------------------------------------------


def test_a_target_is_judged_by_the_worst_figure():
    for figures, bound, measured, met in [
        ({"a": 2.0}, {"at_most": 3}, "2 x", True),
        ({"a": 3.0}, {"at_most": 3}, "3 x", True),
        ({"a": 3.01}, {"at_most": 3}, "3.01 x", False),
        ({"a": 3.0}, {"at_least": 3}, "3 x", True),
        ({"a": 2.99}, {"at_least": 3}, "2.99 x", False),
        ({"a": -0.1}, {"at_least": 0}, "-0.1 x", False),
        ({"a": 1.0, "b": 4.0}, {"at_most": 3}, "4 x at worst (b); 1 of 2 meet it", False),
        ({"a": 1.0, "b": 4.0}, {"at_least": 1}, "1 x at worst (a); 2 of 2 meet it", True),
        ({}, {"at_most": 3}, "nothing was measured", False),
    ]:
        target = Target.of("apples", figures, unit="x", **bound)
        assert (target.measured, target.met) == (measured, met)


# Measuring ---------------------------------------------------------------------------------------


class Bench:
    """Cases that take planted seconds of a planted clock, and a record of their order."""

    def __init__(self, **seconds: float) -> None:
        self.now = 0.0
        self.order: list[str] = []
        self.cases = {name: self.case(name, took) for name, took in seconds.items()}

    def case(self, name, took):
        def call():
            self.order.append(name)
            self.now += took

        return call

    def clock(self):
        return self.now


def test_cases_take_turns_in_changing_order_and_the_median_is_told():
    bench = Bench(a=1.0, b=2.0, c=3.0)
    took = interleaved(bench.cases, 60.0, clock=bench.clock)
    assert took == {"a": 1.0, "b": 2.0, "c": 3.0}
    first, rounds = bench.order[:3], [bench.order[at : at + 3] for at in range(3, 30, 3)]
    assert first == ["a", "b", "c"]
    assert len(bench.order) == 30, "nine rounds of 6 s after first calls of 6 s"
    assert all(Counter(each) == Counter(first) for each in rounds)
    assert len(set(map(tuple, rounds))) > 2


def test_a_short_case_is_called_often_in_a_turn():
    times = {"tiny": harness.SAMPLE_SECONDS / 4, "short": harness.TURN_SECONDS / 8, "long": 1.0}
    bench = Bench(**times)
    took = interleaved(bench.cases, 0.0, at_least=1, clock=bench.clock)
    assert took == pytest.approx(times)
    samples = harness.TURN_SECONDS / harness.SAMPLE_SECONDS
    assert Counter(bench.order) == {"tiny": 2 + 4 * samples, "short": 2 + 8, "long": 1 + 1}
    bench = Bench(a=1.0, b=1.0)
    interleaved(bench.cases, 0.0, at_least=4, clock=bench.clock)
    assert Counter(bench.order) == {"a": 5, "b": 5}, "a few rounds are made even without time"


def test_a_slow_spell_leaves_the_ratio_alone():
    """From second 20 on the machine is three times as slow, for whichever case comes then."""
    bench = Bench()

    def case(took):
        def call():
            bench.now += took * (3.0 if bench.now >= 20 else 1.0)

        return call

    took = interleaved({"a": case(1.0), "b": case(2.0)}, 300.0, clock=bench.clock)
    assert took["b"] / took["a"] == 2.0


def test_a_stall_spoils_a_sample_and_not_the_figure():
    """One call in five waits for a core that was taken away: 8 ms instead of 0.2."""
    bench = Bench()

    def call():
        bench.order.append("call")
        bench.now += 8e-3 if len(bench.order) % 5 == 0 else 2e-4

    assert interleaved({"a": call}, 1.0, clock=bench.clock)["a"] == pytest.approx(2e-4)


def test_turns_that_waited_for_a_core_do_not_count_while_there_are_better_ones():
    """Three turns in four, or all, have to wait four seconds for a core."""
    for some_are_calm, figure in (True, 1.0), (False, 5.0):
        bench, waits = Bench(), []

        def call(bench=bench, waits=waits, calm=some_are_calm):
            waits.append(0.0 if calm and len(waits) % 4 == 3 else 4.0)
            bench.now += 1.0 + waits[-1]

        took = interleaved(
            {"a": call}, 100.0, clock=bench.clock, waiting=lambda waits=waits: sum(waits)
        )
        assert took["a"] == figure


def test_the_waiting_of_this_process_never_shrinks():
    before = harness.waited()
    assert 0 <= before <= harness.waited()


def test_the_number_of_threads_is_put_back():
    before = torch.get_num_threads()
    with threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
