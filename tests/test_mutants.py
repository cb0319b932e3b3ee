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
from types import CodeType, FunctionType

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


MIXING = "automix.mixing"
CUTMIX, MIXUP, RMIX = "automix.mixes.cutmix", "automix.mixes.mixup", "automix.mixes.rmix"

MUTANTS = [
    Mutant(
        "lam and 1 - lam are swapped in the targets",
        MIXING,
        "torch.lerp(targets[partner], targets, lam",
        "torch.lerp(targets, targets[partner], lam",
        contract.the_label_tells_what_the_pixels_show,
    ),
    Mutant(
        "the mask weighs the own image",
        MIXING,
        "torch.lerp(images, images[partner], mask",
        "torch.lerp(images[partner], images, mask",
        contract.a_white_partner_shows_as_much_as_its_label_says,
    ),
    Mutant(
        "the blend is written onto the caller's images",
        MIXING,
        "torch.lerp(images, images[partner], ",
        "images.lerp_(images[partner], ",
        contract.the_callers_tensors_are_never_written_to,
    ),
    Mutant(
        "the labels come from another partner than the pixels",
        MIXING,
        "blend_targets(targets, partner_index, lam)",
        "blend_targets(targets, partner_index.roll(1), lam)",
        contract.the_label_tells_what_the_pixels_show,
    ),
    Mutant(
        "own and partner saliency are swapped",
        MIXING,
        """own=saliency,
        partner=None if saliency is None else saliency[partner_index],""",
        """own=None if saliency is None else saliency[partner_index],
        partner=saliency,""",
        contract.the_partner_shows_more_where_it_is_salient,
    ),
    Mutant(
        "the ratio is ignored",
        MIXING,
        "rng.beta(concentration * ratio, concentration * (1 - ratio), b)",
        "rng.beta(concentration / 2, concentration / 2, b)",
        contract.the_ratio_is_the_mean_wanted_share,
    ),
    Mutant(
        "the law is that of the own share",
        MIXING,
        "rng.beta(concentration * ratio, concentration * (1 - ratio), b)",
        "rng.beta(concentration * (1 - ratio), concentration * ratio, b)",
        contract.the_ratio_is_the_mean_wanted_share,
    ),
    Mutant(
        "the concentration is ignored",
        MIXING,
        "rng.beta(concentration * ratio, concentration * (1 - ratio), b)",
        "rng.beta(2 * ratio, 2 * (1 - ratio), b)",
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
        'batch if settings.share_per == "batch" else np.arange(len(batch))',
        "batch",
        contract.each_image_or_each_batch_has_its_own_share,
    ),
    Mutant(
        "each image has its share although the batch was asked to",
        MIXING,
        'batch if settings.share_per == "batch" else np.arange(len(batch))',
        "np.arange(len(batch))",
        contract.each_image_or_each_batch_has_its_own_share,
    ),
    Mutant(
        "the label of a batch that is not played is mixed",
        MIXING,
        "mask, share = mask * played[:, None, None, None], share * played",
        "mask, share = mask * played[:, None, None, None], share",
        contract.batches_that_are_not_played_stay_unmixed,
    ),
    Mutant(
        "lam is taken before batches are left out",
        MIXING,
        "lam = LABEL_RULES[settings.label_rule](mask, share)",
        "lam = 1 - share if settings.mix_probability == 1 else 1 - mask.amax((1, 2, 3)) / 2",
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
        MIXING,
        "[start + pair(min(batch_size, n - start), rng) for start in starts]",
        "[pair(n, rng) for start in starts][:1]",
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
        MIXING,
        "torch.lerp(images, images[partner], mask.to(images.dtype))",
        "images + images[partner] * mask.to(images.dtype) - images * mask.to(images.dtype)",
        contract.an_image_alone_stays_as_it_is,
    ),
    Mutant(
        "lam follows the precision of the images",
        MIXING,
        "(mask, share)\n    return Mixed(",
        "(mask.to(images.dtype).float(), share.to(images.dtype).float())\n    return Mixed(",
        contract.bfloat16_gives_the_same_labels,
    ),
    Mutant(
        "images are read as if they were contiguous",
        MIXING,
        "torch.lerp(images, images",
        "torch.lerp(images.as_strided(images.shape, torch.empty(images.shape).stride()), images",
        contract.the_memory_layout_does_not_matter,
    ),
    Mutant(
        "soft labels are made hard",
        MIXING,
        "targets = labels.float()",
        "targets = F.one_hot(labels.argmax(1), num_classes).float()",
        contract.soft_labels_pass_through,
    ),
    Mutant(
        "every image is its own partner",
        "automix.pairing",
        "partner[cycle] = np.roll(cycle, 1)",
        "partner[cycle] = cycle",
        contract.partners_come_from_the_same_batch,
    ),
    Mutant(
        "clipped boxes are labelled as they were asked for",
        "automix.labels.area",
        "1 - mask.float().mean((1, 2, 3))",
        "1 - share.float()",
        contract.the_label_tells_what_the_pixels_show,
    ),
    Mutant(
        "the area is the partner's",
        "automix.labels.area",
        "1 - mask.float().mean((1, 2, 3))",
        "mask.float().mean((1, 2, 3))",
        contract.a_white_partner_shows_as_much_as_its_label_says,
    ),
    Mutant(
        "the area counts twice",
        "automix.labels.area",
        "mask.float().mean((1, 2, 3))",
        "2 * mask.float().mean((1, 2, 3))",
        contract.targets_are_probabilities,
    ),
    Mutant(
        "the area is taken in half precision",
        "automix.labels.area",
        "mask.float().mean",
        "mask.bfloat16().float().mean",
        contract.pixels_and_targets_follow_mask_and_lam,
    ),
    Mutant(
        "requested is the partner's share",
        "automix.labels.requested",
        "1 - share.float()",
        "share.float()",
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
        "peak = partner.flatten(1)",
        "peak = own.flatten(1)",
        contract.cutmix_is_its_slow_twin,
    ),
    Mutant(
        "row and column of the peak are swapped",
        CUTMIX,
        "centre_y, centre_x = peak // size[1], peak % size[1]",
        "centre_y, centre_x = peak % size[1], peak // size[1]",
        contract.cutmix_is_its_slow_twin,
    ),
    Mutant(
        "height and width are swapped",
        CUTMIX,
        "inside_y[:, None, :, None] & inside_x[:, None, None, :]",
        "inside_x[:, None, :, None] & inside_y[:, None, None, :]",
        contract.a_mask_is_a_weight_for_each_pixel,
    ),
    Mutant(
        "the box has the share as its side",
        CUTMIX,
        "side * share.sqrt()",
        "side * share",
        contract.cutmix_loses_what_the_border_clips,
    ),
    Mutant(
        "boxes are pushed inside instead of clipped",
        CUTMIX,
        "low, high = (centre - edge // 2)[:, None], (centre + edge // 2)[:, None]",
        "low = (centre - edge // 2).clamp_min(0)[:, None]; high = low + edge[:, None] // 2 * 2",
        contract.cutmix_is_its_slow_twin,
    ),
    Mutant(
        "a share of 1 is a clipped box too",
        CUTMIX,
        " | (share >= 1.0)[:, None]",
        "",
        contract.no_share_keeps_every_pixel_and_all_of_it_takes_every_pixel,
    ),
    Mutant(
        "all boxes of a batch are in one row",
        CUTMIX,
        "rng.integers(0, size[0], len(share))",
        "np.repeat(rng.integers(0, size[0], 1), len(share))",
        contract.masks_vary_from_image_to_image,
    ),
    Mutant(
        "guided mixup ignores the share",
        MIXUP,
        "theirs, ours = weight * partner[:, None], (1 - weight) * own[:, None]",
        "theirs, ours = partner[:, None] + 0 * weight, own[:, None]",
        contract.no_share_keeps_every_pixel_and_all_of_it_takes_every_pixel,
    ),
    Mutant(
        "guided mixup weighs the dull image",
        MIXUP,
        "theirs, ours = weight * partner[:, None], (1 - weight) * own[:, None]",
        "theirs, ours = weight * own[:, None], (1 - weight) * partner[:, None]",
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
        "weight = share[:, None, None, None]",
        "weight = share.mean().expand(len(share))[:, None, None, None]",
        contract.mixup_realises_what_was_wanted,
    ),
    Mutant(
        "R-Mix gives the partner the cells where both agree",
        RMIX,
        "torch.where(mine == theirs, blend, theirs.float())",
        "torch.where(mine == theirs, torch.ones_like(blend), theirs.float())",
        contract.rmix_is_its_slow_twin,
    ),
    Mutant(
        "R-Mix shows the partner where the own image is salient",
        RMIX,
        "torch.where(mine == theirs, blend, theirs.float())",
        "torch.where(mine == theirs, blend, mine.float())",
        contract.the_partner_shows_more_where_it_is_salient,
    ),
    Mutant(
        "R-Mix tilts both percentiles the same way",
        RMIX,
        "part, 1 - ratio, grid",
        "part, ratio, grid",
        contract.rmix_shares_alike_at_one_half_and_follows_the_ratio,
    ),
    Mutant(
        "R-Mix ignores the ratio but for its ends",
        RMIX,
        "kept = (1 - q) * tilt\n    return 1 - kept / np.maximum(kept + q * (1 - tilt), 1e-12)",
        "return q * (0 < tilt < 1)",
        contract.rmix_shares_alike_at_one_half_and_follows_the_ratio,
    ),
    Mutant(
        "R-Mix keeps the dull cells",
        RMIX,
        "keep = cells >= threshold[:, None, None]",
        "keep = cells <= threshold[:, None, None]",
        contract.the_partner_shows_more_where_it_is_salient,
    ),
    Mutant(
        "R-Mix drops ties",
        RMIX,
        "keep = cells >= threshold",
        "keep = cells > threshold",
        contract.rmix_with_flat_or_disjoint_maps,
    ),
    Mutant(
        "R-Mix has one threshold for the batch",
        RMIX,
        "threshold[:, None, None]",
        "threshold.mean()",
        contract.rmix_is_its_slow_twin,
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
    changed = {part.co_name: part for part in code.co_consts if isinstance(part, CodeType)}
    functions = [
        value
        for name, value in vars(module).items()
        if isinstance(value, FunctionType)
        and value.__module__ == module.__name__
        and name in changed
    ]
    originals = [function.__code__ for function in functions]
    try:
        for function in functions:
            function.__code__ = changed[function.__name__]
        yield
    finally:
        for function, original in zip(functions, originals, strict=True):
            function.__code__ = original


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
