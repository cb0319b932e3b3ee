"""Label rules: which weight the own label keeps."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from automix.core.errors import ConfigError
from automix.core.registry import Entry
from automix.core.seeding import generator
from automix.labels import LABEL_RULES, MixRecord, Seen, Weights, check_label_rule
from automix.masks.pairing import pair_batches
from automix.masks.shapes import Constant, Mask, as_mask
from automix.mixes import MIXES, MixInfo
from automix.mixing.actions import MixAction
from automix.mixing.batch import Mixed, MixSettings, label, mix_batch
from automix.nets.create import create_classifier
from tests.cases import each
from tests.references import blending
from tests.references import labels as references
from tests.strategies import SEEDS


def masks(seed: int, b: int = 4, size: tuple[int, int] = (5, 3)) -> torch.Tensor:
    return torch.from_numpy(generator(seed).random((b, 1, *size), dtype="float32"))


def shown(mask: Mask | torch.Tensor, share: np.ndarray, **more: object) -> MixRecord:
    """What a rule is given about a batch of which each image has a mask of its own."""
    rng, n = generator(0, "rule"), len(mask)
    return MixRecord(as_mask(mask), share, pair_batches(n, n, "roll", rng), rng, **more)


@given(share=st.lists(st.floats(0, 1, width=32), min_size=1, max_size=5))
def test_requested_is_what_was_asked_whatever_the_mask(share):
    share = np.array(share, np.float32)
    for mask in (torch.zeros(len(share), 1, 2, 2), torch.ones(len(share), 1, 2, 2)):
        assert (LABEL_RULES["requested"](shown(mask, share)) == 1 - share).all()


@each("name", list(LABEL_RULES))
def test_every_rule_weighs_in_float32_between_nothing_and_all(name):
    mask = masks(1)
    maps = mask[:, 0] / mask.sum((1, 2, 3))[:, None, None]
    for given_mask in (mask, mask.bfloat16(), torch.zeros_like(mask), torch.ones_like(mask)):
        share = given_mask.float().mean((1, 2, 3)).numpy()
        told = LABEL_RULES[name](shown(given_mask, share, own=maps, partner=maps.flip(0)))
        for lam in (told.own, told.partner) if isinstance(told, Weights) else (told,):
            lam = torch.as_tensor(lam)
            assert lam.shape == (4,)
            assert lam.dtype == torch.float32
            assert bool(((lam >= 0) & (lam <= 1)).all())


# Rules that weigh by more than the mask ---------------------------------------------------------

SIZE, CLASSES = (5, 3), 7
MAPPED = [entry.name for entry in LABEL_RULES.entries() if entry.info.needs_maps]


def maps(seed: int, n: int = 4, size: tuple[int, int] = SIZE) -> torch.Tensor:
    """Maps (n, h, w) that sum to 1."""
    drawn = masks(seed, n, size)[:, 0] ** 3
    return drawn / drawn.sum((1, 2), keepdim=True)


def boxed(size: tuple[int, int] = SIZE) -> torch.Tensor:
    """Masks of zeros and ones: nothing, a corner, most, all."""
    mask = torch.zeros(4, 1, *size)
    mask[1, :, :2, :1] = 1
    mask[2, :, :, 1:] = 1
    mask[3] = 1
    return mask


def weigh(rule: str, given: MixRecord, **options: object) -> tuple[torch.Tensor, torch.Tensor]:
    """The weights of both labels, one for each image."""
    told = LABEL_RULES[rule](given, **options)
    if isinstance(told, Weights):
        return told.own, told.partner
    lam = torch.as_tensor(told)
    return lam, 1 - lam


def targets_of(
    rule: str, given: MixRecord, classes: int = CLASSES, **options: object
) -> torch.Tensor:
    """Targets of images of which the first has the label 0, the second 1 ..."""
    words = tuple(f"{rule}.{name}={value}" for name, value in options.items())
    return label(torch.arange(len(given.pairs.partner)), classes, given, rule, words)[0]


@given(seed=SEEDS, norm=st.sampled_from([1.0, 2.0, 3.0]))
def test_saliency_mass_is_its_slow_twin(seed, norm):
    own, partner = maps(seed), maps(seed + 1)
    for mask in (masks(seed + 2), boxed()):
        given = shown(mask, np.zeros(4), own=own, partner=partner)
        got = weigh("saliency_mass", given, norm=norm)[0]
        for i in range(4):
            parts = (mask[i, 0].tolist(), own[i].tolist(), partner[i].tolist())
            wanted = references.saliency_mass(*parts, norm)
            assert float(got[i]) == pytest.approx(wanted, abs=1e-5)


@given(seed=SEEDS)
def test_cam_mass_is_its_slow_twin(seed):
    own, partner = maps(seed), maps(seed + 1)
    for mask in (masks(seed + 2), boxed()):
        got = weigh("cam_mass", shown(mask, np.zeros(4), own=own, partner=partner))
        for i in range(4):
            parts = (mask[i, 0].tolist(), own[i].tolist(), partner[i].tolist())
            wanted = references.cam_mass(*parts)
            assert [float(one[i]) for one in got] == pytest.approx(wanted, abs=1e-5)


@each("rule", MAPPED)
@given(seed=SEEDS)
def test_uniform_saliency_is_area(rule, seed):
    even = torch.full((4, *SIZE), 1 / 15)
    for mask in (masks(seed), boxed()):
        given = shown(mask, np.zeros(4), own=even, partner=even)
        area = LABEL_RULES["area"](given)
        own, partner = weigh(rule, given)
        assert_close(own, area, atol=1e-5, rtol=0)
        assert_close(partner, 1 - area, atol=1e-5, rtol=0)


def test_the_euclidean_norm_of_uniform_maps_is_not_the_area():
    """Which is why it is not the default: a quarter covered leaves 0.63."""
    mask = torch.zeros(1, 1, 2, 2)
    mask[0, 0, 0, 0] = 1
    even = torch.full((1, 2, 2), 0.25)
    lam = weigh("saliency_mass", shown(mask, np.zeros(1), own=even, partner=even), norm=2.0)[0]
    assert float(lam) == pytest.approx(3**0.5 / (3**0.5 + 1))


def test_what_matters_decides_not_how_much_is_covered():
    own = torch.zeros(2, 4, 1, 2)
    own[0, :, 0, 0] = 1  # all that matters of the own images is on the left, which the mask covers
    own[1, :, 0, 1] = 1
    mask = torch.zeros(4, 1, 1, 2)
    mask[..., 0] = 1
    partner = torch.tensor([[[0.3, 0.7]]]).expand(4, 1, 2)
    lost, kept = (shown(mask, np.zeros(4), own=one, partner=partner) for one in own)
    assert_close(weigh("saliency_mass", lost)[0], torch.zeros(4))
    assert_close(weigh("saliency_mass", kept)[0], torch.full((4,), 1 / 1.3))
    assert_close(torch.stack(weigh("cam_mass", lost)), torch.tensor([[0.0], [0.3]]).expand(2, 4))
    assert_close(torch.stack(weigh("cam_mass", kept)), torch.tensor([[1.0], [0.3]]).expand(2, 4))


@each(
    "rule, bad",
    [("saliency_mass", 0.0), ("saliency_mass", float("nan")), ("cam_mass", float("nan"))],
)
def test_maps_that_tell_nothing_leave_the_area(rule, bad):
    nothing, mask = torch.full((4, *SIZE), bad), masks(3)
    given = shown(mask, np.zeros(4), own=nothing, partner=nothing)
    assert_close(weigh(rule, given)[0], LABEL_RULES["area"](given))


def test_cam_mass_need_not_sum_to_1_and_one_class_gets_both():
    own, partner, mask = maps(0), maps(1), masks(2)
    given = shown(mask, np.zeros(4), own=own, partner=partner)
    mine, theirs = weigh("cam_mass", given)
    assert float((mine + theirs - 1).abs().max()) > 0.02
    targets = label(torch.zeros(4, dtype=torch.int64), 3, given, "cam_mass")[0]
    assert_close(targets[:, 0], mine + theirs)
    assert not targets[:, 1:].any()


# Perturbed --------------------------------------------------------------------------------------


@given(seed=SEEDS, strength=st.floats(0.01, 0.6), noise=st.floats(0, 0.4))
def test_perturbed_is_its_slow_twin(seed, strength, noise):
    mask = torch.cat([masks(seed)[:2], boxed()[[0, 3]]])
    rng = generator(seed, "rule")
    given = dataclasses.replace(shown(mask, np.zeros(4)), rng=rng)
    told = LABEL_RULES["perturbed"](given, strength=strength, noise=noise, alpha=2.0)
    chance = generator(seed, "rule").beta(2.0, 2.0, 4)
    area = (1 - mask.mean((1, 2, 3))).tolist()
    seen = torch.from_numpy(generator(seed, "seen").random((2, 4), dtype=np.float32))
    got = told.revision(Seen(*seen), slice(None))
    for i in range(4):
        numbers = (strength, noise)
        wanted = references.perturbed(area[i], *seen[:, i].tolist(), chance[i], *numbers)
        assert float(got[i]) == pytest.approx(wanted, abs=1e-5)
        # Without the classifier's word, the area stands for it.
        before = references.perturbed(area[i], area[i], 1 - area[i], chance[i], *numbers)
        assert float(told.own[i]) == pytest.approx(before, abs=1e-5)
    assert_close(told.revision(Seen(*seen[:, 1:3]), slice(1, 3)), got[1:3])
    assert got[2:].tolist() == [1, 0], "an image that shows one of the two keeps its label"


def test_a_classifier_that_knows_neither_has_no_say():
    given = shown(masks(0), np.zeros(4))
    told = LABEL_RULES["perturbed"](given, noise=0.0)
    nothing = torch.zeros(4)
    assert_close(told.revision(Seen(nothing, nothing), slice(None)), LABEL_RULES["area"](given))


def test_noise_is_drawn_once_for_each_mask():
    """With one mask a batch, the images of a batch share it."""
    rng = generator(0, "rule")
    given = MixRecord(
        as_mask(torch.full((3, 1, 2, 2), 0.5)), np.zeros(3), pair_batches(8, 3, "roll", rng), rng
    )
    own, partner = weigh("perturbed", given, strength=0.0, noise=0.5)
    assert [len(part.unique()) for part in own.split(3)] == [1, 1, 1]
    assert len(own.unique()) == 3
    assert float(own.min()) >= 0.25
    assert float(own.max()) <= 0.75
    assert_close(own + partner, torch.ones(8))


def test_noise_follows_its_law():
    n = 20_000
    given = shown(torch.full((n, 1, 1, 1), 0.5), np.zeros(n))
    drawn = weigh("perturbed", given, strength=0.0, noise=1.0, alpha=3.0)[0].numpy()
    assert abs(drawn.mean() - 0.5) < 0.01
    assert abs(drawn.var() - 1 / 28) < 0.002  # of Beta(3, 3)


def test_the_classifier_revises_the_targets():
    """Whoever the classifier sees more of gets more of the label, through mix_batch."""
    words = ("perturbed.strength=0.5", "perturbed.noise=0")
    mixed = mix(MixAction.parse("mixup@0.5:perturbed"), settings=MixSettings(options=words))
    logits = torch.zeros(6, CLASSES)
    logits[:, 0] = 50.0  # sure of class 0, which the first image and the last mixed one have
    targets = mixed.revised(logits, slice(None))
    lam, partner = mixed.lam, mixed.partner.tolist()
    for i in range(6):
        seen = 1.0 if i == 0 else 0.0 if partner[i] == 0 else 0.5
        wanted = torch.zeros(CLASSES)
        wanted[i] += 0.5 * lam[i] + 0.5 * seen
        wanted[partner[i]] += 1 - wanted[i]
        assert_close(targets[i], wanted)
    assert_close(mixed.revised(logits[2:5], slice(2, 5)), targets[2:5])


def test_what_the_classifier_sees_does_not_hang_on_the_weights_of_images():
    """Rows that weigh more in the loss are no surer for it."""
    weight = torch.tensor([0.5, 2.0, 1.0, 1.5])[:, None]
    rows, logits = torch.eye(CLASSES)[:4], torch.randn(4, CLASSES)
    words = ("perturbed.strength=0.8", "perturbed.noise=0")
    given = shown(masks(0), np.zeros(4))
    plain, heavy = (
        label(one, CLASSES, given, "perturbed", words)[3](logits, slice(None))
        for one in (rows, rows * weight)
    )
    columns = torch.cat([weight[:, 0], torch.ones(3)])  # each class is one image's
    assert_close(heavy, plain * columns)


# Visibility -------------------------------------------------------------------------------------


def erased(mask: torch.Tensor) -> MixRecord:
    """Images of which something was erased."""
    return shown(mask, np.zeros(len(mask)), keeps_label=True)


@given(seed=SEEDS, power=st.sampled_from([4.0, 1.0, 2.5]))
def test_visibility_of_erased_images_is_its_slow_twin(seed, power):
    mask = torch.cat([masks(seed)[:2], boxed()[[0, 3]]])
    targets = targets_of("visibility", erased(mask), power=power)
    for i in range(4):
        visible = 1 - float(mask[i].mean())
        wanted = references.softened(i, visible, CLASSES, power)
        assert targets[i].tolist() == pytest.approx(wanted, abs=1e-5)


@given(seed=SEEDS)
def test_visibility_of_two_images_softens_each_label_by_what_is_seen_of_it(seed):
    mask = masks(seed)
    given = shown(mask, np.zeros(4))
    targets = targets_of("visibility", given)
    for i, j in enumerate(given.pairs.partner.tolist()):
        lam = 1 - float(mask[i].mean())
        own = references.softened(i, lam, CLASSES, 4.0)
        partner = references.softened(j, 1 - lam, CLASSES, 4.0)
        wanted = blending.mixed_label(own, partner, lam)
        assert targets[i].tolist() == pytest.approx(wanted, abs=1e-5)


@each("keeps_label", [True, False])
def test_images_that_weigh_more_than_others_do_so_softened_too(keeps_label):
    """A row's sum is its weight in the loss: that of the mixed row is mixed like labels."""
    rows = torch.eye(CLASSES)[:4] * torch.tensor([0.5, 2.0, 1.0, 1.5])[:, None]
    given = shown(masks(0), np.zeros(4), keeps_label=keeps_label)
    targets = label(rows, CLASSES, given, "visibility")[0]
    lam = torch.ones(4) if keeps_label else LABEL_RULES["area"](given)
    sums = rows.sum(1)
    assert_close(targets.sum(1), lam * sums + (1 - lam) * sums[given.pairs.partner])


def test_an_image_that_is_mixed_with_itself_is_seen_whole():
    pairs = pair_batches(3, 3, "flip", generator(0))
    given = MixRecord(as_mask(torch.full((3, 1, 1, 1), 0.5)), np.zeros(3), pairs, generator(0))
    targets = targets_of("visibility", given)
    assert_close(targets[1], torch.eye(CLASSES)[1])
    assert float(targets[0].max()) < 0.5


# In a batch -------------------------------------------------------------------------------------


def action_of(rule: str, method: str = "cutmix", ratio: float = 0.5) -> MixAction:
    guide = "+spectral" if LABEL_RULES.info(rule).needs_maps else ""
    return MixAction.parse(f"{method}@{ratio}{guide}:{rule}")


def mix(action: MixAction, n: int = 6, **changes: object) -> Mixed:
    images = torch.from_numpy(generator(3, "images").random((n, 2, 8, 9), dtype=np.float32))
    options = {"num_classes": CLASSES, "rng": generator(5, "mix")} | changes
    return mix_batch(options.pop("images", images), torch.arange(n), action, **options)


every_rule = each("rule", list(LABEL_RULES))


@every_rule
@each("method", ["mixup", "cutmix", "rmix"])
@each("share_per", ["image", "batch"])
def test_targets_are_what_the_rule_tells_about_each_image(rule, method, share_per):
    action, settings = action_of(rule, method), MixSettings(share_per=share_per)
    mixed = mix(action, settings=settings, batch_size=3)
    draws = rule.startswith("perturbed")  # what cannot be drawn once more
    told = None if draws else LABEL_RULES[rule](mixed.record)
    rows = mixed.targets
    assert rows.shape == (6, CLASSES)
    assert rows.dtype == torch.float32
    assert bool((rows >= 0).all())
    if rule != "cam_mass":
        assert_close(rows.sum(1), torch.ones(6))
    if told is None or (isinstance(told, Weights) and told.blur):
        return
    own, partner = weigh(rule, mixed.record)
    if len(own) != 6:
        own, partner = own.repeat_interleave(3), partner.repeat_interleave(3)
    for i, j in enumerate(mixed.partner.tolist()):
        assert float(rows[i, i]) == pytest.approx(float(own[i]), abs=1e-6)
        assert float(rows[i, j]) == pytest.approx(float(partner[i]), abs=1e-6)
    assert int((rows > 0).sum()) <= 12


@every_rule
def test_batches_that_are_not_mixed_keep_their_labels_under_every_rule(rule):
    action = action_of(rule)
    for settings in (MixSettings(mix_probability=0.0), MixSettings(label_rule=rule)):
        played = action if settings.mix_probability == 0 else MixAction("none", 0.0)
        mixed = mix(played, settings=settings)
        assert_close(mixed.targets, torch.eye(CLASSES)[:6], atol=1e-6, rtol=0)
        if mixed.revised is not None:
            said = mixed.revised(torch.randn(6, CLASSES), slice(None))
            assert_close(said, torch.eye(CLASSES)[:6])


@every_rule
@each("pairing", ["flip", "derange"])
def test_an_image_alone_keeps_its_label_under_every_rule(rule, pairing):
    mixed = mix(action_of(rule, "mixup"), 3, batch_size=1, settings=MixSettings(pairing=pairing))
    assert_close(mixed.targets, torch.eye(CLASSES)[:3])


@every_rule
def test_half_precision_images_give_the_same_labels(rule):
    images = torch.rand(6, 2, 8, 9)
    guide = maps(1, 6, (8, 9))
    full, half = (
        mix(action_of(rule), images=one, saliency=guide) for one in (images, images.bfloat16())
    )
    assert torch.equal(full.targets, half.targets)
    assert half.targets.dtype == torch.float32


@every_rule
def test_soft_labels_of_the_classes_give_what_the_classes_give(rule):
    images, action = torch.rand(6, 2, 8, 9), action_of(rule)
    got, wanted = (
        mix_batch(images, labels, action, num_classes=CLASSES, rng=generator(0))
        for labels in (torch.eye(CLASSES)[:6], torch.arange(6))
    )
    assert_close(got.targets, wanted.targets)


@every_rule
def test_erased_images_keep_their_label_but_for_rules_that_know_better(rule, monkeypatch):
    erase = Entry("erase", lambda draw: Constant(draw.share), MixInfo(keeps_label=True))
    monkeypatch.setitem(MIXES._entries, "erase", erase)
    if LABEL_RULES.info(rule).erasures or rule == "area":
        mixed = mix(MixAction("erase", 0.5, label_rule=rule))
    else:
        with pytest.raises(ConfigError, match="erase shows no other class") as error:
            MixAction("erase", 0.5, label_rule=rule)
        assert f"{action_of('area').method}@0.5" in error.value.hint
        mixed = mix(MixAction("erase", 0.5), settings=MixSettings(label_rule=rule))
    whole = torch.equal(mixed.targets, torch.eye(CLASSES)[:6])
    assert whole == (rule != "visibility")


def test_an_action_names_rule_and_provider():
    net = create_classifier("small_cnn_w8", num_classes=CLASSES, shape=(2, 8, 9), seed=0)
    action = MixAction.parse("cutmix@0.5+gradient:saliency_mass")
    mixed = mix(action, classifier=net)
    plain = mix(MixAction.parse("cutmix@0.5+gradient"), classifier=net)
    assert torch.equal(mixed.images, plain.images)
    assert_close(mixed.lam, LABEL_RULES["saliency_mass"](mixed.record))
    assert float((mixed.lam - plain.lam).abs().max()) > 0.01


@each("rule", MAPPED)
@each("method", ["cutmix", "rmix"])
def test_a_rule_that_needs_maps_names_an_action_that_has_them(rule, method):
    with pytest.raises(ConfigError, match=f"{rule}.* weighs labels by saliency") as error:
        MixAction(method, 0.5, label_rule=rule)
    suggested = error.value.hint.split("for example ")[1].split(",")[0]
    assert MixAction.parse(suggested).label_rule == rule
    with pytest.raises(ConfigError, match="weighs labels by saliency"):
        mix(MixAction(method, 0.5), settings=MixSettings(label_rule=rule))


@each(
    "fact, rule, message",
    [
        ("layers", "perturbed", "shows more images than two"),
        ("layers", "visibility", "shows more images than two"),
        ("points", "cam_mass", "point clouds"),
        ("points", "attention", "point clouds"),
        ("layers", "token_aligned", "shows more images than two"),
        ("step", "attention", "training steps of its own"),
        ("step", "requested", "training steps of its own"),
    ],
)
def test_a_rule_that_does_not_fit_names_an_action_that_it_fits(fact, rule, message, monkeypatch):
    monkeypatch.setitem(
        MIXES._entries, "odd", Entry("odd", lambda draw: None, MixInfo(**{fact: True}))
    )
    saliency = "gradient" if rule in MAPPED else "off"
    with pytest.raises(ConfigError, match=message) as error:
        check_label_rule(rule, "odd@0.5", "odd", saliency != "off")
    assert MixAction.parse(error.value.hint.split(": ")[1]).label_rule == rule


def test_settings_reach_the_rules():
    words = ["perturbed.strength=0", "perturbed.noise=0"]
    base, still = (
        mix(action_of(rule), settings=MixSettings(options=words)) for rule in ("area", "perturbed")
    )
    assert torch.equal(base.targets, still.targets)
    assert not torch.equal(base.targets, mix(action_of("perturbed")).targets)
