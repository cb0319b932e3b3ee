"""The exported schedule: which mix when, in any loop, from a file that may be damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from automix.core.errors import ConfigError, DataError
from automix.mixing.actions import MixAction
from automix.mixing.batch import MixSettings
from automix.policy.schedule import MixSchedule, load_schedule, save_schedule
from tests.cases import each, named

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
        ("{concentration: much}", "concentration is 'much', wanted a number above 0"),
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


def test_columns_that_say_nothing_may_be_left_out(tmp_path):
    text = "format: 1\nschedule: [{method: cutmix, ratio: 0.5}, {epoch: 1, method: none, ratio: 0}]"
    (tmp_path / "schedule.yaml").write_text(text, encoding="utf-8")
    assert load_schedule(tmp_path).actions == [MixAction("cutmix", 0.5), MixAction("none", 0.0)]


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


def test_behind_its_budget_a_schedule_stays_on_its_last_action():
    """There trainers cool down."""
    schedule = MixSchedule(ACTIONS[:3])
    for progress in (1.0, 1, 1 + 1e-7, 1.05, 7):
        assert schedule.at(progress) == ACTIONS[2]


@each("progress", [-0.01, float("nan"), float("inf"), None, "half", [0.5]])
def test_what_is_no_progress_is_refused(progress):
    with pytest.raises(ConfigError, match="wanted finished epochs / budget, 0 or more") as e:
        MixSchedule(ACTIONS).at(progress)
    assert "epoch / epochs" in e.value.hint


def test_a_kind_of_task_has_its_own_schedule(path):
    schedule = load_schedule(path).for_kind("100 images, 0% noise")
    assert list(schedule.actions) == ACTIONS[:2]
    with pytest.raises(
        ConfigError, match=r"no kind '100 image, 0% noise'.* Did you mean '100 images"
    ):
        load_schedule(path).for_kind("100 image, 0% noise")


def test_the_nearest_kind_is_so_in_doublings_of_images_and_in_tens_of_percent_of_noise():
    ranges = ["40-155 images, 20-40% noise", "155-600 images, 20-40% noise"]
    names = ["100 images, 0% noise", "400 images, 0% noise", "400 images, 12.5% noise", *ranges]
    kinds = {name: [MixAction("mixup", n / 10)] for n, name in enumerate(names)}
    others = {"all images, 0% noise": ACTIONS, "letters epochs=12": ACTIONS}
    schedule = MixSchedule(ACTIONS, others | kinds)
    for size, noise, wanted in [
        (100, 0.0, 0),
        (199, 0.0, 0),
        (200, 0.0, 0),  # a tie
        (201, 0.0, 1),
        (1, 0.0, 0),
        (10**6, 0.0, 1),
        (400, 0.06, 1),
        (400, 0.07, 2),
        (155, 0.3, 3),  # of both
        (156, 0.3, 4),
        (10, 0.99, 3),
        (800, 0.2, 4),  # one doubling; the other is 0.75 of 10 % further
    ]:
        with named(size, noise):
            found = schedule.nearest(train_size=size, label_noise=noise)
            assert found.kind == names[wanted]
            assert found.actions == kinds[found.kind]
    assert schedule.kind == ""
    for given, told in [
        ({"train_size": 0}, "train_size is 0, wanted a whole number"),
        ({"train_size": 1.5}, "train_size is 1.5"),
        ({"train_size": 9, "label_noise": 20}, "label_noise is 20, wanted 0 to below 1"),
        ({"train_size": 9, "label_noise": float("nan")}, "label_noise is nan"),
    ]:
        with pytest.raises(ConfigError, match=told):
            schedule.nearest(**given)
    for nothing in ({}, others):
        with pytest.raises(ConfigError, match="no kinds of task of a stated size and noise"):
            MixSchedule(ACTIONS, nothing).nearest(train_size=100)


ROW = "{method: cutmix, ratio: 0.5, saliency: 'off'}"


def rows(*rows: str, more: str = "") -> str:
    return f"format: 1\nschedule: [{', '.join(rows)}]{more}"


def of_ratio(ratio: str) -> str:
    return rows(ROW.replace("0.5", ratio))


def at(epoch: int | str) -> str:
    return ROW.replace("{", f"{{epoch: {epoch}, ")


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
    "a ratio that is off": (of_ratio("off"), NO_ACTION + ": False where a number was wanted"),
    "a ratio without end": (of_ratio("1" * 400), NO_ACTION),
    "a ratio of a million digits": (of_ratio("1" * 1_000_000), "is not plain YAML"),
    "change points": (rows(at(0), at(5), at(18)), r"schedule\[1\]: epoch is 5, wanted 1"),
    "rows moved about": (rows(at(1), at(0)), r"schedule\[0\]: epoch is 1, wanted 0"),
    "an epoch twice": (rows(at(0), at(0)), r"schedule\[1\]: epoch is 0, wanted 1"),
    "epochs from 1": (rows(at(1), at(2)), r"schedule\[0\]: epoch is 1, wanted 0"),
    "an epoch in words": (rows(at("first")), r"schedule\[0\]: epoch is 'first', wanted 0"),
    "a column of others": (
        rows(ROW.replace("}", ", alpha: 0.2}")),
        r"schedule\[0\] holds 'alpha'\.",
    ),
    "a misspelt column": (
        rows(ROW.replace("}", ", mix_probabilty: 0.2}")),
        r"holds 'mix_probabilty'. Did you mean 'mix_probability'\?",
    ),
    "a column with a number for a name": (rows(ROW.replace("}", ", 1: 0.2}")), r"\] holds 1\."),
    "a misspelt section": (
        rows(ROW, more="\nby_kinds: {}"),
        r"yaml holds 'by_kinds'. Did you mean 'by_kind'\?",
    ),
    "rows of a kind moved about": (
        rows(ROW, more=f"\nby_kind: {{a: [{ROW}, {at(2)}]}}"),
        r"by_kind.a\[1\]: epoch is 2, wanted 1",
    ),
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


def test_a_file_that_is_cut_anywhere_is_refused(tmp_path):
    actions, path = [MixAction.parse("mixup"), MixAction.parse("none")], tmp_path / "schedule.yaml"
    save_schedule(path, MixSchedule(actions, {"a": actions}), {"task": "x"})
    whole = path.read_text()
    load_schedule(path)
    for end in range(len(whole) - 1):
        path.write_text(whole[:end])
        with pytest.raises(DataError):
            load_schedule(path)
