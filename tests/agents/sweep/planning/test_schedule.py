"""Schedules on disk: what is no schedule is refused."""

from __future__ import annotations

from automix.agents.sweep.planning.schedule import read_schedule
from automix.core.errors import DataError
from tests.agents.sweep.stand_ins import unlike

FIRST = '{"format": 1, "updates": 6, "words": ["seed=1"]}\n'
BEGIN = FIRST + '{"update": 0, "values": {"a": "1"}}\n'


def test_what_is_no_schedule_is_refused(tmp_path):
    def read(text):
        file = tmp_path / "schedule.jsonl"
        file.write_text(text)
        read_schedule(file)

    cases = [
        ("", "is no schedule"),
        ("not json\n", "is no schedule"),
        ('{"format": 2, "updates": 6, "words": []}\n', "line 1"),
        ('{"format": 1, "updates": true, "words": []}\n', "line 1"),
        ('{"format": 1, "updates": 6, "words": [1]}\n', "line 1"),
        (FIRST, "wanted from 0 on"),
        (FIRST + '{"update": 1, "values": {"a": "1"}}\n', "wanted from 0 on"),
        (BEGIN + '{"update": 6, "values": {"a": "1"}}\n', "6"),
        (FIRST + '{"update": 0, "values": {"a": 1}}\n', "line 2"),
        (FIRST + '{"update": 0, "values": ["a"]}\n', "line 2"),
        (BEGIN + '{"update": 2, "values": {}}\n', "same keys"),
    ]
    assert not unlike(cases, read, DataError)
    read(BEGIN)
