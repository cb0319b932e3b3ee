"""What a run is told before it starts."""

from __future__ import annotations

from dataclasses import replace

from automix.agents.config.settings import RunSettings, WorldsSettings
from automix.agents.jobs.check import tell_images
from automix.envs.settings import EnvSettings


def test_each_image_set_of_a_suite_is_told_once(caplog):
    suite = {"a": {"task": {"dataset": "digits"}}, "b": {"trainer": {"lr": 0.2}}}
    settings = RunSettings(env=EnvSettings(decisions=2), worlds=WorldsSettings(suite=suite))
    with caplog.at_level("INFO", "automix"):
        (told,) = tell_images(settings)
    assert told["name"] == "digits"
    assert [record.getMessage() for record in caplog.records] == [f"images: {told['loaded']}"]
    drawn = {"c": {"task": {"dataset": "textures/easy", "image_size": 12}}}
    told = tell_images(replace(settings, worlds=WorldsSettings(suite=suite | drawn)))
    assert [one["name"] for one in told] == ["digits", "textures/easy"]
