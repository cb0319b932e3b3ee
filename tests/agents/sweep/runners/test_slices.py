"""Slices of learning, the lineage of a winner, and its replay, on the surrogate."""

from __future__ import annotations

import json
import logging
from functools import cache
from pathlib import Path

import pytest

import automix.agents.sweep.planning.plan as planning
from automix.agents.learning.recorder import METRICS
from automix.agents.learning.training import Stopped
from automix.agents.sweep.folder import SweepDirectory
from automix.agents.sweep.planning.plan import SweepPlan
from automix.agents.sweep.planning.schedule import (
    Schedule,
    SearchSegment,
    read_schedule,
    write_schedule,
)
from automix.agents.sweep.runners.replay import learn_along
from automix.agents.sweep.runners.slices import STATE, Slice, folder_of, learn_slice, segments_of
from automix.agents.sweep.runners.trial import Place, SearchTrial
from automix.core.errors import DataError
from tests.agents.sweep.stand_ins import PBT, UPDATES, trainings

SLOW, FAST = {"agent.learning_rate": "0.001"}, {"agent.learning_rate": "0.1"}


@cache
def plan_of(*words: str) -> SweepPlan:
    named = {word.partition("=")[0] for word in words}
    rest = [word for word in PBT if word.partition("=")[0] not in named]
    return planning.plan_of([*rest, *words])


def trial_of(plan: SweepPlan, sweep: Path, name: str, values, **facts) -> SearchTrial:
    place = Place(plan, sweep, sweep, facts.pop("session", "x"), **facts)
    trial = SearchTrial(place, trainings)
    trial.begin(name, values)
    return trial


def slice_of(plan: SweepPlan, folder: Path, origin: Slice | None, values, until: int) -> Slice:
    settings = plan.settings_with(values)
    return Slice(folder, origin.folder if origin else None, values, settings, until)


def test_slices_are_a_learning_in_one_piece_and_judged_by_their_own_rounds(tmp_path):
    plan = plan_of()
    whole = slice_of(plan, tmp_path / "whole", None, SLOW, UPDATES)
    first = slice_of(plan, tmp_path / "parts", None, SLOW, 2)
    second = slice_of(plan, tmp_path / "parts", first, SLOW, 6)
    for part in (whole, first, second):
        learn_slice(part, trainings)
    assert (second.folder / METRICS).read_bytes() == (whole.folder / METRICS).read_bytes()
    rounds = [json.loads(line) for line in (second.folder / METRICS).read_text().splitlines()]
    scores = [one["val_accuracy"] for one in rounds]
    assert len(scores) == UPDATES
    assert first.ended() == {"val_accuracy": pytest.approx(sum(scores[:2]) / 2)}
    assert second.ended() == {"val_accuracy": pytest.approx(sum(scores[2:]) / 4)}


def test_a_slice_that_was_stopped_goes_on_from_its_own_checkpoint(tmp_path):
    plan = plan_of("checkpoint.share=1")
    whole = slice_of(plan, tmp_path / "whole", None, SLOW, 4)
    learn_slice(whole, trainings)
    part = slice_of(plan, tmp_path / "part", None, SLOW, 4)
    left = iter([0] * 9 + [15])
    with pytest.raises(Stopped):
        learn_slice(part, trainings, lambda: next(left))
    assert part.ended() is None
    played = []

    def counted(settings):
        settings, env = trainings(settings)
        step = env.step_async
        env.step_async = lambda actions: (played.append(actions), step(actions))
        return settings, env

    learn_slice(part, counted)
    # Ten of 16 steps had been played, and were not played again.
    assert len(played) == 6
    assert (part.folder / METRICS).read_bytes() == (whole.folder / METRICS).read_bytes()
    assert part.ended() == whole.ended()


def test_another_slice_in_the_same_place_begins_anew(tmp_path):
    plan = plan_of()
    slow = slice_of(plan, tmp_path, None, SLOW, 2)
    learn_slice(slow, trainings)
    fast = slice_of(plan, tmp_path, None, FAST, 2)
    assert fast.folder == slow.folder
    assert fast.ended() is None
    learn_slice(fast, trainings)
    assert slow.ended() is None


@pytest.fixture(scope="module")
def population(tmp_path_factory):
    """Two trials, of which the first copies the second twice; for reading only."""
    tmp_path = tmp_path_factory.mktemp("population")
    plan = plan_of()
    names = [trial.hash for trial in plan.trials]
    one, two = (trial_of(plan, tmp_path, name, SLOW) for name in names[:2])
    two.begin(names[1], FAST)
    for values in (SLOW, {"agent.learning_rate": "0.01"}):
        one.step(), two.step()
        one.begin(names[0], values)
        one.load_state_dict(two.state_dict())
    return plan, tmp_path, names, (one.step(), two.step())


def test_the_lineage_of_a_winner_goes_through_all_copies(population):
    _, sweep, names, (report, _) = population
    assert (report["updates"], report["done"], report["copied"]) == (6, True, f"{names[1]}/000004")
    assert segments_of(folder_of(SweepDirectory(sweep).trial(names[0]), UPDATES)) == [
        SearchSegment(0, FAST, names[1]),
        SearchSegment(4, {"agent.learning_rate": "0.01"}, names[0]),
    ]


def test_a_replay_is_the_winner_bit_by_bit_and_another_schedule_is_not(population, tmp_path):
    plan, sweep, names, _ = population
    winner = folder_of(SweepDirectory(sweep).trial(names[0]), UPDATES)
    file = tmp_path / "schedule.jsonl"
    write_schedule(file, Schedule(plan.space.fixed, UPDATES, segments_of(winner)))
    schedule = read_schedule(file)
    again = learn_along(tmp_path / "again", schedule, plan.settings_with, trainings)
    assert (again.folder / METRICS).read_bytes() == (winner / METRICS).read_bytes()
    assert again.ended() == json.loads((winner / "ended.json").read_text())
    schedule = Schedule(plan.space.fixed, UPDATES, [SearchSegment(0, FAST)])
    other = learn_along(tmp_path / "other", schedule, plan.settings_with, trainings)
    assert (other.folder / METRICS).read_bytes() != (winner / METRICS).read_bytes()


def test_only_the_last_two_states_of_a_trial_are_kept(population):
    _, sweep, names, _ = population
    folders = sorted(SweepDirectory(sweep).trial(names[1]).glob("0*"))
    assert [folder.name for folder in folders] == ["000002", "000004", "000006"]
    assert [(folder / STATE).is_dir() for folder in folders] == [False, True, True]
    assert all((folder / METRICS).is_file() for folder in folders)


def test_what_is_on_record_is_not_learned_again(tmp_path):
    plan = plan_of()
    name = plan.trials[0].hash
    first = trial_of(plan, tmp_path, name, SLOW)
    reports = [first.step() for _ in range(2)]

    def none(settings):
        raise AssertionError("it learns")

    again = trial_of(plan, tmp_path, name, SLOW)
    again.trainings = none
    assert [again.step() for _ in range(2)] == reports
    assert again.step()["failed"] == "AssertionError: it learns"


# Failures ---------------------------------------------------------------------------------------


def broken(settings):
    raise DataError("it broke")


def test_a_failure_in_a_population_is_the_worst_and_copies_another(tmp_path, caplog):
    caplog.set_level(logging.CRITICAL, "automix")
    plan = plan_of()
    names = [trial.hash for trial in plan.trials]
    good, bad = (trial_of(plan, tmp_path, name, SLOW) for name in names[:2])
    bad.trainings = broken
    good.step()
    report = bad.step()
    assert (report["val_accuracy"], report["failed"], report["done"]) == (0.0, "it broke", False)
    assert "DataError: it broke" in (tmp_path / "trials" / names[1] / "log.txt").read_text()
    # Left alone it stays what it is.
    assert bad.step() == report | {"updates": 4, "inherited": True}
    bad.begin(names[1], FAST)
    bad.load_state_dict(good.state_dict())
    bad.trainings = trainings
    assert bad.step()["val_accuracy"] > 0


def test_a_failure_by_itself_is_over_and_tried_again_by_the_next_driver(tmp_path):
    plan = plan_of("sweep.search=asha")
    name = plan.trials[0].hash
    trial = trial_of(plan, tmp_path, name, SLOW)
    trial.step()
    trial.trainings = broken
    report = trial.step()
    assert (report["done"], report["failed"], report["updates"]) == (True, "it broke", 2)
    again = trial_of(plan, tmp_path, name, SLOW)
    assert [again.step()["failed"] for _ in range(3)] == ["", "", ""]


def test_a_slice_whose_process_dies_again_and_again_is_given_up(tmp_path):
    plan = plan_of("sweep.max_retries=1")
    name = plan.trials[0].hash

    def dies(settings):
        raise KeyboardInterrupt  # as little of it is left as of a process that was killed

    for session in ("x", "x", "y"):
        trial = trial_of(plan, tmp_path, name, SLOW, session=session)
        trial.trainings = dies
        with pytest.raises(KeyboardInterrupt):
            trial.step()
    report = trial_of(plan, tmp_path, name, SLOW).step()
    assert report["failed"] == "its process or its machine died 2 times"


def test_a_trial_that_was_stopped_stays_stopped(tmp_path):
    plan = plan_of("sweep.search=asha")
    name = plan.trials[0].hash
    first = trial_of(plan, tmp_path, name, SLOW).step()
    again = trial_of(plan, tmp_path, name, SLOW, stopped=frozenset([name]))
    assert again.step() == first
    report = again.step()
    assert (report["done"], report["updates"], report["failed"]) == (True, 2, "")
