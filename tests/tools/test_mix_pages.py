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
from tools.mix_pages.docstrings import Setting, markdown, read_docs
from tools.mix_pages.pictures import pictured, pictures
from tools.mix_pages.shares import RATIOS, SIZES, realised_share, share_forms

LARGEST_PICTURE = 40_000

SHARE = re.compile(r"(?<=\| )([01]\.\d\d|-)(?= \|)")

every_mix = pytest.mark.parametrize("name", MIXES)


def without_shares(text: str) -> str:
    return SHARE.sub("share", text)


# The files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*(f"{name}.md" for name in MIXES), INDEX])
def test_a_page_is_what_would_be_written_now(name):
    """All but the measured shares; make the pages again with ``python -m tools.mix_pages``."""
    made = dict(texts(lambda form, ratio, side: 0.0))
    assert without_shares((FOLDER / name).read_text(encoding="utf-8")) == without_shares(made[name])


def test_every_method_has_a_page_and_a_picture_and_nothing_else_has():
    pages = {f"{name}.md" for name in MIXES} | {INDEX}
    assert {path.name for path in FOLDER.iterdir()} == pages | {f"{n}.png" for n in pictured()}


@pytest.fixture
def register(monkeypatch):
    """Registers a mix until the end of the test."""
    list(MIXES)  # discover what there is before the copy
    monkeypatch.setattr(MIXES, "_entries", dict(MIXES._entries))
    return MIXES.register


def test_a_method_that_is_new_gets_a_page(register):
    register("new_for_tests")(noise)
    made = dict(texts(lambda form, ratio, side: 0.25))
    page = made["new_for_tests.md"]
    assert "| `decay` | 3.0 | How steep, `d` in the paper: above 0. |" in page
    assert '`trainer.mix.options=["new_for_tests.decay=3.0"]`' in page
    assert "| new_for_tests | 0.25 |" in page
    assert "![new_for_tests " in page
    assert "[new_for_tests](new_for_tests.md)" in made[INDEX]


def test_what_mixes_point_clouds_gets_a_page_without_picture_and_shares(register):
    register("points_for_tests", MixInfo(guided=True, points=True))(noise)
    made = dict(texts(lambda form, ratio, side: 0.25))
    page = made["points_for_tests.md"]
    assert re.findall("^## (.*)$", page, re.MULTILINE) == [
        "Idea",
        "Formula",
        "Use",
        "Settings",
        "Cost",
        "Differences from the paper",
    ]
    assert "env.actions" not in page
    assert "guided by" not in page
    assert "points_for_tests.png" not in page
    assert "| points_for_tests |" not in made[INDEX]
    assert "points_for_tests" not in pictured()


def test_a_step_of_its_own_gets_a_page_with_what_it_requires_and_costs(register):
    def own_step(net, step, *, decay: float = 3.0) -> StepLoss:
        logits = net(step.images)
        return StepLoss(soft_losses(logits, step.targets), step.own_share, (2, 1))

    own_step.__doc__ = noise.__doc__
    register("step_for_tests", MixInfo(step=True, requires=("features",), state=NoState))(own_step)
    made = dict(texts(lambda form, ratio, side: 0.25))
    page = made["step_for_tests.md"]
    assert re.findall("^## (.*)$", page, re.MULTILINE) == [
        "Idea",
        "Formula",
        "Use",
        "Requires",
        "Settings",
        "Cost",
        "Differences from the paper",
    ]
    assert "The net must show its `features` (cnn, vit)." in page
    assert "`automix.mixing.loss.loss_of`" in page
    assert "`automix.mixing.loss.new_state`" in page
    assert "| unguided | 2 | 1 |" in page
    assert "step_for_tests" not in pictured()
    assert "|  | features, gradient, state | cnn, vit |" in made[INDEX]
    assert "| step_for_tests | 0.25" not in made[INDEX]


def test_a_mask_that_no_convolutional_net_can_make_gets_a_page_without_picture(register):
    register("attending_for_tests", MixInfo(requires=("attention",)))(noise)
    made = dict(texts(lambda form, ratio, side: 0.25))
    assert "The net must show its `attention` (vit)." in made["attending_for_tests.md"]
    assert "## Picture" not in made["attending_for_tests.md"]
    assert "attending_for_tests" not in pictured()


def test_what_no_net_of_ours_can_play_has_no_measured_cost(register, monkeypatch):
    monkeypatch.setattr("tools.mix_pages.passes.nets_with", lambda *_: iter(()))
    register("unplayable_for_tests", MixInfo(step=True))(noise)
    page = dict(texts(lambda form, ratio, side: 0.25))["unplayable_for_tests.md"]
    assert "Not measured: no net of this project has what it requires." in page


class NoState:
    """Keeps nothing."""

    def __init__(self, setup):
        pass


@pytest.mark.parametrize("preset", PRESETS)
def test_a_published_name_stands_on_the_page_of_its_method_and_in_the_index(preset):
    made = dict(texts(lambda form, ratio, side: 0.0))
    method, form = form_of(preset).method, PRESETS[preset]
    told = f"- `{preset}` stands for `{form}`\n"
    assert [name for name, page in made.items() if told in page] == [f"{method}.md"]
    assert f"| `{preset}` | [`{form}`]({method}.md) |" in made[INDEX]


@every_mix
def test_the_setting_that_a_page_shows_is_the_default(name):
    page = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
    shown = re.findall(r'`trainer\.mix\.options=\["(.*?)"\]`', page)
    settings = parameters_of(name)
    first = dict(list(settings.items())[:1])
    assert options_of(shown) == ({name: first} if first else {})


@pytest.mark.parametrize("name", pictured())
def test_a_picture_is_small(name):
    assert (FOLDER / f"{name}.png").stat().st_size < LARGEST_PICTURE


def test_a_picture_can_be_made_again():
    name, content = next(pictures())
    with Image.open(FOLDER / name) as there:
        size = there.size
    assert content[16:24] == b"".join(side.to_bytes(4, "big") for side in size)


# The docstrings ----------------------------------------------------------------------------------


@every_mix
def test_a_mix_tells_its_formula_its_source_and_its_settings(name):
    docs = read_docs(MIXES[name])
    assert ": " in docs.title
    assert docs.idea
    assert docs.sections["Formula"]
    assert docs.source or name == "none"
    assert bool(docs.sections.get("Guided")) == MIXES.info(name).guided
    assert all(setting.meaning for setting in docs.settings)


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


def test_a_paper_becomes_a_link():
    assert markdown("see arXiv:2212.04875, 3") == (
        "see [arXiv:2212.04875](https://arxiv.org/abs/2212.04875), 3"
    )


# The shares --------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [form for name in MIXES for form in share_forms(name)])
def test_the_shares_of_a_page_are_got(form):
    """Of the small digits, one draw each: a standard error of 0.01 or less."""
    page = (FOLDER / f"{form.partition('+')[0]}.md").read_text(encoding="utf-8")
    told = re.search(rf"^\| {re.escape(form)} \| (.*) \|$", page, re.MULTILINE)
    assert told
    cells = told[1].split(" | ")
    assert len(cells) == len(SIZES) * len(RATIOS)
    for ratio, cell in zip(RATIOS, cells[: len(RATIOS)], strict=True):
        got = realised_share(form, ratio, SIZES[0], rounds=1)
        assert cell == "-" if got is None else abs(float(cell) - got) < 0.03


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
