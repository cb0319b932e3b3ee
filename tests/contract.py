"""What every mix must keep, as functions that fail with an AssertionError.

The property tests run them on what the packages do, and ``test_mutants.py`` on what they would do
with a mistake in them.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.testing import assert_close

from automix.actions import OFF, MixAction
from automix.labels import LABEL_RULES
from automix.masks import Mask, as_mask
from automix.mixes import MIXES, Draw
from automix.mixing import Mixed, MixSettings, draw_share, mix_batch
from automix.seeding import generator
from tests.references import blending
from tests.references import cutmix as cutmix_reference
from tests.references import mixup as mixup_reference
from tests.references import rmix as rmix_reference

ANY_MAP = "spectral"
"""Any provider's name makes an action guided; the maps themselves are handed in."""


@dataclass(frozen=True)
class Form:
    """A mix method, guided by saliency or not."""

    method: str
    guided: bool = False

    def __str__(self) -> str:
        return f"{self.method}{'-guided' * self.guided}"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One batch to mix."""

    form: Form
    rule: str = "area"
    b: int = 8
    channels: int = 3
    size: tuple[int, int] = (8, 12)
    ratio: float = 0.5
    pairing: str = "derange"
    share_per: Literal["image", "batch"] = "image"
    dtype: torch.dtype = torch.float32
    seed: int = 0

    @property
    def action(self) -> MixAction:
        return MixAction(self.form.method, self.ratio, ANY_MAP if self.form.guided else OFF)

    @property
    def settings(self) -> MixSettings:
        return MixSettings(label_rule=self.rule, pairing=self.pairing, share_per=self.share_per)


FORMS = [
    Form(entry.name, guided)
    for entry in MIXES.entries()
    for guided in ([False, True] if entry.tags["guided"] else [False])
]
MIXING = [form for form in FORMS if form.method != "none"]
GUIDED = [form for form in FORMS if form.guided]
MIXUP, CUTMIX, RMIX = Form("mixup"), Form("cutmix"), Form("rmix")
RULES = list(LABEL_RULES)


CPU = torch.device("cpu")

ROUNDING = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 4e-2, torch.uint8: 0.51}
"""How far a blend of images in [-4, 4], of uint8 in [0, 255], may be from the exact one."""


def noise_images(case: Case) -> Tensor:
    """Images of multiples of 1/16 in [-4, 4], which bfloat16 holds exactly; uint8 in [0, 255]."""
    rng = generator(case.seed, "images")
    shape = (case.b, case.channels, *case.size)
    if case.dtype == torch.uint8:
        return torch.from_numpy(rng.integers(0, 256, shape, dtype=np.uint8))
    return torch.from_numpy(rng.integers(-64, 65, shape).astype(np.float32) / 16).to(case.dtype)


def constant_images(case: Case) -> Tensor:
    """Image i is the constant i, plus 16 in each further channel."""
    value = torch.arange(float(case.b))[:, None] + 16 * torch.arange(float(case.channels))
    return value[:, :, None, None].expand(-1, -1, *case.size).contiguous().to(case.dtype)


def saliency_maps(case: Case, *path: int) -> Tensor:
    """Random maps, (b, h, w), that sum to 1."""
    maps = generator(case.seed, "maps", *path).random((case.b, *case.size), dtype=np.float32)
    maps = torch.from_numpy(maps**3) + 1e-6
    return maps / maps.sum((1, 2), keepdim=True)


def mix(case: Case, images: Tensor, labels: Tensor | None = None, **changes: Any) -> Mixed:
    """Mix a case's batch; image i has the label i unless labels are given."""
    options: dict[str, Any] = {
        "num_classes": max(2, case.b),
        "rng": generator(case.seed, "mix"),
        "saliency": saliency_maps(case) if case.form.guided else None,
        "settings": case.settings,
    }
    labels = torch.arange(case.b) if labels is None else labels
    return mix_batch(images, labels, case.action, **options | changes)


def masks_of(method: str, share: Tensor, size: tuple[int, int], ratio: float, **more: Any) -> Mask:
    """Call the mask function itself."""
    return as_mask(MIXES[method](Draw(share.numpy(), size, ratio, **more)))


def mask_of(case: Case, share: Tensor, ratio: float, seed: int | None = None) -> Tensor:
    """Call the mask function itself, with fresh maps where it is guided."""
    own = saliency_maps(case, 1) if case.form.guided else None
    partner = saliency_maps(case, 2) if case.form.guided else None
    rng = generator(case.seed if seed is None else seed, "mask")
    masks = masks_of(case.form.method, share, case.size, ratio, rng=rng, own=own, partner=partner)
    return masks.dense(CPU)


def assert_same(got: Tensor, wanted: Tensor, message: str) -> None:
    """Compare bit by bit."""
    assert got.shape == wanted.shape, f"{message}: shape {got.shape}, wanted {wanted.shape}"
    assert torch.equal(got, wanted), message


# Masks ------------------------------------------------------------------------------------------


def a_mask_is_a_weight_for_each_pixel(case: Case) -> None:
    share = torch.from_numpy(draw_share(case.ratio, case.b, generator(case.seed, "share")))
    mask = mask_of(case, share, case.ratio)
    assert mask.shape in {(case.b, 1, *case.size), (case.b, 1, 1, 1)}
    assert mask.dtype == torch.float32
    assert bool(((mask >= 0) & (mask <= 1)).all())


def no_share_keeps_every_pixel_and_all_of_it_takes_every_pixel(case: Case) -> None:
    maps = [saliency_maps(case, i) for i in (1, 2)]
    # Maps may be zero, or all but zero, nearly everywhere.
    sparse = [
        torch.where(one > one.mean(), one, one * scale)
        for one, scale in zip(maps, (0, 1e-38), strict=True)
    ]
    guides = [maps, sparse] if case.form.guided else [(None, None)]
    for whole in (0.0, 1.0):
        for own, partner in guides:
            share, rng = torch.full((case.b,), whole), generator(case.seed, "mask")
            masks = masks_of(
                case.form.method, share, case.size, whole, rng=rng, own=own, partner=partner
            )
            mask = masks.dense(CPU)
            assert_same(mask, torch.full_like(mask, whole), f"share {whole}")


# Batches ----------------------------------------------------------------------------------------


def the_label_tells_what_the_pixels_show(case: Case) -> None:
    """Image i is the constant i with label i, so the mean pixel must equal the mean label."""
    mixed = mix(case, constant_images(case))
    shown = mixed.images.float().mean((2, 3)) - 16 * torch.arange(float(case.channels))
    told = mixed.targets[:, : case.b] @ torch.arange(float(case.b))
    # Values here reach 73, those that the rounding is given for 4.
    off = 20 * ROUNDING[case.dtype] if case.dtype != torch.uint8 else 0.51
    assert_close(shown, told[:, None].expand_as(shown), atol=off, rtol=0)


def a_white_partner_shows_as_much_as_its_label_says(case: Case) -> None:
    """Images are black and white by turns; each meets the one before it."""
    case = replace(case, b=2 * case.b, pairing="roll")
    white = torch.arange(case.b) % 2
    mixed = mix(case, white.float()[:, None, None, None].expand(-1, case.channels, *case.size))
    share = torch.where(white.bool(), mixed.lam, 1 - mixed.lam)
    assert_close(mixed.images.mean((1, 2, 3)), share, atol=1e-5, rtol=0)


def targets_are_probabilities(case: Case) -> None:
    mixed = mix(case, noise_images(case))
    assert mixed.lam.shape == (case.b,)
    assert mixed.lam.dtype == torch.float32
    assert bool(((mixed.lam >= 0) & (mixed.lam <= 1)).all())
    assert bool((mixed.targets >= 0).all())
    assert_close(mixed.targets.sum(1), torch.ones(case.b), atol=1e-5, rtol=0)


def pixels_and_targets_follow_mask_and_lam(case: Case) -> None:
    """Recompute the batch from mask, partner and lam as the formulas of the papers say."""
    case = replace(case, b=min(case.b, 3), size=tuple(min(side, 8) for side in case.size))
    images = noise_images(case)
    mixed = mix(case, images)
    assert mixed.images.dtype == case.dtype
    masks = mixed.mask.expand(-1, 1, *case.size)[:, 0].double().tolist()
    own, labels = images.double().tolist(), np.eye(max(2, case.b)).tolist()
    for i, j in enumerate(mixed.partner.tolist()):
        wanted = torch.tensor(blending.blended(own[i], own[j], masks[i]))
        off = ROUNDING[case.dtype]
        assert_close(mixed.images[i].float(), wanted.float(), atol=off, rtol=0)
        target = blending.mixed_label(labels[i], labels[j], float(mixed.lam[i]))
        assert_close(mixed.targets[i], torch.tensor(target), atol=1e-6, rtol=0)
        if case.rule == "area":
            wanted_lam = torch.tensor(1 - blending.mean(masks[i]))
            assert_close(mixed.lam[i], wanted_lam, atol=1e-6, rtol=0)


def a_place_for_the_result_changes_nothing_else(case: Case) -> None:
    """Whatever its strides: a slot of a larger buffer, channels last, transposed."""
    images = noise_images(case)
    wanted = mix(case, images)
    c, (h, w) = case.channels, case.size
    slots = images.new_full((case.b, 3, c, h, w), 7)
    places = [
        slots[:, 1],
        torch.empty_like(images, memory_format=torch.channels_last),
        images.new_empty(case.b, c, w, h).transpose(2, 3),
    ]
    for out in places:
        got = mix(case, images, out=out)
        assert got.images is out
        for field in ("images", "targets", "lam", "mask", "partner"):
            assert_same(getattr(got, field), getattr(wanted, field), field)
    assert bool((slots[:, ::2] == 7).all()), "other slots were written to"


def ratio_0_is_the_identity(case: Case) -> None:
    case = replace(case, ratio=0.0)
    images = noise_images(case)
    mixed = mix(case, images)
    assert_same(mixed.images, images, "images")
    placed = mix(case, images, out=torch.empty_like(images)).images
    assert placed is not images
    assert_same(placed, images, "images written to a place")
    assert_same(mixed.targets, torch.eye(max(2, case.b))[: case.b], "targets")
    assert_same(mixed.lam, torch.ones(case.b), "lam")


def an_image_alone_stays_as_it_is(case: Case) -> None:
    case = replace(case, b=1)
    images = noise_images(case)
    mixed = mix(case, images)
    assert_same(mixed.images, images, "images")
    assert_same(mixed.targets, torch.tensor([[1.0, 0.0]]), "targets")


def partners_come_from_the_same_batch(case: Case) -> None:
    case = replace(case, pairing="derange")
    for size in (3, case.b):
        partner = mix(case, noise_images(case), batch_size=size).partner.numpy()
        own = np.arange(case.b)
        assert (partner // size == own // size).all()
        # The last batch may hold one image only, which has nobody else to meet.
        meets_itself = [i for i in own if partner[i] == i]
        assert meets_itself == ([case.b - 1] if case.b % size == 1 or case.b == 1 else [])


def several_batches_are_the_batches_one_by_one(case: Case) -> None:
    """Whatever is mixed in one call; the last batch may be smaller."""
    case = replace(case, share_per="image")
    images = noise_images(case)
    for size in (2, 3, case.b):
        mixed = mix(case, images, batch_size=size)
        for start in range(0, case.b, size):
            batch = slice(start, start + size)
            partner = mixed.partner[batch] - start
            assert sorted(partner.tolist()) == list(range(len(partner)))
            mask = mixed.mask[batch].double()
            own = images[batch].double()
            shown = torch.lerp(own, own[partner], mask.expand(-1, 1, *case.size))
            got = mixed.images[batch].double()
            assert_close(got, shown, atol=ROUNDING[case.dtype], rtol=0)


def bytes_are_rounded_to_the_nearest(case: Case) -> None:
    """A half, which is as near to one as to the other, goes up."""
    case = replace(case, b=2, dtype=torch.uint8, rule="area")
    value = torch.tensor([10, 250], dtype=torch.uint8)
    images = value[:, None, None, None].expand(-1, case.channels, *case.size)
    mixed = mix(case, images)
    theirs = value[mixed.partner].float()[:, None, None, None]
    own = value.float()[:, None, None, None]
    wanted = torch.lerp(own, theirs, mixed.mask.expand(-1, 1, *case.size)) + 0.5
    assert_same(mixed.images, wanted.to(torch.uint8).expand_as(images), "bytes")


def a_seed_fixes_the_batch(case: Case) -> None:
    """And neither reads nor moves the global generators."""
    images = noise_images(case)
    states = global_states()
    first = mix(case, images)
    assert global_states() == states, "a global generator moved"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(case.seed + 1)
        second = mix(case, images)
    for field in ("images", "targets", "lam", "mask", "partner"):
        assert_same(getattr(second, field), getattr(first, field), field)


def global_states() -> tuple[object, ...]:
    _, numbers, *rest = np.random.get_state()  # noqa: NPY002 (watched, not used)
    return random.getstate(), numbers.tobytes(), *rest, torch.get_rng_state().numpy().tobytes()


def another_seed_is_another_batch(case: Case) -> None:
    case = replace(case, b=40, size=(8, 12), ratio=0.5, pairing="roll", share_per="image")
    one, other = (
        mix(case, noise_images(case), rng=generator(case.seed, "mix", i)) for i in range(2)
    )
    assert not torch.equal(one.mask, other.mask)


def the_callers_tensors_are_never_written_to(case: Case) -> None:
    for soft in (False, True):
        images, maps = noise_images(case), saliency_maps(case)
        labels = torch.full((case.b, 4), 0.25) if soft else torch.arange(case.b)
        before = [tensor.clone() for tensor in (images, maps, labels)]
        guide = maps if case.form.guided else None
        mixed = mix(case, images, labels, saliency=guide, num_classes=4 if soft else case.b)
        mixed.targets.fill_(-1)
        mixed.lam.fill_(-1)
        if case.action.mixes:  # else the images themselves come back
            mixed.images.fill_(-1)
        for name, was, now in zip(
            ("images", "maps", "labels"), before, (images, maps, labels), strict=True
        ):
            assert_same(now, was, f"{name} changed")


def bfloat16_gives_the_same_labels(case: Case) -> None:
    images = noise_images(case)
    full, half = mix(case, images), mix(case, images.bfloat16())
    assert half.images.dtype == torch.bfloat16
    assert_same(half.lam, full.lam, "lam")
    assert_same(half.targets, full.targets, "targets")
    assert_close(half.images.float(), full.images, atol=0.15, rtol=0)


def soft_labels_pass_through(case: Case) -> None:
    labels = torch.from_numpy(
        generator(case.seed, "labels").dirichlet(np.ones(3), case.b).astype(np.float32)
    )
    mixed = mix(case, noise_images(case), labels, num_classes=3)
    for i, j in enumerate(mixed.partner.tolist()):
        wanted = blending.mixed_label(labels[i], labels[j], float(mixed.lam[i]))
        assert_close(mixed.targets[i], torch.stack(wanted), atol=1e-6, rtol=0)


def the_memory_layout_does_not_matter(case: Case) -> None:
    images = noise_images(case)
    wanted = mix(case, images)
    last = images.contiguous(memory_format=torch.channels_last)
    wide = torch.zeros(*images.shape[:3], 2 * images.shape[3])[..., ::2].copy_(images)
    for laid_out in (last, wide, images.transpose(2, 3).contiguous().transpose(2, 3)):
        got = mix(case, laid_out)
        assert_close(got.images, wanted.images, atol=1e-6, rtol=0)
        assert_same(got.targets, wanted.targets, "targets")


def batches_that_are_not_played_stay_unmixed(case: Case) -> None:
    case = replace(case, b=80, size=(8, 12), ratio=0.5, share_per="image")
    images = noise_images(case)
    chosen = {}
    for probability in (0.0, 0.5):
        settings = replace(case.settings, mix_probability=probability)
        mixed = mix(case, images, settings=settings, batch_size=4)
        touched = (mixed.images != images).flatten(1).any(1)
        unlike = (mixed.targets - torch.eye(case.b)).abs().amax(1) > 1e-6
        for batch in range(20):
            here = slice(4 * batch, 4 * batch + 4)
            if not touched[here].any():
                assert not unlike[here].any(), "the label of an unmixed batch changed"
        chosen[probability] = int(touched.view(20, 4).any(1).sum())
    assert chosen[0.0] == 0
    assert 3 <= chosen[0.5] <= 17


def each_image_or_each_batch_has_its_own_share(case: Case) -> None:
    """The rule "requested" tells the draw whatever the mask made of it."""
    case = replace(case, b=24, ratio=0.5, rule="requested")
    images = noise_images(case)
    for share_per, draws in (("image", 24), ("batch", 4)):
        settings = replace(case.settings, share_per=share_per)
        lam = mix(case, images, settings=settings, batch_size=6).lam
        assert len(lam.unique()) == draws
        if share_per == "batch":
            assert (lam.view(4, 6) == lam.view(4, 6)[:, :1]).all()


CHECKS: list[Callable[[Case], None]] = [
    a_mask_is_a_weight_for_each_pixel,
    no_share_keeps_every_pixel_and_all_of_it_takes_every_pixel,
    targets_are_probabilities,
    pixels_and_targets_follow_mask_and_lam,
    ratio_0_is_the_identity,
    an_image_alone_stays_as_it_is,
    partners_come_from_the_same_batch,
    several_batches_are_the_batches_one_by_one,
    bytes_are_rounded_to_the_nearest,
    a_seed_fixes_the_batch,
    the_callers_tensors_are_never_written_to,
    a_place_for_the_result_changes_nothing_else,
    bfloat16_gives_the_same_labels,
    soft_labels_pass_through,
    the_memory_layout_does_not_matter,
]
"""Hold for every mix and every label rule."""

MIXING_CHECKS: list[Callable[[Case], None]] = [
    another_seed_is_another_batch,
    batches_that_are_not_played_stay_unmixed,
    each_image_or_each_batch_has_its_own_share,
]
"""Hold for every mix that mixes and every label rule."""

AREA_CHECKS: list[Callable[[Case], None]] = [
    the_label_tells_what_the_pixels_show,
    a_white_partner_shows_as_much_as_its_label_says,
]
"""Hold for every mix under the rule "area"."""


# Laws: over many draws --------------------------------------------------------------------------


def the_ratio_is_the_mean_wanted_share(form: Form) -> None:
    """``1 - lam ~ Beta(c r, c (1 - r))`` has mean r and variance r (1 - r) / (c + 1)."""
    b = 4000
    for ratio in (0.1, 0.3, 0.5):
        for c in (2.0, 6.0):
            case = Case(form=form, rule="requested", b=b, channels=1, size=(4, 4), ratio=ratio)
            settings = replace(case.settings, concentration=c)
            labels = torch.zeros(b, dtype=torch.int64)
            mixed = mix(case, noise_images(case), labels, num_classes=2, settings=settings)
            wanted = 1 - mixed.lam.double()
            variance = ratio * (1 - ratio) / (c + 1)
            assert abs(wanted.mean() - ratio) < 3 * (variance / b) ** 0.5
            assert abs(wanted.var() / variance - 1) < 0.12


def the_partner_shows_more_where_it_is_salient(form: Form) -> None:
    """One pixel of each image is far more salient than the rest, another one for each image."""
    case = Case(form=form, b=64, size=(8, 12), pairing="roll", seed=5)
    place = torch.arange(case.b)[:, None] * 35 % (8 * 12)
    maps = 0.01 * saliency_maps(case).flatten(1).scatter(1, place, 100.0).unflatten(1, case.size)
    mixed = mix(case, noise_images(case), saliency=maps / maps.sum((1, 2), keepdim=True))
    flat = mixed.mask.expand(-1, 1, *case.size).flatten(1)
    at_partner = flat.gather(1, place[mixed.partner]).mean()
    at_own = flat.gather(1, place).mean()
    assert at_partner > at_own + 0.3
    assert at_partner > flat.mean() + 0.1


def masks_vary_from_image_to_image(form: Form) -> None:
    """One share for all, so that what differs is the mask's own doing; and not all at one place."""
    case = Case(form=form, b=200, size=(8, 12))
    share = torch.full((case.b,), 0.4)
    mask = mask_of(case, share, 0.4).expand(-1, 1, *case.size)
    assert len(mask.flatten(1).unique(dim=0)) > 20
    # Nearly every pixel is the partner's in one image or another.
    assert float((mask.amax(0) > 0.4).float().mean()) > 0.9


def mixup_realises_what_was_wanted(form: Form) -> None:
    got, wanted = _realised_and_wanted(form, 0.3)
    assert_close(got, wanted, atol=1e-6, rtol=0)


def cutmix_loses_what_the_border_clips(form: Form) -> None:
    """Asked for 0.5, 0.30 is got at 32 pixels; the slow twin says how much for each share.

    Were there no pixels, it would be the integral of ``2 s (s - s^2 / 4)^2``, 0.321: a side s
    keeps ``s - s^2 / 4`` on average. A pixel lost of each odd side takes the rest.
    """
    got, wanted = _realised_and_wanted(form, 0.5)
    assert bool((got <= wanted + 1e-6).all())
    assert abs(float(got.mean()) - 0.296) < 0.014
    for share in (0.1, 0.35, 0.8):
        case = Case(form=form, b=3000, size=(7, 10), seed=2)
        got = mask_of(case, torch.full((case.b,), share), share).mean()
        assert abs(float(got) - cutmix_reference.mean_coverage(share, 7, 10)) < 0.006


def rmix_shares_alike_at_one_half_and_follows_the_ratio(form: Form) -> None:
    means = [float(_realised_and_wanted(form, ratio)[0].mean()) for ratio in (0.1, 0.3, 0.5)]
    assert abs(means[2] - 0.5) < 0.02
    assert abs(means[1] - 0.3) < 0.06
    assert abs(means[0] - 0.1) < 0.06


def _realised_and_wanted(form: Form, ratio: float) -> tuple[Tensor, Tensor]:
    case = Case(form=form, b=2000, channels=1, size=(32, 32), ratio=ratio, seed=1)
    images = torch.zeros(case.b, 1, *case.size)
    labels = torch.zeros(case.b, dtype=torch.int64)
    area, requested = (
        mix(replace(case, rule=rule), images, labels, num_classes=2).lam
        for rule in ("area", "requested")
    )
    return 1 - area, 1 - requested


def boxes_of_half_precision_are_those_of_full_precision(form: Form) -> None:
    """Copied or blended, a pixel is one of the two."""
    for pairing in ("roll", "derange"):
        case = Case(form=form, b=9, size=(16, 24), pairing=pairing)
        images = noise_images(case)
        for dtype in (torch.bfloat16, torch.float16):
            shown = mix(case, images.to(dtype)).images.float()
            assert_same(shown, mix(case, images).images, f"{dtype}, {pairing}")


def masks_made_in_blocks_are_those_made_at_once(form: Form) -> None:
    """Large images have their masks made a few at a time; in the end each has its own."""
    several_batches_are_the_batches_one_by_one(
        Case(form=form, b=9, channels=1, size=(256, 256), pairing="roll")
    )


# Twins: the slow references ---------------------------------------------------------------------


def mixup_is_its_slow_twin(form: Form) -> None:
    """Unguided a constant; guided at one half ``p / (p + o)``, elsewhere tilted by the share."""
    case = Case(form=form, b=6, size=(5, 7))
    share = torch.tensor([0.5, 0.0, 1.0, 0.25, 0.9, 0.5])
    mask = mask_of(case, share, 0.5).expand(-1, 1, *case.size)[:, 0]
    own, partner = saliency_maps(case, 1).tolist(), saliency_maps(case, 2).tolist()
    for i, weight in enumerate(share.tolist()):
        if not form.guided:
            wanted = mixup_reference.constant_mask(weight, *case.size)
        elif weight == 0.5:
            wanted = mixup_reference.guided_mask(own[i], partner[i])
        else:
            wanted = mixup_reference.tilted_mask(own[i], partner[i], weight)
        assert_close(mask[i], torch.tensor(wanted), atol=1e-5, rtol=0)


def cutmix_is_its_slow_twin(form: Form) -> None:
    """Each mask is the box of its share around some pixel; guided, around the partner's peak."""
    case = Case(form=form, b=12, size=(7, 10), seed=4)
    share = torch.tensor([0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 0.95, 1.0])
    mask = mask_of(case, share, 0.5)[:, 0].tolist()
    maps = saliency_maps(case, 2).tolist()
    everywhere = [(y, x) for y in range(7) for x in range(10)]
    for i, wanted_share in enumerate(share.tolist()):
        centres = [cutmix_reference.peak(maps[i])] if form.guided else everywhere
        boxes = [cutmix_reference.box_mask(wanted_share, 7, 10, y, x) for y, x in centres]
        assert mask[i] in boxes, f"no box of share {wanted_share}"


def rmix_is_its_slow_twin(form: Form) -> None:
    """At ratio 0.5 every pair is mixed and labelled as the paper says, for some draw of it."""
    case = Case(form=form, b=12, channels=1, size=(8, 8), seed=6)
    images, partners = noise_images(case), noise_images(replace(case, seed=7))
    share = torch.from_numpy(draw_share(0.5, case.b, generator(0, "share")))
    mask = mask_of(case, share, 0.5)
    pixels = torch.lerp(images, partners, mask).tolist()
    lam = (1 - as_mask(mask).area()).tolist()
    own, partner = saliency_maps(case, 1).tolist(), saliency_maps(case, 2).tolist()
    drawn = set()
    for i, weight in enumerate(share.tolist()):
        pair = images[i].tolist(), partners[i].tolist()
        found = _rmix_draw((own[i], partner[i]), mask[i, 0].tolist(), weight)
        assert found is not None, "no draw of the paper's gives this mask"
        wanted_pixels, wanted_label = rmix_reference.rmix(
            pair, ([1, 0], [0, 1]), found, (1 - weight, weight)
        )
        assert_close(torch.tensor(pixels[i]), torch.tensor(wanted_pixels), atol=1e-5, rtol=0)
        assert abs(lam[i] - wanted_label[0]) < 1e-5, "the published label is the area label"
        drawn.add(str(found))
    assert len(drawn) > 1


def _rmix_draw(
    maps: tuple[list, list], mask: list[list[float]], weight: float
) -> tuple[list, list] | None:
    """Find salient masks of the image and its partner that make the given mask."""
    level = {(False, False): weight, (True, True): weight, (True, False): 0.0, (False, True): 1.0}
    for grid in (2, 4):
        of_own, of_partner = (
            [rmix_reference.salient(one, grid, q) for q in rmix_reference.PERCENTILES]
            for one in maps
        )
        for a in of_own:
            for b in of_partner:
                pixels = ((y, x) for y in range(len(mask)) for x in range(len(mask[0])))
                if all(abs(mask[y][x] - level[a[y][x], b[y][x]]) < 1e-6 for y, x in pixels):
                    return a, b
    return None


def rmix_with_flat_or_disjoint_maps(form: Form) -> None:
    """Ties count as salient, so flat maps make R-Mix mixup; disjoint ones make it a hard XOR."""
    b, size = 400, (8, 8)
    flat = torch.full((b, *size), 1 / 64)
    share = torch.full((b,), 0.25)

    def mask_of_maps(own: Tensor, partner: Tensor, seed: int) -> Tensor:
        masks = masks_of("rmix", share, size, 0.5, rng=generator(seed), own=own, partner=partner)
        return masks.dense(CPU)

    mask = mask_of_maps(flat, flat, 0)
    # Constant saliency: both masks are all ones whatever the percentiles, so R-Mix is mixup.
    assert_same(mask, torch.full_like(mask, 0.25), "constant maps")
    half = torch.zeros(b, *size)
    half[:, :, :4] = 1 / 32
    mask = mask_of_maps(half, half.flip(2), 1)
    # Disjoint masks: wherever the percentile drops the empty half, the salient image shows.
    assert set(mask[:, :, :, :4].unique().tolist()) == {0.0, 0.25}
    assert set(mask[:, :, :, 4:].unique().tolist()) == {1.0, 0.25}
    # All of a flat image is salient: the partner never has a cell for itself.
    mask = mask_of_maps(flat, half, 2)
    assert set(mask.unique().tolist()) == {0.0, 0.25}


Law = tuple[Callable[[Form], None], list[Form]]

LAWS: list[Law] = [
    (the_ratio_is_the_mean_wanted_share, MIXING),
    (the_partner_shows_more_where_it_is_salient, GUIDED),
    (masks_vary_from_image_to_image, [form for form in MIXING if form != MIXUP]),
    (mixup_realises_what_was_wanted, [MIXUP]),
    (cutmix_loses_what_the_border_clips, [CUTMIX]),
    (boxes_of_half_precision_are_those_of_full_precision, [CUTMIX, replace(CUTMIX, guided=True)]),
    (masks_made_in_blocks_are_those_made_at_once, [CUTMIX, RMIX]),
    (rmix_shares_alike_at_one_half_and_follows_the_ratio, [RMIX, replace(RMIX, guided=True)]),
]
"""Hold over many draws, for the forms named."""

TWINS: list[Law] = [
    (mixup_is_its_slow_twin, [MIXUP, replace(MIXUP, guided=True)]),
    (cutmix_is_its_slow_twin, [CUTMIX, replace(CUTMIX, guided=True)]),
    (rmix_is_its_slow_twin, [replace(RMIX, guided=True)]),
    (rmix_with_flat_or_disjoint_maps, [replace(RMIX, guided=True)]),
]
"""Compare with the slow references, for the forms named."""
