"""Mistakes made on purpose: each must be found by the contract that the real mixes pass.

A mutant is a piece of source text and what replaces it. The functions of its module run the
changed code while the check runs, and the check must fail with an AssertionError.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType, FunctionType, ModuleType

import pytest

from tests import contract
from tests.contract import Case, Form


@dataclass(frozen=True)
class Mutant:
    """A mistake and the check that finds it."""

    mistake: str
    module: str
    old: str
    new: str
    found_by: Callable


MIXING, BLENDING, MASKS = "automix.mixing", "automix.blending", "automix.masks"
PAIRING = "automix.pairing"
CUTMIX, MIXUP, RMIX = "automix.mixes.cutmix", "automix.mixes.mixup", "automix.mixes.rmix"

MUTANTS = [
    Mutant(
        "lam and 1 - lam are swapped in the targets",
        MIXING,
        "flat[rows + own] = lam\n    flat[rows + own[partner]] += 1 - lam",
        "flat[rows + own] = 1 - lam\n    flat[rows + own[partner]] += lam",
        contract.the_label_tells_what_the_pixels_show,
    ),
    Mutant(
        "the mask weighs the own image",
        BLENDING,
        "torch.lerp(images[own], images[start - 1 : own.stop - 1], weight(own)",
        "torch.lerp(images[start - 1 : own.stop - 1], images[own], weight(own)",
        contract.a_white_partner_shows_as_much_as_its_label_says,
    ),
    Mutant(
        "the blend is written onto the caller's images",
        BLENDING,
        "theirs, weight(own), out=out[own])",
        "theirs, weight(own), out=images[own])",
        contract.the_callers_tensors_are_never_written_to,
    ),
    Mutant(
        "the labels come from another partner than the pixels",
        MIXING,
        "own[partner]",
        "own[np.roll(partner, 1)]",
        contract.the_label_tells_what_the_pixels_show,
    ),
    Mutant(
        "own and partner saliency are swapped",
        MIXING,
        "own=maps, partner=partner",
        "own=partner, partner=maps",
        contract.the_partner_shows_more_where_it_is_salient,
    ),
    Mutant(
        "the ratio is ignored",
        MIXING,
        "rng.beta(concentration * ratio, concentration * (1 - ratio), u)",
        "rng.beta(concentration / 2, concentration / 2, u)",
        contract.the_ratio_is_the_mean_wanted_share,
    ),
    Mutant(
        "the law is that of the own share",
        MIXING,
        "rng.beta(concentration * ratio, concentration * (1 - ratio), u)",
        "rng.beta(concentration * (1 - ratio), concentration * ratio, u)",
        contract.the_ratio_is_the_mean_wanted_share,
    ),
    Mutant(
        "the concentration is ignored",
        MIXING,
        "rng.beta(concentration * ratio, concentration * (1 - ratio), u)",
        "rng.beta(2 * ratio, 2 * (1 - ratio), u)",
        contract.the_ratio_is_the_mean_wanted_share,
    ),
    Mutant(
        "shares come from the global generator",
        MIXING,
        "rng.beta(",
        "np.random.beta(",
        contract.a_seed_fixes_the_batch,
    ),
    Mutant(
        "one share serves the whole batch",
        MIXING,
        'pairs.batches if settings.share_per == "batch" else len(images)',
        "pairs.batches",
        contract.each_image_or_each_batch_has_its_own_share,
    ),
    Mutant(
        "each image has its share although the batch was asked to",
        MIXING,
        'pairs.batches if settings.share_per == "batch" else len(images)',
        "len(images)",
        contract.each_image_or_each_batch_has_its_own_share,
    ),
    Mutant(
        "the label of a batch that is not played is mixed",
        MIXING,
        "mask.only(played), share * played",
        "mask.only(played), share",
        contract.batches_that_are_not_played_stay_unmixed,
    ),
    Mutant(
        "lam is taken before batches are left out",
        MIXING,
        "told = entry.value(shown)",
        "told = 1 - shown.share",
        contract.pixels_and_targets_follow_mask_and_lam,
    ),
    Mutant(
        "mix_probability is the share of batches left out",
        MIXING,
        "< probability",
        ">= probability",
        contract.batches_that_are_not_played_stay_unmixed,
    ),
    Mutant(
        "images meet across batches",
        PAIRING,
        "found + np.repeat(starts, sizes)",
        "pair(n, rng)",
        contract.partners_come_from_the_same_batch,
    ),
    Mutant(
        "an action that mixes nothing mixes the labels",
        MIXING,
        "action = action.resolved()",
        "action = action",
        contract.the_label_tells_what_the_pixels_show,
    ),
    Mutant(
        "shares are drawn from a seed of their own",
        MIXING,
        "rng.beta(",
        "np.random.default_rng(0).beta(",
        contract.another_seed_is_another_batch,
    ),
    Mutant(
        "the blend rounds where nothing changes",
        BLENDING,
        "torch.lerp(images[own], theirs, weight(own), out=out[own])",
        "out[own].copy_(images[own] + theirs * weight(own) - images[own] * weight(own))",
        contract.an_image_alone_stays_as_it_is,
    ),
    Mutant(
        "lam follows the precision of the images",
        MIXING,
        "(mask, share), pairs, images.device)",
        "(mask, share), pairs, images.device).to(images.dtype).float()",
        contract.bfloat16_gives_the_same_labels,
    ),
    Mutant(
        "images are read as if they were contiguous",
        BLENDING,
        "    index = as_tensor(partner, images.device)",
        "    images = images.as_strided(images.shape, torch.empty(images.shape).stride())\n"
        "    index = as_tensor(partner, images.device)",
        contract.the_memory_layout_does_not_matter,
    ),
    Mutant(
        "soft labels are made hard",
        MIXING,
        "blend_rows(labels.float(), pairs, lam)",
        "blend_rows(as_targets(labels.argmax(1), num_classes), pairs, lam)",
        contract.soft_labels_pass_through,
    ),
    Mutant(
        "every image is its own partner",
        PAIRING,
        "partner[cycle] = np.roll(cycle, 1)",
        "partner[cycle] = cycle",
        contract.partners_come_from_the_same_batch,
    ),
    Mutant(
        "clipped boxes are labelled as they were asked for",
        "automix.labels.area",
        "1 - mask.area()",
        "1 - share",
        contract.the_label_tells_what_the_pixels_show,
    ),
    Mutant(
        "the area is the partner's",
        "automix.labels.area",
        "1 - mask.area()",
        "mask.area()",
        contract.a_white_partner_shows_as_much_as_its_label_says,
    ),
    Mutant(
        "the area counts twice",
        "automix.labels.area",
        "mask.area()",
        "2 * mask.area()",
        contract.targets_are_probabilities,
    ),
    Mutant(
        "the area is taken in half precision",
        "automix.labels.area",
        "mask.area()",
        "np.asarray(mask.area()).astype(np.float16).astype(np.float32)",
        contract.pixels_and_targets_follow_mask_and_lam,
    ),
    Mutant(
        "requested is the partner's share",
        "automix.labels.requested",
        "1 - share",
        "share",
        contract.ratio_0_is_the_identity,
    ),
    Mutant(
        "the guided box is where the partner is dullest",
        CUTMIX,
        ".argmax(1)",
        ".argmin(1)",
        contract.the_partner_shows_more_where_it_is_salient,
    ),
    Mutant(
        "the guided box is where the own image is salient",
        CUTMIX,
        "draw.partner.flatten(1)",
        "draw.own.flatten(1)",
        contract.cutmix_is_its_slow_twin,
    ),
    Mutant(
        "row and column of the peak are swapped",
        CUTMIX,
        "[peak // draw.size[1], peak % draw.size[1]]",
        "[peak % draw.size[1], peak // draw.size[1]]",
        contract.cutmix_is_its_slow_twin,
    ),
    Mutant(
        "height and width are swapped",
        CUTMIX,
        "np.sqrt(share) * size)",
        "np.sqrt(share) * size[::-1])",
        contract.cutmix_is_its_slow_twin,
    ),
    Mutant(
        "the box has the share as its side",
        CUTMIX,
        "np.sqrt(share) * size",
        "share * size",
        contract.cutmix_loses_what_the_border_clips,
    ),
    Mutant(
        "boxes are pushed inside instead of clipped",
        CUTMIX,
        "Boxes(centre - half, centre + half",
        "Boxes(np.maximum(centre - half, 0), np.maximum(centre - half, 0) + 2 * half",
        contract.cutmix_loses_what_the_border_clips,
    ),
    Mutant(
        "guided boxes are pushed inside instead of clipped",
        CUTMIX,
        "Boxes(at - reach, at + reach",
        "Boxes((at - reach).clamp(min=0), (at - reach).clamp(min=0) + 2 * reach",
        contract.cutmix_is_its_slow_twin,
    ),
    Mutant(
        "a share of 1 is a clipped box too",
        CUTMIX,
        "draw.share >= 1.0",
        "draw.share > 1.0",
        contract.no_share_keeps_every_pixel_and_all_of_it_takes_every_pixel,
    ),
    Mutant(
        "all boxes of a batch are in one row",
        CUTMIX,
        "draw.rng.random((len(share), 2))",
        "draw.rng.random((len(share), 2)) ** [0, 1]",
        contract.masks_vary_from_image_to_image,
    ),
    Mutant(
        "guided mixup ignores the share",
        MIXUP,
        "theirs, ours = weight * draw.partner[:, None], (1 - weight) * draw.own[:, None]",
        "theirs, ours = draw.partner[:, None] + 0 * weight, draw.own[:, None]",
        contract.no_share_keeps_every_pixel_and_all_of_it_takes_every_pixel,
    ),
    Mutant(
        "guided mixup weighs the dull image",
        MIXUP,
        "theirs, ours = weight * draw.partner[:, None], (1 - weight) * draw.own[:, None]",
        "theirs, ours = weight * draw.own[:, None], (1 - weight) * draw.partner[:, None]",
        contract.mixup_is_its_slow_twin,
    ),
    Mutant(
        "faint saliency is cut off",
        MIXUP,
        "theirs / total",
        "theirs / total.clamp_min(1e-30)",
        contract.no_share_keeps_every_pixel_and_all_of_it_takes_every_pixel,
    ),
    Mutant(
        "mixup gives every image the batch's mean share",
        MIXUP,
        "Constant(draw.share)",
        "Constant(draw.share * 0 + draw.share.mean())",
        contract.mixup_realises_what_was_wanted,
    ),
    Mutant(
        "R-Mix gives the partner the cells where both agree",
        RMIX,
        "(mine == theirs) * share[rows][:, None] + (theirs & ~mine)",
        "(mine == theirs) + 0 * share[rows][:, None] + (theirs & ~mine)",
        contract.rmix_is_its_slow_twin,
    ),
    Mutant(
        "R-Mix shows the partner where the own image is salient",
        RMIX,
        "(mine == theirs) * share[rows][:, None] + (theirs & ~mine)",
        "(mine == theirs) * share[rows][:, None] + (mine & ~theirs)",
        contract.the_partner_shows_more_where_it_is_salient,
    ),
    Mutant(
        "R-Mix tilts both percentiles the same way",
        RMIX,
        "[[1 - ratio], [ratio]]",
        "[[ratio], [ratio]]",
        contract.rmix_shares_alike_at_one_half_and_follows_the_ratio,
    ),
    Mutant(
        "R-Mix ignores the ratio but for its ends",
        RMIX,
        "kept = (1 - PERCENTILES) * tilt",
        "return np.array([PERCENTILES, PERCENTILES])",
        contract.rmix_shares_alike_at_one_half_and_follows_the_ratio,
    ),
    Mutant(
        "R-Mix keeps the dull cells",
        RMIX,
        "cells >= threshold[:, None]",
        "cells <= threshold[:, None]",
        contract.the_partner_shows_more_where_it_is_salient,
    ),
    Mutant(
        "R-Mix drops ties",
        RMIX,
        "cells >= threshold",
        "cells > threshold",
        contract.rmix_with_flat_or_disjoint_maps,
    ),
    Mutant(
        "R-Mix has one threshold for the batch",
        RMIX,
        "threshold[:, None]",
        "threshold.mean()",
        contract.rmix_is_its_slow_twin,
    ),
    Mutant(
        "the first of a batch meets the last of the batch before",
        BLENDING,
        "weight(firsts), out=out[firsts]",
        "weight(firsts), out=out[firsts].clone()",
        contract.several_batches_are_the_batches_one_by_one,
    ),
    Mutant(
        "a smaller last batch meets the batch before",
        BLENDING,
        "if full < n:",
        "if False:",
        contract.several_batches_are_the_batches_one_by_one,
    ),
    Mutant(
        "blocks of masks are those of the first block",
        BLENDING,
        "lambda rows: mask[rows]",
        "lambda rows: mask[: len(images[rows])]",
        contract.masks_made_in_blocks_are_those_made_at_once,
    ),
    Mutant(
        "the place is used for floats only",
        BLENDING,
        "        out = torch.empty_like(images)\n",
        "        pass\n    out = torch.empty_like(images)\n",
        contract.a_place_for_the_result_changes_nothing_else,
    ),
    Mutant(
        "a place of other strides is written as if it were contiguous",
        BLENDING,
        "    # A lerp of float32",
        "    out = out.as_strided(out.shape, torch.empty(out.shape).stride())\n"
        "    # A lerp of float32",
        contract.a_place_for_the_result_changes_nothing_else,
    ),
    Mutant(
        "boxes of short numbers come from the image itself",
        BLENDING,
        "source[partners[i], :,",
        "source[i, :,",
        contract.boxes_of_half_precision_are_those_of_full_precision,
    ),
    Mutant(
        "the first box of a block serves the whole block",
        BLENDING,
        "= corners[i]",
        "= corners[start]",
        contract.boxes_of_half_precision_are_those_of_full_precision,
    ),
    Mutant(
        "bytes are cut off instead of rounded",
        BLENDING,
        ".add_(0.5)",
        "",
        contract.bytes_are_rounded_to_the_nearest,
    ),
    Mutant(
        "boxes are measured before they are cut off",
        MASKS,
        "sides = as_float(self.end - self.first)",
        "sides = as_float(self.end + 1 * (self.end == self.size) - self.first)",
        contract.the_label_tells_what_the_pixels_show,
    ),
    Mutant(
        "height and width of a box are swapped in its pixels",
        MASKS,
        "inside[:, :1, :height, None]",
        "inside[:, 1:, :height, None]",
        contract.pixels_and_targets_follow_mask_and_lam,
    ),
    Mutant(
        "cells are counted alike whatever their size",
        MASKS,
        "np.outer(_pixels(size[0], rows), _pixels(size[1], columns))",
        "np.full((rows, columns), size[0] * size[1] / rows / columns)",
        contract.the_label_tells_what_the_pixels_show,
    ),
    Mutant(
        "a coarse grid of R-Mix repeats instead of growing",
        RMIX,
        "np.arange(finest) * grid // finest",
        "np.arange(finest) % grid",
        contract.rmix_is_its_slow_twin,
    ),
    Mutant(
        "cells are as wide as they should be high",
        MASKS,
        "repeat(wide, 2).repeat(high, 1)",
        "repeat(high, 2).repeat(wide, 1)",
        contract.a_mask_is_a_weight_for_each_pixel,
    ),
]


BATCH_CHECKS = [*contract.CHECKS, *contract.MIXING_CHECKS, *contract.AREA_CHECKS]


@contextmanager
def mutated(mutant: Mutant) -> Iterator[None]:
    """Let the functions of a module run the mutant's code."""
    module = importlib.import_module(mutant.module)
    source = inspect.getsource(module)
    assert source.count(mutant.old) == 1, f"{mutant.module} has changed: update {mutant.mistake!r}"
    code = compile(source.replace(mutant.old, mutant.new), str(module.__file__), "exec")
    changed = {part.co_qualname: part for part in codes_within(code)}
    originals = {function: function.__code__ for function in functions_of(module)}
    try:
        for function in originals:
            if function.__qualname__ in changed:
                function.__code__ = changed[function.__qualname__]
        forget_cached_results(module)
        yield
    finally:
        for function, original in originals.items():
            function.__code__ = original
        forget_cached_results(module)


def codes_within(code: CodeType) -> Iterator[CodeType]:
    """Yield the code of each function and method."""
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield part
            yield from codes_within(part)


def functions_of(module: ModuleType) -> Iterator[FunctionType]:
    """Yield the functions of a module and the methods of its classes."""
    for value in vars(module).values():
        if getattr(value, "__module__", None) != module.__name__:
            continue
        for part in vars(value).values() if isinstance(value, type) else [inspect.unwrap(value)]:
            if isinstance(part, FunctionType):
                yield part


def forget_cached_results(module: ModuleType) -> None:
    for value in vars(module).values():
        if hasattr(value, "cache_clear"):
            value.cache_clear()


def run(check: Callable) -> None:
    """Run a check of the contract on all forms that it holds for."""
    for law, forms in contract.LAWS + contract.TWINS:
        if law is check:
            for form in forms:
                law(form)
            return
    rules = ["area"] if check in contract.AREA_CHECKS else contract.RULES
    forms = contract.MIXING if check in contract.MIXING_CHECKS else contract.FORMS
    for form in forms:
        for rule in rules:
            for case in fixed_cases(form, rule):
                check(case)


def fixed_cases(form: Form, rule: str) -> list[Case]:
    return [
        Case(form=form, rule=rule),
        Case(form=form, rule=rule, b=5, channels=1, size=(7, 5), ratio=0.3, seed=1),
        Case(form=form, rule=rule, pairing="roll", share_per="batch", seed=2),
    ]


def test_the_contract_holds_on_the_same_batches_without_a_mistake():
    """What takes no batch, the laws and twins, is run without one by the tests of the mixes."""
    for check in {mutant.found_by for mutant in MUTANTS} & set(BATCH_CHECKS):
        run(check)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.mistake)
def test_a_mistake_is_found(mutant):
    with mutated(mutant), pytest.raises(AssertionError):
        run(mutant.found_by)


def test_every_check_of_the_contract_finds_some_mistake():
    every = {*BATCH_CHECKS, *(law for law, _ in contract.LAWS + contract.TWINS)}
    assert every == {mutant.found_by for mutant in MUTANTS}
