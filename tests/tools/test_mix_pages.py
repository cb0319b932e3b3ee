"""The pages of the mixes say what docstrings and registries say now."""

from __future__ import annotations

import re

import pytest
from PIL import Image

from automix.core.errors import ConfigError
from automix.masks.method_steps import StepLoss, soft_losses
from automix.masks.shapes import Constant
from automix.mixes import MIXES, MixInfo
from automix.mixing.actions import PRESETS, form_of
from automix.mixing.options import options_of, parameters_of
from tools.mix_pages import FOLDER, INDEX, share_table, texts
from tools.mix_pages.docstrings import Setting, read_docs
from tools.mix_pages.pictures import pictured, pictures
from tools.mix_pages.shares import RATIOS, SIZES, realised_share, share_forms

LARGEST_PICTURE = 40_000

SHARE = re.compile(r"(?<=\| )([01]\.\d\d|-)(?= \|)")


def without_shares(text: str) -> str:
    return SHARE.sub("share", text)


def headings(page: str) -> str:
    return ", ".join(re.findall("^## (.*)$", page, re.MULTILINE))


# The files ---------------------------------------------------------------------------------------


def page_of(name: str) -> str:
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8")


def made(share: float = 0.25) -> dict[str, str]:
    return dict(texts(lambda form, ratio, side: share))


def test_the_pages_are_what_would_be_written_now():
    """All but the measured shares; make the pages again with ``python -m tools.mix_pages``."""
    pages = made()
    assert set(pages) == {f"{name}.md" for name in MIXES} | {INDEX}
    assert {path.name for path in FOLDER.iterdir()} == {*pages, *(f"{n}.png" for n in pictured())}
    for name, text in pages.items():
        there = (FOLDER / name).read_text(encoding="utf-8")
        assert without_shares(there) == without_shares(text), name
    for preset, form in PRESETS.items():
        method = form_of(preset).method
        line = f"- `{preset}` stands for `{form}`\n"
        assert [name for name, page in pages.items() if line in page] == [f"{method}.md"]
        assert f"| `{preset}` | [`{form}`]({method}.md) |" in pages[INDEX]


@pytest.fixture
def register(monkeypatch):
    """Registers a mix until the end of the test."""
    list(MIXES)  # discover what there is before the copy
    monkeypatch.setattr(MIXES, "_entries", dict(MIXES._entries))
    return MIXES.register


def test_a_method_that_is_new_gets_a_page(register):
    register("new_for_tests")(noise)
    pages = made()
    page = pages["new_for_tests.md"]
    assert "| `decay` | 3.0 | How steep, `d` in the paper: above 0. |" in page
    assert '`trainer.mix.options=["new_for_tests.decay=3.0"]`' in page
    assert "| new_for_tests | 0.25 |" in page
    assert "![new_for_tests " in page
    assert "[new_for_tests](new_for_tests.md)" in pages[INDEX]


def test_what_mixes_point_clouds_gets_a_page_without_picture_and_shares(register):
    register("points_for_tests", MixInfo(guided=True, points=True))(noise)
    pages = made()
    page = pages["points_for_tests.md"]
    assert headings(page) == "Idea, Formula, Use, Settings, Cost, Differences from the paper"
    assert "env.actions" not in page
    assert "guided by" not in page
    assert "points_for_tests.png" not in page
    assert "| points_for_tests |" not in pages[INDEX]
    assert "points_for_tests" not in pictured()


def test_a_step_of_its_own_gets_a_page_with_what_it_requires_and_costs(register):
    def own_step(net, step, *, decay: float = 3.0) -> StepLoss:
        logits = net(step.images)
        return StepLoss(soft_losses(logits, step.targets), step.own_share, (2, 1))

    own_step.__doc__ = noise.__doc__
    register("step_for_tests", MixInfo(step=True, requires=("features",), state=NoState))(own_step)
    pages = made()
    page = pages["step_for_tests.md"]
    wanted = "Idea, Formula, Use, Requires, Settings, Cost, Differences from the paper"
    assert headings(page) == wanted
    assert "The net must show its `features` (cnn, vit)." in page
    assert "`automix.mixing.loss.loss_of`" in page
    assert "`automix.mixing.loss.new_state`" in page
    assert "| unguided | 2 | 1 |" in page
    assert "step_for_tests" not in pictured()
    assert "|  | features, gradient, state | cnn, vit |" in pages[INDEX]
    assert "| step_for_tests | 0.25" not in pages[INDEX]


def test_a_mask_that_no_convolutional_net_can_make_gets_a_page_without_picture(register):
    register("attending_for_tests", MixInfo(requires=("attention",)))(noise)
    page = made()["attending_for_tests.md"]
    assert "The net must show its `attention` (vit)." in page
    assert "## Picture" not in page
    assert "attending_for_tests" not in pictured()


def test_what_no_net_of_ours_can_play_has_no_measured_cost(register, monkeypatch):
    monkeypatch.setattr("tools.mix_pages.passes.nets_with", lambda *_: iter(()))
    register("unplayable_for_tests", MixInfo(step=True))(noise)
    page = made()["unplayable_for_tests.md"]
    assert "Not measured: no net of this project has what it requires." in page


class NoState:
    """Keeps nothing."""

    def __init__(self, setup):
        pass


def test_the_setting_that_a_page_shows_is_the_default():
    for name in MIXES:
        shown = re.findall(r'`trainer\.mix\.options=\["(.*?)"\]`', page_of(name))
        first = dict(list(parameters_of(name).items())[:1])
        assert options_of(shown) == ({name: first} if first else {}), name


def test_a_picture_is_small_and_can_be_made_again():
    for name in pictured():
        assert (FOLDER / f"{name}.png").stat().st_size < LARGEST_PICTURE, name
    name, content = next(pictures())
    with Image.open(FOLDER / name) as there:
        size = there.size
    assert content[16:24] == b"".join(side.to_bytes(4, "big") for side in size)


# The docstrings ----------------------------------------------------------------------------------


def test_a_mix_says_its_formula_its_source_and_its_settings():
    for name in MIXES:
        docs = read_docs(MIXES[name])
        assert ": " in docs.title, name
        assert docs.idea, name
        assert docs.sections["Formula"], name
        assert docs.source or name == "none"
        assert bool(docs.sections.get("Guided")) == MIXES.info(name).guided, name
        assert all(setting.meaning for setting in docs.settings), name


def noise(draw, *, decay: float = 3.0, kind: str = "a") -> None:
    """Cut out by noise.

    More about ``noise``:
    on a second line.

    Formula:
        M = s

        p ~ ``as it stands``

    Args:
        draw: As for all.
        decay: How steep, ``d`` in the
            paper: above 0.
        kind: Which.

    Differs:
        - One, arXiv:1905.04899.
    """


def test_the_parts_of_a_docstring():
    docs = read_docs(noise)
    assert docs.title == "The pages of the mixes say what docstrings and registries say now"
    assert docs.source == ""
    assert docs.idea == "Cut out by noise.\n\nMore about `noise`:\non a second line."
    assert docs.sections == {
        "Formula": "M = s\n\np ~ ``as it stands``",
        "Differs": "- One, [arXiv:1905.04899](https://arxiv.org/abs/1905.04899).",
    }
    assert docs.settings == (
        Setting("decay", "3.0", "How steep, `d` in the paper: above 0."),
        Setting("kind", "a", "Which."),
    )


# The shares --------------------------------------------------------------------------------------


def test_the_shares_of_a_page_are_what_is_measured():
    """Of the small digits, one draw each: a standard error of 0.01 or less."""
    for form in (form for name in MIXES for form in share_forms(name)):
        page = page_of(form.partition("+")[0])
        row = re.search(rf"^\| {re.escape(form)} \| (.*) \|$", page, re.MULTILINE)
        assert row, form
        cells = row[1].split(" | ")
        assert len(cells) == len(SIZES) * len(RATIOS)
        for ratio, cell in zip(RATIOS, cells[: len(RATIOS)], strict=True):
            got = realised_share(form, ratio, SIZES[0], rounds=1)
            assert cell == "-" if got is None else abs(float(cell) - got) < 0.03, (form, ratio)


def test_what_mixes_nothing_has_no_row():
    assert share_forms("none") == []
    assert len(share_table(["none"], lambda *_: 0.5).splitlines()) == 2


def test_what_is_erased_counts_though_its_label_stays_whole(register):
    @register("grey_for_tests", MixInfo(keeps_label=True))
    def grey(draw):
        return Constant(draw.share)

    assert realised_share("grey_for_tests", 0.5, SIZES[0], rounds=1) == pytest.approx(0.5, abs=0.03)


def test_a_form_that_cannot_mix_digits_has_a_dash(register):
    @register("colours_for_tests")
    def colours(draw):
        raise ConfigError("wants three channels")

    table = share_table(["colours_for_tests"])
    assert table.splitlines()[-1] == "| colours_for_tests | - | - | - | - | - | - |"
