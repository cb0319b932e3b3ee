"""The gallery shows what ``mix_batch`` makes, and says what it left out."""

from __future__ import annotations

import io
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch
from PIL import Image

from automix.agents.gallery import write_gallery
from automix.agents.gallery.rows import GalleryRow, rows_of
from automix.agents.gallery.scene import IMAGES, Scene, build_scene, draw_task, mix_rows
from automix.agents.gallery.sheet import HEAD, MARGIN, NAMES, label_words, sheet_png, title
from automix.core.errors import ConfigError, ResourceError
from automix.mixes import MIXES, MixInfo
from automix.mixing.actions import MixAction
from automix.saliency import SALIENCY, SaliencyInfo
from tests.agents import tiny_run


@lru_cache(maxsize=1)
def scene() -> Scene:
    settings = tiny_run.settings()
    return build_scene(draw_task(settings), settings)


def texts(rows: list[GalleryRow]) -> list[str]:
    return [str(row.action) for row in rows]


# Which rows --------------------------------------------------------------------------------------


def test_every_method_also_a_new_one_has_a_row_for_each_ratio_and_saliency(monkeypatch):
    monkeypatch.setattr(MIXES, "_entries", dict(MIXES._entries))
    MIXES.register("new_for_tests", MixInfo())(MIXES["mixup"])
    found = texts(rows_of())
    guided = {entry.name for entry in MIXES.entries() if entry.info.guided}
    for name in set(MIXES) - {"none"}:
        for ratio in ("0.25", "0.5"):
            guides = [f"+{guide}" for guide in SALIENCY] if name in guided else []
            assert {f"{name}@{ratio}{guide}" for guide in ["", *guides]} <= set(found)
    assert found.count("none") == 1


def test_rows_can_be_chosen():
    chosen = rows_of(["rmix", "cutmix@0.1+gradient", "none"], [0.2], ["off", "spectral"])
    assert texts(chosen) == ["rmix@0.2", "rmix@0.2+spectral", "cutmix@0.1+gradient", "none"]


# What they show ----------------------------------------------------------------------------------


def test_the_images_are_of_the_training_split_and_of_different_classes():
    assert len(scene().images) == IMAGES == len(scene().labels.unique())
    train = scene().task.normalised(scene().task.train_index)
    for image in scene().images:
        assert (train == image).all((1, 2, 3)).any()


def test_a_row_is_the_mix_of_the_images_by_its_mask():
    rows = rows_of(["mixup", "cutmix", "rmix"], [0.5], ["off", "gradient", "spectral"])
    shots, skipped = mix_rows(scene(), rows)
    originals = scene().shown(scene().images)
    assert len(shots) == 9
    assert not skipped
    for shot in shots:
        blend = (1 - shot.mask) * originals + shot.mask * originals[shot.partner]
        torch.testing.assert_close(shot.images, blend, atol=1e-5, rtol=0)
        own = shot.targets[np.arange(IMAGES), scene().labels]
        np.testing.assert_allclose(own, 1 - shot.mask.mean((1, 2, 3)), atol=1e-5)
        assert (shot.maps is not None) == ("+" in str(shot.row.action))


def test_rows_of_a_ratio_ask_for_equal_shares():
    (plain, guided), _ = mix_rows(scene(), rows_of(["rmix@0.5", "mixup@0.5"]))
    torch.testing.assert_close(plain.mask.amax((1, 2, 3)) > 0, guided.mask[:, 0, 0, 0] > 0)
    first, again = (mix_rows(scene(), rows_of(["cutmix@0.5"]))[0][0] for _ in range(2))
    assert (first.images == again.images).all()


def test_the_classifier_has_learned_something():
    assert scene().accuracy > 0.3


# What is left out --------------------------------------------------------------------------------


@pytest.fixture
def teacher(monkeypatch):
    """A provider that refuses."""
    monkeypatch.setattr(SALIENCY, "_entries", dict(SALIENCY._entries))

    @SALIENCY.register("teacher_for_tests", SaliencyInfo(passes=(1, 0)))
    def provider(images, targets, classifier):
        raise ConfigError("there is no teacher")

    return replace(scene(), _maps={})


def test_a_form_that_cannot_be_played_is_left_out_and_named(teacher):
    shots, skipped = mix_rows(teacher, rows_of(["rmix"], [0.5], ["off", "teacher_for_tests"]))
    assert [str(shot.row.action) for shot in shots] == ["rmix@0.5"]
    assert skipped == {"rmix@0.5+teacher_for_tests": "there is no teacher"}


def test_what_the_net_lacks_and_what_has_no_mask_is_left_out_with_the_reason(monkeypatch):
    monkeypatch.setattr(MIXES, "_entries", dict(MIXES._entries))
    MIXES.register("step_for_tests", MixInfo(step=True))(MIXES["mixup"])
    MIXES.register("attending_for_tests", MixInfo(requires=("attention",)))(MIXES["mixup"])
    names = ["mixup", "step_for_tests", "attending_for_tests"]
    shots, skipped = mix_rows(scene(), rows_of(names, [0.5], ["off"]))
    assert [str(shot.row.action) for shot in shots] == ["mixup@0.5"]
    assert "training step of its own" in skipped["step_for_tests@0.5"]
    assert "needs the attention of the net" in skipped["attending_for_tests@0.5"]


def test_nothing_to_show_is_an_error(teacher):
    with pytest.raises(ConfigError, match="there is no teacher"):
        mix_rows(teacher, rows_of(["rmix"], [0.5], ["teacher_for_tests"]))


def test_saliency_that_is_part_of_a_training_run_is_left_out():
    providers = ("ema", "gradient_reuse", "teacher")
    shots, skipped = mix_rows(scene(), rows_of(["cutmix"], [0.5], ["off", *providers]))
    assert [str(shot.row.action) for shot in shots] == ["cutmix@0.5"]
    assert list(skipped) == [f"cutmix@0.5+{provider}" for provider in providers]
    assert all("part of a training run" in reason for reason in skipped.values())


def test_a_partner_is_shown_where_there_is_one():
    partners = ["cutmix", "mixstyle", "resizemix"]
    rows = rows_of([*partners, "cutout", "soft_crop", "comixup"], [0.5], ["off"])
    shots, _ = mix_rows(scene(), rows)
    assert [shot.row.name for shot in shots if shot.partner is not None] == partners
    assert len(shots) == 6
    sheet_png(scene(), shots)


def test_a_row_with_a_published_name_says_what_it_is():
    (shot,), _ = mix_rows(scene(), rows_of(["guidedmixup"], [0.5]))
    assert title(shot) == ["guidedmixup", "ratio 0.5", "guided by spectral", "is mixup"]
    (shot,), _ = mix_rows(scene(), rows_of(["snapmix"], [0.5]))
    assert title(shot)[-2:] == ["is asymmetric_cutmix", "labels by cam_mass"]


# The picture -------------------------------------------------------------------------------------


def test_a_label_in_words():
    for target, label in [
        ([0, 1, 0, 0], "b"),
        ([0.38, 0.62, 0, 0], "b .62 / a .38"),
        ([0.7, 0.3, 0, 0], "b .30 / a .70"),
        ([0.25, 0.1, 0.3, 0.35], "b .10 / d .35 / c .30 / ..."),
        ([0.004, 0.996, 0, 0], "b"),
        ([1, 0, 0, 0], "a"),
    ]:
        assert label_words(np.array(target), 1, list("abcd")) == label


def test_the_sheet_shows_the_pixels_and_is_the_same_each_time():
    shots, _ = mix_rows(scene(), rows_of(["none", "mixup@0.5+spectral"]))
    first, again, other = (sheet_png(scene(), shots, text) for text in ("one", "one", "two"))
    assert first == again != other
    with Image.open(io.BytesIO(first)) as picture:
        canvas = np.asarray(picture.convert("L"))
    wanted = np.round(255 * scene().shown(scene().images)[0, 0].numpy())
    side = 10 * wanted.shape[0]  # each pixel of a digit is a square of ten
    at = (slice(MARGIN + HEAD, MARGIN + HEAD + side), slice(MARGIN + NAMES, MARGIN + NAMES + side))
    np.testing.assert_array_equal(canvas[at], wanted.repeat(10, 0).repeat(10, 1))


def test_few_colours_look_like_all():
    shots, _ = mix_rows(scene(), rows_of(["comixup", "mixup"], [0.5], ["off", "spectral"]))
    all_colours, few = (
        np.asarray(Image.open(io.BytesIO(sheet_png(scene(), shots, palette=n))).convert("RGB"))
        for n in (0, 128)
    )
    assert np.abs(all_colours.astype(int) - few).max() < 20


@pytest.mark.parametrize("shape", [(1, 1, 40), (5, 9, 31), (3, 70, 130)])
def test_images_of_any_shape_can_be_drawn(shape, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (30, *shape), dtype=np.uint8)
    path = tmp_path / "noise.npz"
    images = noise[:, 0] if shape[0] == 1 else noise.transpose(0, 2, 3, 1)
    np.savez(path, images=images, labels=np.arange(30) % 2)
    overrides = ("task=npz", f"task.root='{path}'", "trainer.batch_size=10", "device=cpu")
    out = tmp_path / "made" / "g.png"
    made = write_gallery(out, tiny_run.load_settings(overrides), ["rmix"], [0.5])
    assert made.rows[0] == "rmix@0.5"
    with Image.open(out) as picture:
        assert picture.width > 8 * 80
    assert [file.name for file in out.parent.iterdir()] == ["g.png"]


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").touch()
    places = {"g.jpg": ConfigError, "folder.png": ConfigError, "file/g.png": ResourceError}
    for name, error in places.items():
        with pytest.raises(error, match=name):
            write_gallery(tmp_path / name, None)


def test_more_rows_than_a_page_can_hold_are_refused(monkeypatch):
    shots, _ = mix_rows(scene(), [GalleryRow("none", MixAction.parse("none"))])
    monkeypatch.setattr("automix.agents.gallery.sheet.MOST_PIXELS", 100)
    with pytest.raises(ConfigError, match="pixels high"):
        sheet_png(scene(), shots, "")
