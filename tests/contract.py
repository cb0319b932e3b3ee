"""What every mix must keep, as functions that fail with an AssertionError.

The property tests run them on what the packages do, and ``test_mutants.py`` on what they do
with a mistake in them. No method is an exception by name: what it cannot keep, its ``MixInfo``
states (``automix.mixes``), and what only one method keeps is tested in
``tests/automix/mixes/test_<name>.py``.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import scipy.stats
import torch
from torch import Tensor
from torch.testing import assert_close

from automix.core.seeding import generator
from automix.labels import LABEL_RULES
from automix.masks.pairing import pair_batches
from automix.masks.recipes import Layers, as_recipe
from automix.masks.shapes import Mask
from automix.mixes import MIXES, MixInfo, MixInputs
from automix.mixing.actions import OFF, MixAction
from automix.mixing.batch import Mixed, MixSettings, draw_share, mix_batch
from tests.references import blending

ANY_MAP = "spectral"
"""Any provider's name makes an action guided; the maps themselves are handed in."""


@dataclass(frozen=True)
class Form:
    """A mix method, guided by saliency or not."""

    method: str
    guided: bool = False

    def __str__(self) -> str:
        return f"{self.method}{'-guided' * self.guided}"

    @property
    def info(self) -> MixInfo:
        """What the method states about itself."""
        return MIXES.info(self.method)

    @property
    def mixes(self) -> bool:
        """Whether its actions change anything."""
        return MixAction(self.method, 0.5).mixes

    @property
    def mixes_labels(self) -> bool:
        """Whether labels move with the pixels: not where something is erased or restyled."""
        return not self.info.keeps_label

    @property
    def mixes_two_labels(self) -> bool:
        """Whether a target is the image's label and its partner's, and no other."""
        return self.mixes_labels and not self.info.layers

    @property
    def blends(self) -> bool:
        """Whether pixels are the image's and its partner's as they are, weighed by the mask."""
        return self.mixes_labels and not self.info.moves and not self.info.layers

    @property
    def varies(self) -> bool:
        """Whether masks of one share differ from image to image."""
        return self.mixes and (self.guided or not self.info.constant)

    @property
    def share_error(self) -> float:
        """How far the mean realised share may be from the wanted one."""
        guided = self.info.guided_share_error if self.guided else None
        return self.info.share_error if guided is None else guided


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
    layout: str = "contiguous"
    soft: bool = False
    """Whether labels are probabilities."""
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
    # The mask of a point cloud is over points; what makes its own steps has none.
    if not (entry.info.points or entry.info.step)
    for guided in ([False, True] if entry.info.guided else [False])
]

MIXUP, CUTMIX, RMIX = Form("mixup"), Form("cutmix"), Form("rmix")

REPRESENTATIVES = [MIXUP, CUTMIX, RMIX, replace(MIXUP, guided=True)]
"""One for each kind of mask: constant, boxes, cells, dense. What lies behind the mask, label rules
and blends, is tested with these; it sees nothing else of a method."""

RULES = [
    entry.name
    for entry in LABEL_RULES.entries()
    if not (entry.info.needs_maps or entry.info.erasures)
]
"""Those that fit every form and give the two labels 1 together; tests/automix/labels has
the others."""


CPU = torch.device("cpu")

ROUNDING = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 4e-2, torch.uint8: 0.51}
"""How far a blend of images in [-4, 4], of uint8 in [0, 255], may be from the exact one."""


def noise_images(case: Case) -> Tensor:
    """Images of multiples of 1/16 in [-4, 4], which bfloat16 holds exactly; uint8 in [0, 255]."""
    rng = generator(case.seed, "images")
    shape = (case.b, case.channels, *case.size)
    if case.dtype == torch.uint8:
        return LAYOUTS[case.layout](torch.from_numpy(rng.integers(0, 256, shape, dtype=np.uint8)))
    images = rng.integers(-64, 65, shape).astype(np.float32) / 16
    return LAYOUTS[case.layout](torch.from_numpy(images).to(case.dtype))


def constant_images(case: Case) -> Tensor:
    """Image i is the constant mean of its classes, plus 16 in each further channel."""
    value = class_means(targets_of(case))[:, None] + 16 * torch.arange(float(case.channels))
    images = value[:, :, None, None].expand(-1, -1, *case.size).contiguous()
    return LAYOUTS[case.layout](images.to(case.dtype))


def targets_of(case: Case) -> Tensor:
    """Image i has class i; soft, a quarter of each neighbour: (b, b + 2) of class i + 1 on average.

    Quarters are exact, and the means whole numbers.
    """
    own = torch.eye(case.b, case.b + 2)
    return own / 4 + own.roll(1, 1) / 2 + own.roll(2, 1) / 4 if case.soft else own


def class_means(targets: Tensor) -> Tensor:
    """Return the mean of the class numbers, (b,)."""
    return targets @ torch.arange(float(targets.shape[1]))


def every_second_column(images: Tensor) -> Tensor:
    """Put the images into every second column of wider ones."""
    wide = images.new_zeros(*images.shape[:3], 2 * images.shape[3])
    return wide[..., ::2].copy_(images)


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda images: images,
    "channels_last": lambda images: images.contiguous(memory_format=torch.channels_last),
    "strided": every_second_column,
    "transposed": lambda images: images.transpose(2, 3).contiguous().transpose(2, 3),
}
"""The same numbers, otherwise laid out in memory."""


def saliency_maps(case: Case, *path: int) -> Tensor:
    """Random maps, (b, h, w), that sum to 1."""
    maps = generator(case.seed, "maps", *path).random((case.b, *case.size), dtype=np.float32)
    maps = torch.from_numpy(maps**3) + 1e-6
    return maps / maps.sum((1, 2), keepdim=True)


def mix(case: Case, images: Tensor, labels: Tensor | None = None, **changes: Any) -> Mixed:
    """Mix a case's batch, whose labels are those of ``targets_of`` unless others are given."""
    options: dict[str, Any] = {
        "action": case.action,
        "num_classes": case.b + 2,
        "rng": generator(case.seed, "mix"),
        "saliency": saliency_maps(case) if case.form.guided else None,
        "settings": case.settings,
    }
    if labels is None:
        labels = targets_of(case) if case.soft else torch.arange(case.b)
    return mix_batch(images, labels, **options | changes)


def draw_of(
    case: Case,
    share: Tensor,
    ratio: float,
    *,
    rng: np.random.Generator | None = None,
    maps: tuple[Tensor, Tensor] | None = None,
) -> MixInputs:
    """Return what a mask function gets, with random maps of images and partners where guided."""
    if rng is None:
        rng = generator(case.seed, "mask")
    if maps is None:
        maps = saliency_maps(case, 1), saliency_maps(case, 2)
    own, partner = maps if case.form.guided else (None, None)
    draw = MixInputs(share.numpy(), case.size, ratio, rng, own, partner)
    if not case.form.info.looks:
        return draw
    images = noise_images(replace(case, dtype=torch.float32))
    pairs = pair_batches(case.b, case.b, case.pairing, generator(case.seed, "pairs"))
    return replace(draw, images=images, pairs=pairs)


def masks_of(case: Case, share: Tensor, ratio: float, **given: Any) -> Mask:
    """Call the mask function itself; what is given is what ``draw_of`` takes."""
    found = MIXES[case.form.method](draw_of(case, share, ratio, **given))
    return found.masks() if isinstance(found, Layers) else as_recipe(found).mask


def mask_of(case: Case, share: Tensor, ratio: float) -> Tensor:
    """Return the weights per pixel that the mask function makes."""
    return masks_of(case, share, ratio).dense(CPU)


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
    own, partner = (saliency_maps(case, i) for i in (1, 2))
    # Maps may be zero, or all but zero, nearly everywhere.
    sparse, faint = (
        torch.where(one > one.mean(), one, one * scale)
        for one, scale in ((own, 0), (partner, 1e-38))
    )
    alone = case.b == 1 and case.form.info.layers  # with nobody else to be shown
    for whole in (0.0, 1.0)[: 2 - alone]:
        for maps in [(own, partner), (sparse, faint)][: 1 + case.form.guided]:
            mask = masks_of(case, torch.full((case.b,), whole), whole, maps=maps).dense(CPU)
            assert_same(mask, torch.full_like(mask, whole), f"share {whole}")


# Batches ----------------------------------------------------------------------------------------


def the_label_tells_what_the_pixels_show(case: Case) -> None:
    """Each image is the constant mean of its label, so the mean pixel must be the mean label."""
    for size in (3, case.b):
        mixed = mix(case, constant_images(case), batch_size=size)
        shown = mixed.images.float().mean((2, 3)) - 16 * torch.arange(float(case.channels))
        told = class_means(mixed.targets)
        # Values here reach 74, those that the rounding is given for 4.
        off = 20 * ROUNDING[case.dtype] if case.dtype != torch.uint8 else 0.51
        assert_close(shown, told[:, None].expand_as(shown), atol=off, rtol=0)


def a_white_partner_shows_as_much_as_its_label_says(case: Case) -> None:
    """Images are black and white by turns; each meets the one before it."""
    case = replace(case, b=2 * case.b, pairing="roll", dtype=torch.float32)
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


def small(case: Case) -> Case:
    """Return a case that loops in Python are quick enough for."""
    return replace(case, b=min(case.b, 3), size=tuple(min(side, 8) for side in case.size))


def pixels_follow_the_mask(case: Case) -> None:
    """Recompute the images from mask and partner as the formula of the papers says."""
    case = small(case)
    images = noise_images(case)
    mixed = mix(case, images)
    assert mixed.images.dtype == case.dtype
    masks = mixed.mask.expand(-1, 1, *case.size)[:, 0].double().tolist()
    own = images.double().tolist()
    for i, j in enumerate(mixed.partner.tolist()):
        wanted = torch.tensor(blending.blended(own[i], own[j], masks[i]))
        off = ROUNDING[case.dtype]
        assert_close(mixed.images[i].float(), wanted.float(), atol=off, rtol=0)


def targets_follow_lam(case: Case) -> None:
    """Recompute the targets from lam and partner, whatever the mask."""
    mixed = mix(case, noise_images(case))
    labels = targets_of(case).tolist()
    for i, j in enumerate(mixed.partner.tolist()):
        target = blending.mixed_label(labels[i], labels[j], float(mixed.lam[i]))
        assert_close(mixed.targets[i], torch.tensor(target), atol=1e-6, rtol=0)


def lam_is_the_mean_of_the_mask(case: Case) -> None:
    case = small(case)
    mixed = mix(case, noise_images(case))
    masks = mixed.mask.expand(-1, 1, *case.size)[:, 0].double().tolist()
    wanted = torch.tensor([1 - blending.mean(mask) for mask in masks])
    assert_close(mixed.lam, wanted, atol=1e-6, rtol=0)


def a_partner_of_the_same_class_changes_no_target(case: Case) -> None:
    for labels in (torch.zeros(case.b, dtype=torch.int64), torch.full((case.b, 4), 0.25)):
        mixed = mix(case, noise_images(case), labels, num_classes=4)
        wanted = torch.eye(4)[labels] if labels.ndim == 1 else labels
        assert_close(mixed.targets, wanted, atol=1e-6, rtol=0)


def the_label_is_kept(case: Case) -> None:
    """Where something is erased or restyled, under the rule that tells what is shown as well."""
    mixed = mix(case, noise_images(case))
    assert_same(mixed.targets, targets_of(case), "targets")
    assert_same(mixed.lam, torch.ones(case.b), "lam")


def all_of_the_partner_is_the_partner(case: Case) -> None:
    """No action asks for more than a half, so that this one is made to."""
    action = replace(case, ratio=0.5).action
    object.__setattr__(action, "ratio", 1.0)
    images = noise_images(case)
    mixed = mix(case, images, action=action)
    if case.b > 1:  # an image alone has no partner
        assert_same(mixed.images, images[mixed.partner], "images")
        assert_same(mixed.targets, targets_of(case)[mixed.partner], "targets")


def where_the_mask_is_0_or_1_pixels_are_copied(case: Case) -> None:
    """Whatever their precision: copied or blended, a pixel is one of the two."""
    for dtype in ROUNDING:
        case = replace(case, dtype=dtype)
        images = noise_images(case)
        mixed = mix(case, images)
        mask = mixed.mask.expand(-1, case.channels, *case.size)
        assert_same(mixed.images[mask == 0], images[mask == 0], f"own, {dtype}")
        theirs = images[mixed.partner][mask == 1]
        assert_same(mixed.images[mask == 1], theirs, f"partner's, {dtype}")


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
    assert_same(mixed.targets, targets_of(case), "targets")
    assert_same(mixed.lam, torch.ones(case.b), "lam")


def an_image_alone_stays_as_it_is(case: Case) -> None:
    case = replace(case, b=1)
    images = noise_images(case)
    mixed = mix(case, images)
    assert_same(mixed.images, images, "images")
    assert_same(mixed.targets, targets_of(case), "targets")


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
    images = noise_images(replace(case, dtype=torch.float32))
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
    wanted = mix(case, noise_images(replace(case, layout="contiguous")))
    for layout in LAYOUTS:
        got = mix(case, noise_images(replace(case, layout=layout)))
        # Sums of another order are rounded otherwise, values up to 4 here by 5e-7 a time; bytes of
        # a half, up or down.
        off = 2e-6 if case.dtype == torch.float32 else 2 * ROUNDING[case.dtype]
        assert_close(got.images.float(), wanted.images.float(), atol=off, rtol=0)
        assert_same(got.targets, wanted.targets, "targets")


def batches_that_are_not_played_stay_unmixed(case: Case) -> None:
    case = replace(case, b=80, size=(8, 12), ratio=0.5, share_per="image")
    images = noise_images(case)
    chosen = {}
    for probability in (0.0, 0.5):
        settings = replace(case.settings, mix_probability=probability)
        mixed = mix(case, images, settings=settings, batch_size=4)
        touched = (mixed.images != images).flatten(1).any(1)
        unlike = (mixed.targets - targets_of(case)).abs().amax(1) > 1e-6
        for batch in range(20):
            here = slice(4 * batch, 4 * batch + 4)
            if not touched[here].any():
                assert not unlike[here].any(), "the label of an unmixed batch changed"
        chosen[probability] = int(touched.view(20, 4).any(1).sum())
    assert chosen[0.0] == 0
    assert 1 <= chosen[0.5] <= 19


def each_image_or_each_batch_has_its_own_share(case: Case) -> None:
    """The rule "requested" tells the draw whatever the mask made of it."""
    case = replace(case, b=24, ratio=0.5, rule="requested", pairing="derange")
    images = noise_images(case)
    for share_per, draws in (("image", 24), ("batch", 4)):
        settings = replace(case.settings, share_per=share_per)
        lam = mix(case, images, settings=settings, batch_size=6).lam
        assert len(lam.unique()) == draws
        if share_per == "batch":
            assert (lam.view(4, 6) == lam.view(4, 6)[:, :1]).all()


Check = Callable[[Case], None]

CHECKS: list[Check] = [
    a_mask_is_a_weight_for_each_pixel,
    no_share_keeps_every_pixel_and_all_of_it_takes_every_pixel,
    targets_are_probabilities,
    a_partner_of_the_same_class_changes_no_target,
    ratio_0_is_the_identity,
    partners_come_from_the_same_batch,
    a_seed_fixes_the_batch,
    the_callers_tensors_are_never_written_to,
    a_place_for_the_result_changes_nothing_else,
    bfloat16_gives_the_same_labels,
    the_memory_layout_does_not_matter,
]
"""Hold for every mix and every label rule."""

MIXING_CHECKS: list[Check] = [
    another_seed_is_another_batch,
    batches_that_are_not_played_stay_unmixed,
]
"""Hold for every mix that mixes."""

BLENDING_CHECKS: list[Check] = [
    pixels_follow_the_mask,
    where_the_mask_is_0_or_1_pixels_are_copied,
    several_batches_are_the_batches_one_by_one,
    bytes_are_rounded_to_the_nearest,
]
"""Hold for every mix that shows the images as they are."""

TWO_LABEL_CHECKS: list[Check] = [targets_follow_lam, soft_labels_pass_through]
"""Hold for every mix of an image and its partner, and every rule that weighs their labels."""

AREA_CHECKS: list[Check] = [the_label_tells_what_the_pixels_show, lam_is_the_mean_of_the_mask]
"""Hold for every mix that mixes labels, under the rule "area"."""

PARTNER_CHECKS: list[Check] = [
    a_white_partner_shows_as_much_as_its_label_says,
    all_of_the_partner_is_the_partner,
    each_image_or_each_batch_has_its_own_share,
]
"""Hold for every mix that mixes an image and its partner, under the rule "area" (or their own)."""

GROUPS: list[tuple[list[Check], Callable[[Form, str], bool]]] = [
    (CHECKS, lambda form, rule: True),
    (MIXING_CHECKS, lambda form, rule: form.mixes),
    (BLENDING_CHECKS, lambda form, rule: form.blends),
    (TWO_LABEL_CHECKS, lambda form, rule: form.mixes_two_labels),
    ([an_image_alone_stays_as_it_is], lambda form, rule: form.mixes_labels),
    (AREA_CHECKS, lambda form, rule: form.mixes_labels and rule == "area"),
    (PARTNER_CHECKS, lambda form, rule: form.mixes and form.mixes_two_labels and rule == "area"),
    ([the_label_is_kept], lambda form, rule: not form.mixes_labels),
]


def checks_of(form: Form, rule: str = "area") -> list[Check]:
    """Return the checks of a batch that a form must pass under a label rule."""
    return [check for checks, holds in GROUPS if holds(form, rule) for check in checks]


# Laws: over many draws --------------------------------------------------------------------------


def the_ratio_is_the_mean_wanted_share(form: Form) -> None:
    """``1 - lam ~ Beta(c r, c (1 - r))`` has mean r and variance r (1 - r) / (c + 1)."""
    b = 4000
    for ratio, c in ((0.1, 2.0), (0.3, 6.0), (0.5, 2.0)):
        case = Case(form=form, rule="requested", b=b, channels=1, size=(4, 4), ratio=ratio)
        settings = replace(case.settings, concentration=c)
        labels = torch.zeros(b, dtype=torch.int64)
        mixed = mix(case, noise_images(case), labels, num_classes=2, settings=settings)
        wanted = 1 - mixed.lam.double()
        variance = ratio * (1 - ratio) / (c + 1)
        assert abs(wanted.mean() - ratio) < 3 * (variance / b) ** 0.5
        assert abs(wanted.var() / variance - 1) < 0.12


def the_realised_share_follows_the_wanted_one(form: Form) -> None:
    """2000 wanted shares spread as evenly as their law allows, so that their mean is the ratio."""
    case = Case(form=form, b=2000, size=(32, 32))
    maps = saliency_maps(case, 1), saliency_maps(case, 2)
    at = (generator(1, "order").permutation(case.b) + 0.5) / case.b
    means = []
    for ratio in (0.1, 0.25, 0.5):
        law = scipy.stats.beta(2 * ratio, 2 * (1 - ratio))
        share = torch.from_numpy(law.ppf(at).astype(np.float32))
        area = masks_of(case, share, ratio, maps=maps).area()
        means.append(float(torch.as_tensor(area).mean()))
        assert abs(means[-1] - ratio) <= form.share_error, f"wanted {ratio}, got {means[-1]:.4f}"
    assert means[0] + 0.02 < means[1] < means[2] - 0.02, f"not monotone: {means}"


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
    case = Case(form=form, b=200, size=(16, 24))
    share = torch.full((case.b,), 0.4)
    mask = mask_of(case, share, 0.4).expand(-1, 1, *case.size)
    assert len(mask.flatten(1).unique(dim=0)) > 20
    # Nearly every pixel is the partner's in one image or another.
    assert float((mask.amax(0) > 0.4).float().mean()) > 0.9


def masks_made_in_blocks_are_those_made_at_once(form: Form) -> None:
    """Large images have their masks made a few at a time; in the end each has its own."""
    several_batches_are_the_batches_one_by_one(
        Case(form=form, b=9, channels=1, size=(256, 256), pairing="roll")
    )


Law = Callable[[Form], None]


def laws_of(form: Form) -> list[Law]:
    """Return what a form must keep over many draws."""
    found: list[Law] = []
    if form.mixes:
        found += [the_realised_share_follows_the_wanted_one]
    if form.guided and form.mixes_two_labels and not form.info.least:
        found += [the_partner_shows_more_where_it_is_salient]
    if form.varies:
        found += [masks_vary_from_image_to_image]
    if form in REPRESENTATIVES:  # shares are drawn before methods and blended behind them
        found += [the_ratio_is_the_mean_wanted_share, masks_made_in_blocks_are_those_made_at_once]
    return found
