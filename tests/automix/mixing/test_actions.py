"""MixAction: checked, simplified, written and read back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automix.core.errors import ConfigError
from automix.mixes import MIXES
from automix.mixing.actions import MAX_RATIO, OFF, PLAIN, MixAction, nearest_action
from automix.saliency import SALIENCY
from tests.cases import each
from tests.contract import FORMS

ratios = st.one_of(st.just(0.0), st.floats(1e-12, MAX_RATIO))


@st.composite
def actions(draw):
    form = draw(st.sampled_from(FORMS))
    saliency = draw(st.sampled_from(list(SALIENCY))) if form.guided else OFF
    applied = draw(st.sampled_from([1.0, 0.5, 0.125, 1e-5]))
    return MixAction(form.method, draw(ratios), saliency, applied)


@given(actions())
def test_what_is_written_reads_back(action):
    back = MixAction.parse(str(action))
    assert (back.method, back.saliency) == (action.method, action.saliency)
    assert back.mix_probability == action.mix_probability
    assert back.ratio == pytest.approx(action.ratio, rel=1e-5)  # six digits are written


@each(
    "text, action",
    [
        ("none", PLAIN),
        ("none@0.3", PLAIN),
        ("cutmix@0", PLAIN),
        ("rmix@0.0+gradient", PLAIN),
        ("mixup", MixAction("mixup", 0.5)),
        ("cutmix@0.3", MixAction("cutmix", 0.3)),
        ("rmix@0.25+gradient", MixAction("rmix", 0.25, "gradient")),
        ("rmix+spectral", MixAction("rmix", 0.5, "spectral")),
        ("mixup@1e-05+spectral", MixAction("mixup", 1e-5, "spectral")),
        ("cutmix@0.5p0.5", MixAction("cutmix", 0.5, mix_probability=0.5)),
        ("cutmix@0.5p1", MixAction("cutmix", 0.5)),
        ("rmix@0.25p0.1+gradient", MixAction("rmix", 0.25, "gradient", 0.1)),
        ("mixup@1e-05p1e-05", MixAction("mixup", 1e-5, mix_probability=1e-5)),
        ("none@0p0.5", PLAIN),
        ("cutmix@0p0.5", PLAIN),
    ],
)
def test_a_text_means_one_action(text, action):
    assert MixAction.parse(text) == action


@each(
    "text, names",
    [
        ("", "''"),
        ("cutmix@", "'cutmix@'"),
        ("cutmix@0.6", "0.6"),
        ("cutmix@1.2.3", "1.2.3"),
        ("cutmix@-0.1", "-0.1"),
        ("cutmx@0.5", "Did you mean 'cutmix'"),
        ("rmix@0.5+gradiant", "Did you mean 'gradient'"),
        ("none@0+gradient", "none has no form guided"),
        ("CutMix@0.5", "CutMix"),
        ("cutmix@0.5 ", "cutmix@0.5 "),
        ("cutmix@0.5p", "'cutmix@0.5p'"),
        ("cutmixp0.5", "cutmixp0.5"),
        ("cutmix@p0.5", "'cutmix@p0.5'"),
        ("cutmix@0.5+gradientp0.5", "gradientp0"),
        ("cutmix@0.5p0", "mix probability of cutmix is 0.0"),
        ("cutmix@0.5p1.1", "mix probability of cutmix is 1.1"),
        ("cutmix@0.5p1.1.1", "mix probability '1.1.1' is not a number"),
    ],
)
def test_a_text_that_means_nothing_is_refused_by_its_own_words(text, names):
    with pytest.raises(ConfigError) as error:
        MixAction.parse(text)
    assert names in error.value.message


@each("ratio", [-0.001, 0.501, 1.0, float("nan"), float("inf")])
def test_a_ratio_is_at_most_one_half(ratio):
    with pytest.raises(ConfigError, match="ratio of cutmix"):
        MixAction("cutmix", ratio)


@each("probability", [0.0, -0.1, 1.001, float("nan"), float("inf")])
def test_a_mix_probability_is_above_zero_and_at_most_one(probability):
    with pytest.raises(ConfigError, match="mix probability of cutmix"):
        MixAction("cutmix", 0.5, mix_probability=probability)


def test_what_mixes_every_batch_does_not_speak_of_it():
    assert str(MixAction("cutmix", 0.5)) == "cutmix@0.5"
    assert str(MixAction("rmix", 0.5, "gradient", 0.5)) == "rmix@0.5p0.5+gradient"


@pytest.mark.parametrize("method", ["none", "cutmix", "rmix"])
def test_all_that_mixes_nothing_is_one_action(method):
    nothing = MixAction(method, 0.0, mix_probability=0.5, label_rule="requested")
    assert nothing == PLAIN
    assert hash(nothing) == hash(PLAIN)
    assert not nothing.mixes
    assert MixAction("none", 0.5) == replace(PLAIN, ratio=0.5) == PLAIN
    assert replace(PLAIN, method="cutmix", ratio=0.5) == MixAction("cutmix", 0.5)


def test_an_action_is_a_value():
    assert {MixAction("cutmix", 0.5), MixAction("cutmix", 0.5, OFF)} == {MixAction("cutmix", 0.5)}
    with pytest.raises(AttributeError):
        PLAIN.ratio = 0.5


@each("method", list(MIXES))
@each("ratio", [0.0, 0.3])
@each("saliency", [OFF, "gradient"])
def test_three_parts_mean_the_action_that_is_left_without_the_meaningless_ones(
    method, ratio, saliency
):
    if method == "none" or ratio == 0:
        wanted = PLAIN
    else:
        guided = MIXES.info(method).guided
        wanted = MixAction(method, ratio, saliency if guided else OFF)
    assert nearest_action(method, ratio, saliency) == wanted
