"""A search from end to end without Ray: what is written, what goes on, what is told."""

from __future__ import annotations

import json
import shlex
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

import automix.agents.sweep.plan as planning
from automix.agents.learning.recorder import METRICS
from automix.agents.sweep.folder import SweepDirectory
from automix.agents.sweep.lineage import read_schedule
from automix.agents.sweep.search import resume_search, run_search
from automix.agents.sweep.search_trial import SearchTrial
from automix.agents.sweep.slices import name_of
from automix.core.errors import AutomixError, ConfigError
from tests.agents.sweep.stand_ins import result as compared
from tests.agents.sweep.test_tune_slices import UPDATES, trainings
from tests.agents.sweep.test_tune_slices import WORDS as PBT

ASHA = tuple(word.replace("=pbt", "=asha") for word in PBT)
RATES = ("0.001", "0.01", "0.1")


@pytest.fixture(autouse=True)
def nothing_is_checked_on_images(monkeypatch):
    monkeypatch.setattr(planning, "check", lambda settings, learns: "cpu")


class Runner:
    """Runs one slice of every trial after the other; stops and copies as it is told.

    Args:
        stops: Trials by number, with the update at which they are stopped.
        copies: Whether the first trial takes the last one's place before its last slice.
        breaks: Trials by number that fail in their second slice.
        interrupts: The number of slices after which Ctrl-C comes.
    """

    def __init__(self, stops=None, copies=False, breaks=(), interrupts=-1):
        self.stops, self.copies, self.breaks = stops or {}, copies, breaks
        self.interrupts, self.learned, self.finished = interrupts, 0, []

    @contextmanager
    def __call__(self, plan):
        yield self.run, self.finish

    def run(self, plan, place, watch):
        trials = [SearchTrial(place, self.trainings) for _ in plan.trials]
        for trial, one in zip(trials, plan.trials, strict=True):
            trial.begin(one.hash, one.values)
        over = set()
        for update in range(plan.interval, plan.updates + 1, plan.interval):
            if self.copies and update == plan.updates:
                pointer = place.sweep / "pointer"
                pointer.mkdir(exist_ok=True)
                trials[-1].mark(pointer)
                trials[0].begin(plan.trials[0].hash, {"agent.learning_rate": "0.01"})
                trials[0].go_on(pointer)
            for number, (trial, one) in enumerate(zip(trials, plan.trials, strict=True)):
                if number in over:
                    continue
                self.broken = number in self.breaks and update == 2 * plan.interval
                watch.started(one.hash)
                report = trial.step()
                report["done"] |= self.stops.get(number) == update
                watch.heard(report)
                over |= {number} if report["done"] else set()

    def trainings(self, settings):
        if self.learned == self.interrupts:
            raise KeyboardInterrupt
        if self.broken:
            raise AutomixError("it broke")
        self.learned += 1
        return trainings(settings)

    def finish(self, part, settings, command, path, home, gpus):
        self.finished.append((name_of(part), settings, command, path))
        return compared(0.7)


def hashes(path) -> list[str]:
    return [r["trial"] for r in SweepDirectory(path).ledger.records() if r["event"] == "planned"]


def events(path, trial) -> list[str]:
    return [r["event"] for r in SweepDirectory(path).ledger.records() if r["trial"] == trial]


def metrics(path) -> dict[str, bytes]:
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(path.glob(f"trials/*/*/{METRICS}"))
    }


def test_the_weak_are_stopped_and_the_best_is_told_in_words_that_run_again(tmp_path):
    path, runner = tmp_path / "s", Runner(stops={0: 2})
    result = run_search(ASHA, path, runners=runner)
    weak, *others = hashes(path)
    assert (result["trials"], result["finished"], result["stopped"]) == (3, 2, 1)
    assert events(path, weak) == ["planned", "started", "stopped"]
    assert all(events(path, name) == ["planned", "started", "finished"] for name in others)
    best = yaml.safe_load((path / "best.yaml").read_text())
    scores = {row["trial"]: row["val_accuracy"] for row in result["ranking"]}
    assert best["trial"] == max(others, key=scores.__getitem__)
    assert best["val_accuracy"] == scores[best["trial"]]
    rate = RATES[hashes(path).index(best["trial"])]
    assert best["words"][-1] == f"agent.learning_rate={rate}"
    assert shlex.split(best["command"]) == ["python", "run.py", "train", *best["words"]]
    ((part, settings, command, run),) = runner.finished
    assert part == f"{best['trial']}/{UPDATES:06d}"
    assert settings.agent.learning_rate == float(rate)
    assert (command, run) == (["train", *best["words"]], path / "best")
    assert result["best"]["figures"]["val_accuracy"] == 0.7
    rows = [line.split(",") for line in (path / "summary.csv").read_text().splitlines()]
    assert rows[0] == [
        *("trial", "agent.learning_rate", "state", "update", "val_accuracy", "copies", "error")
    ]
    assert [row[1:4] for row in rows[1:]] == [
        ["0.001", "stopped", "2"],
        ["0.01", "finished", "6"],
        ["0.1", "finished", "6"],
    ]
    assert json.loads((path / "status.json").read_text())["state"] == "finished"


def test_a_population_leaves_a_schedule(tmp_path):
    path, runner = tmp_path / "s", Runner(copies=True)
    result = run_search(PBT, path, runners=runner)
    first, *_, last = hashes(path)
    assert events(path, first) == ["planned", "started", "copied", "finished"]
    schedule = read_schedule(path / "schedule.jsonl")
    assert schedule.updates == UPDATES
    assert not any("learning_rate" in word or "sweep." in word for word in schedule.words)
    best = result["best"]
    assert best["command"].startswith("python run.py sweep sweep.search=replay sweep.replay=")
    if best["trial"] == first:
        assert [one.update for one in schedule.segments] == [0, 4]
        assert [one.trial for one in schedule.segments] == [last, first]


@pytest.mark.parametrize("words", [ASHA, PBT], ids=["asha", "pbt"])
@pytest.mark.parametrize("slices", [0, 2, 4, 8])
def test_one_that_was_interrupted_goes_on_and_ends_as_one_that_was_left_alone(
    tmp_path, words, slices
):
    copies = words is PBT
    left_alone = run_search(words, tmp_path / "a", runners=Runner(copies=copies))
    path = tmp_path / "b"
    with pytest.raises(KeyboardInterrupt):
        run_search(words, path, runners=Runner(copies=copies, interrupts=slices))
    assert json.loads((path / "status.json").read_text())["state"] == "interrupted"
    again = Runner(copies=copies)
    result = resume_path(path, again)
    assert again.learned == 9 - slices
    assert metrics(path) == metrics(tmp_path / "a")
    assert result["ranking"] == left_alone["ranking"]
    assert result["best"]["val_accuracy"] == left_alone["best"]["val_accuracy"]


def resume_path(path: Path, runner: Runner):
    described = yaml.safe_load((path / "sweep.yaml").read_text())
    return run_search(described["words"], path, runners=runner)


def test_a_finished_search_runs_nothing_again(tmp_path):
    path = tmp_path / "s"
    before = run_search(ASHA, path, runners=Runner())
    again = Runner()
    assert run_search(ASHA, path, runners=again) == before
    assert resume_search(path, ASHA) == before
    assert (again.learned, again.finished) == (0, [])


def test_one_failing_trial_is_recorded_and_the_others_go_on(tmp_path):
    path = tmp_path / "s"
    result = run_search(ASHA, path, runners=Runner(breaks=(1,)))
    broken = hashes(path)[1]
    (failure,) = result["failed"]
    assert (failure["trial"], failure["error"]) == (broken, "it broke")
    assert failure["words"] == "agent.learning_rate=0.01"
    assert "it broke" in Path(failure["log"]).read_text()
    assert result["finished"] == 2
    assert json.loads((path / "status.json").read_text())["state"] == "failed"
    again = Runner()
    mended = resume_path(path, again)
    # Two of its three slices, and nobody else's.
    assert again.learned == 2
    assert (mended["finished"], mended["failed"]) == (3, [])


def test_a_failure_in_a_population_is_told_though_the_trial_goes_on(tmp_path):
    result = run_search(PBT, tmp_path / "s", runners=Runner(copies=True, breaks=(0,)))
    (failure,) = result["failed"]
    assert failure["error"] == "it broke"
    assert result["finished"] == 3


def test_a_trial_of_a_population_that_copies_nobody_stays_failed(tmp_path):
    path = tmp_path / "s"
    result = run_search(PBT, path, runners=Runner(breaks=(1,)))
    assert (result["finished"], len(result["failed"])) == (2, 1)
    assert events(path, hashes(path)[1]) == ["planned", "started", "failed"]


def test_no_winner_where_all_have_failed(tmp_path):
    result = run_search(ASHA, tmp_path / "s", runners=Runner(breaks=(0, 1, 2)))
    assert (result["best"], len(result["failed"])) == (None, 3)


@pytest.mark.parametrize("word", ["sweep.interval=3", "agent.learning_rate=1e-3,1e-2"])
def test_another_search_is_not_mixed_in(tmp_path, word):
    path = tmp_path / "s"
    run_search(ASHA, path, runners=Runner())
    before = (path / "ledger.jsonl").read_text()
    rest = [one for one in ASHA if one.partition("=")[0] != word.partition("=")[0]]
    with pytest.raises(ConfigError, match="holds another search"):
        run_search([*rest, word], path, runners=Runner())
    assert (path / "ledger.jsonl").read_text() == before
    run_search([*rest, word], path, overwrite=True, runners=Runner())
