"""The exported schedule: which mix when, in any loop, from a file that may be damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch.testing import assert_close

from automix.core.errors import ConfigError, DataError
from automix.core.seeding import generator
from automix.mixing.actions import MixAction
from automix.mixing.batch import MixSettings, mix_batch
from automix.policy.schedule import MixSchedule, load_schedule, save_schedule
from tests.cases import each

ACTIONS = [MixAction.parse(text) for text in ("none", "mixup@0.25", "rmix@0.5+spectral", "none")]
KINDS = {"100 images, 0% noise": ACTIONS[:2], "a: b #c": ACTIONS[2:]}


@pytest.fixture
def path(tmp_path) -> Path:
    save_schedule(tmp_path / "schedule.yaml", MixSchedule(ACTIONS, KINDS), {"dataset": "digits"})
    return tmp_path / "schedule.yaml"


def test_what_is_loaded_is_what_was_saved_from_the_file_or_its_folder(path):
    for place in (path, path.parent, str(path)):
        schedule = load_schedule(place)
        assert list(schedule.actions) == ACTIONS
        assert {kind: list(rows) for kind, rows in schedule.by_kind.items()} == KINDS


def test_the_file_is_a_table_that_a_person_can_read(path):
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert content["schedule"][2] == {
        "epoch": 2,
        "method": "rmix",
        "ratio": 0.5,
        "saliency": "spectral",
    }
    assert content["about"] == {"dataset": "digits"}
    assert path.read_text(encoding="utf-8").startswith("# ")


def test_how_actions_were_carried_out_goes_along(tmp_path):
    settings = MixSettings(label_rule="requested", concentration=4.0, options=["rmix.grids=[1]"])
    saved = MixSchedule(ACTIONS, KINDS, settings)
    save_schedule(tmp_path / "schedule.yaml", saved, {})
    loaded = load_schedule(tmp_path)
    assert loaded.settings == loaded.for_kind("a: b #c").settings == settings
    written = yaml.safe_load((tmp_path / "schedule.yaml").read_text())["mix"]
    assert set(written) == {"label_rule", "concentration", "options"}
    images, labels = torch.rand(8, 1, 8, 8, generator=torch.manual_seed(0)), torch.arange(8)

    def targets(schedule: MixSchedule, **given: MixSettings) -> torch.Tensor:
        mixer = schedule.mixer(10, **given)
        mixer.set_progress(0.3)
        return mixer(images, labels)[1]

    assert torch.equal(targets(loaded), targets(MixSchedule(ACTIONS), settings=settings))
    assert not torch.equal(targets(loaded), targets(loaded, settings=MixSettings()))


@each(
    "mix, reason",
    [
        ("[1]", "mix is list, wanted a table"),
        ("{concentraton: 2}", "mix holds 'concentraton'. Did you mean 'concentration'?"),
        ("{concentration: -1}", "mix: concentration is -1, wanted a number above 0"),
        ("{concentration: much}", "mix holds a value of the wrong kind"),
    ],
)
def test_settings_that_are_damaged_are_told_by_their_place(tmp_path, mix, reason):
    text = f"format: 1\nmix: {mix}\nschedule: [{{method: cutmix, ratio: 0.5, saliency: off}}]"
    (tmp_path / "schedule.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as error:
        load_schedule(tmp_path)
    assert reason in error.value.message


def test_a_mix_probability_is_written_where_it_says_something(tmp_path):
    actions = [MixAction("cutmix", 0.5), MixAction("cutmix", 0.5, mix_probability=0.25)]
    save_schedule(tmp_path / "schedule.yaml", MixSchedule(actions), {})
    assert load_schedule(tmp_path).actions == actions
    assert (tmp_path / "schedule.yaml").read_text().count("mix_probability") == 1


def test_off_needs_no_quotes_though_yaml_takes_it_for_a_truth_value(tmp_path):
    text = "format: 1\nschedule: [{method: cutmix, ratio: 0.5, saliency: off}]"
    (tmp_path / "schedule.yaml").write_text(text, encoding="utf-8")
    assert load_schedule(tmp_path).actions == [MixAction("cutmix", 0.5)]


@each("epochs", [1, 2, 4, 7, 30, 1000])
def test_a_schedule_stretches_to_any_budget(epochs):
    schedule = MixSchedule(ACTIONS)
    played = [schedule.at(epoch / epochs) for epoch in range(epochs)]
    assert played == [ACTIONS[4 * epoch // epochs] for epoch in range(epochs)]


def test_rounded_progress_finds_its_epoch():
    """49 * (1 / 49) is below 1 in floats, and 0.7 as float32 below 0.7."""
    schedule = MixSchedule([MixAction("mixup", 0.5 * i / 49) for i in range(49)])
    for epoch in range(49):
        assert schedule.at(epoch * (1 / 49)) == schedule.actions[epoch]
        assert schedule.at(float(np.float32(epoch / 49))) == schedule.actions[epoch]
    assert schedule.at(1 - 1e-12) == schedule.actions[-1]


@each("progress", [1.0, 1.5, -0.01, float("nan"), float("inf")])
def test_a_schedule_knows_nothing_beyond_its_budget(progress):
    with pytest.raises(
        ConfigError, match="wanted finished epochs / budget, from 0 to below 1"
    ) as e:
        MixSchedule(ACTIONS).at(progress)
    assert "epoch / epochs" in e.value.hint


def test_a_kind_of_task_has_its_own_schedule(path):
    schedule = load_schedule(path).for_kind("100 images, 0% noise")
    assert list(schedule.actions) == ACTIONS[:2]
    with pytest.raises(
        ConfigError, match=r"no kind '100 image, 0% noise'.* Did you mean '100 images"
    ):
        load_schedule(path).for_kind("100 image, 0% noise")


def test_the_mixer_plays_what_the_schedule_says():
    """One call of it is one call of mix_batch with the action of the moment."""
    images = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(6) % 4
    mixer = MixSchedule(ACTIONS).mixer(num_classes=4, seed=5)
    rng = generator(5, "schedule mixer")
    assert mixer.action == ACTIONS[0]
    for epoch, action in enumerate(ACTIONS):
        mixer.set_progress(epoch / 4)
        assert mixer.action == action
        got, targets = mixer(images, labels)
        wanted = mix_batch(images, labels, action, num_classes=4, rng=rng)
        assert torch.equal(got, wanted.images)
        assert torch.equal(targets, wanted.targets)
        assert targets.shape == (6, 4)
    with pytest.raises(ConfigError, match="below 1"):
        mixer.set_progress(1.0)


def test_a_mixer_that_needs_a_classifier_asks_for_one():
    mixer = MixSchedule([MixAction("cutmix", 0.5, "gradient")]).mixer(num_classes=4)
    images, labels = torch.rand(4, 1, 8, 8), torch.arange(4)
    with pytest.raises(ConfigError, match="needs a classifier"):
        mixer(images, labels)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4))
    assert mixer(images, labels, classifier=net)[0].shape == images.shape


ROW = "{method: cutmix, ratio: 0.5, saliency: 'off'}"


def rows(*rows: str, more: str = "") -> str:
    return f"format: 1\nschedule: [{', '.join(rows)}]{more}"


def of_ratio(ratio: str) -> str:
    return rows(ROW.replace("0.5", ratio))


def guided(saliency: str) -> str:
    return rows(ROW.replace("'off'", saliency))


NO_ACTION = r"schedule\[0\] is not an action"
DAMAGE = {
    "missing": (None, "schedule.yaml does not exist"),
    "empty": ("", "schedule.yaml: format is None, wanted 1"),
    "a word": ("cutmix", "schedule.yaml: format is 'cutmix'"),
    "no format": (f"schedule: [{ROW}]", "schedule.yaml: format is None, wanted 1"),
    "another format": (f"format: 2\nschedule: [{ROW}]", "schedule.yaml: format is 2"),
    "a command": (
        "format: 1\nschedule: !!python/object/apply:os.system ['touch {marker}']",
        "schedule.yaml is not plain YAML",
    ),
    "no schedule": ("format: 1", "schedule.yaml: schedule is NoneType, wanted a list"),
    "an empty schedule": (rows(), "schedule.yaml: schedule is .*list"),
    "a table": ("format: 1\nschedule: {a: 1}", "schedule.yaml: schedule is dict, wanted a list"),
    "a row of text": (rows("cutmix"), NO_ACTION),
    "a row of nothing": (rows(ROW, "null"), r"schedule\[1\] is not an action"),
    "no ratio": (rows("{method: cutmix, saliency: 'off'}"), NO_ACTION + ": 'ratio'"),
    "an unknown mix": (
        rows(ROW, ROW.replace("cutmix", "cutmx")),
        r"schedule.yaml: schedule\[1\]: 'cutmx' is not a mix.*'cutmix'",
    ),
    "an unknown saliency": (guided("gradeint"), r"schedule\[0\]: 'gradeint' .*'gradient'"),
    "a saliency that is on": (guided("on"), NO_ACTION + ": bool where a name was wanted"),
    "a ratio of 7": (of_ratio("7"), r"schedule\[0\]: the ratio of cutmix is 7.0, wanted 0 to 0.5"),
    "a ratio that is NaN": (of_ratio(".nan"), r"schedule\[0\]: the ratio of cutmix is nan"),
    "a ratio in words": (of_ratio("half"), NO_ACTION),
    "a ratio in a list": (of_ratio("[0.5]"), NO_ACTION),
    "kinds in a list": (rows(ROW, more="\nby_kind: [1]"), "by_kind is list, wanted a table"),
    "kinds in words": (rows(ROW, more="\nby_kind: all"), "by_kind is str, wanted a table"),
    "a kind without epochs": (rows(ROW, more="\nby_kind: {a: []}"), "by_kind.a is list"),
    "a kind with an unknown mix": (
        rows(ROW, more=f"\nby_kind: {{a: [{ROW.replace('cutmix', 'x')}]}}"),
        r"by_kind.a\[0\]: 'x' is not a mix",
    ),
}


@each("text, told", DAMAGE.values())
def test_what_is_damaged_is_refused_with_file_and_row_named(tmp_path, text, told):
    path, marker = tmp_path / "schedule.yaml", tmp_path / "marker"
    if text is not None:
        path.write_text(text.replace("{marker}", str(marker)), encoding="utf-8")
    with pytest.raises(DataError, match=told) as error:
        load_schedule(path)
    assert str(path) in error.value.message
    assert "\n" not in error.value.message
    assert not marker.exists()


def test_a_bomb_of_references_does_not_go_off(tmp_path):
    """A few hundred bytes that would be a billion entries if they were written out."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    row = "format: 1\nschedule: [{method: *a9, ratio: 0.5, saliency: none}]"
    for last in ("format: *a9", "format: 1\nschedule: *a9", "format: 1\nschedule: [*a9]", row):
        path = tmp_path / "schedule.yaml"
        path.write_text("\n".join([*lines, last]), encoding="utf-8")
        with pytest.raises(DataError) as error:
            load_schedule(path)
        assert len(error.value.message) < 1000


def test_label_rules_survive_the_file_and_say_nothing_where_there_is_none(tmp_path):
    texts = ("cutmix@0.5:perturbed", "asymmetric_cutmix@0.25+cam:cam_mass", "mixup@0.5", "none")
    actions = [MixAction.parse(text) for text in texts]
    save_schedule(tmp_path / "schedule.yaml", MixSchedule(actions, {"a": actions[:2]}), {})
    loaded = load_schedule(tmp_path)
    assert (loaded.actions, loaded.by_kind) == (actions, {"a": actions[:2]})
    assert (tmp_path / "schedule.yaml").read_text().count("label_rule") == 4


@each(
    "late, settings, told",
    [
        ("cutmix@0.5+ema", {}, "saliency 'ema' is part of a training"),
        ("cutmix@0.5", {"label_rule": "saliency_mass"}, "cutmix@0.5 names none"),
    ],
)
def test_a_mixer_refuses_what_only_a_late_epoch_would_play(late, settings, told):
    schedule = MixSchedule([MixAction.parse("none"), MixAction.parse(late)])
    with pytest.raises(ConfigError, match=told):
        schedule.mixer(num_classes=4, settings=MixSettings(**settings))


def test_the_classifier_has_its_say_where_the_rule_lets_it():
    """The area counts 0.4 and the classifier 0.6, as the options say."""
    settings = MixSettings(options=["perturbed.strength=0.6", "perturbed.noise=0"])
    images, labels = torch.rand(4, 1, 8, 8), torch.arange(4)
    schedule = MixSchedule([MixAction.parse("mixup@0.5:perturbed")])
    first, second = (schedule.mixer(4, seed=1, settings=settings) for _ in range(2))
    mixed = first.mixed(images, labels)
    assert mixed.revised is not None
    assert torch.equal(second(images, labels)[1], mixed.targets)
    sure = 50.0 * torch.eye(4)  # of the own class
    revised = mixed.revised(sure, slice(None))
    assert_close(revised.diagonal(), 0.4 * mixed.lam + 0.6)
    assert_close(revised.sum(1), torch.ones(4))
