"""Mistakes made on purpose: each must be found by the contract that the real mixes pass."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

import pytest

import tests.automix.mixes
from tests import contract
from tests.contract import CUTMIX, FORMS, REPRESENTATIVES, RMIX, Case, Form, checks_of, laws_of
from tests.mutants import Mutant, mutated

MIXING, BLENDING, MASKS = "automix.mixing.batch", "automix.mixing.blending", "automix.masks.shapes"
TARGETS = "automix.mixing.targets"
PAIRING = "automix.masks.pairing"

CORE = [
    Mutant(
        "lam and 1 - lam are swapped in the targets",
        TARGETS,
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
        TARGETS,
        "own[partner]",
        "own[np.roll(partner, 1)]",
        contract.targets_follow_lam,
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
        "told = configured_rule(rule, tuple(options))(record)",
        "told = 1 - record.share",
        contract.lam_is_the_mean_of_the_mask,
    ),
    Mutant(
        "what is erased takes its share of the label",
        MIXING,
        "if record.keeps_label and not",
        "if record.keeps_label and False and not",
        contract.the_label_is_kept,
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
        "*label(labels, num_classes, record, rule, settings.options))",
        "label(labels, num_classes, record, rule)[0].to(images.dtype).float(), "
        "*label(labels, num_classes, record, rule)[1:])",
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
        TARGETS,
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
        "1 - record.area",
        "1 - record.share",
        contract.the_label_tells_what_the_pixels_show,
    ),
    Mutant(
        "the area is the partner's",
        "automix.labels.area",
        "1 - record.area",
        "record.area",
        contract.a_white_partner_shows_as_much_as_its_label_says,
    ),
    Mutant(
        "the area counts twice",
        "automix.labels.area",
        "record.area",
        "2 * record.area",
        contract.targets_are_probabilities,
    ),
    Mutant(
        "the area is taken in half precision",
        "automix.labels.area",
        "1 - record.area",
        "(1 - record.area).astype('float16').astype('float32')",
        contract.lam_is_the_mean_of_the_mask,
    ),
    Mutant(
        "requested is the partner's share",
        "automix.labels.requested",
        "1 - record.share",
        "record.share",
        contract.ratio_0_is_the_identity,
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
        contract.where_the_mask_is_0_or_1_pixels_are_copied,
    ),
    Mutant(
        "the first box of a block serves the whole block",
        BLENDING,
        "= corners[i]",
        "= corners[start]",
        contract.where_the_mask_is_0_or_1_pixels_are_copied,
    ),
    Mutant(
        "bytes are cut off instead of rounded",
        BLENDING,
        "weight(own)).add_(0.5)",
        "weight(own))",
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
        contract.lam_is_the_mean_of_the_mask,
    ),
    Mutant(
        "cells are counted alike whatever their size",
        MASKS,
        "np.outer(_pixels(size[0], rows), _pixels(size[1], columns))",
        "np.full((rows, columns), size[0] * size[1] / rows / columns)",
        contract.the_label_tells_what_the_pixels_show,
    ),
    Mutant(
        "cells are as wide as they should be high",
        MASKS,
        "repeat(wide, 2).repeat(high, 1)",
        "repeat(high, 2).repeat(wide, 1)",
        contract.a_mask_is_a_weight_for_each_pixel,
    ),
    Mutant(
        "the blend forgets the mask where neighbours meet",
        BLENDING,
        "torch.lerp(images[own], images[start - 1 : own.stop - 1], weight(own)",
        "torch.lerp(images[own], images[start - 1 : own.stop - 1], weight(own) ** 2",
        contract.pixels_follow_the_mask,
    ),
    Mutant(
        "a partner of the same class takes the place of the own share",
        TARGETS,
        "flat[rows + own[partner]] += 1 - lam",
        "flat[rows + own[partner]] = 1 - lam",
        contract.a_partner_of_the_same_class_changes_no_target,
    ),
    Mutant(
        "all of the partner is nearly all of it",
        MIXING,
        "np.full(u, ratio, dtype=np.float32)",
        "np.full(u, min(ratio, 0.999), dtype=np.float32)",
        contract.all_of_the_partner_is_the_partner,
    ),
]


def method_files() -> list[ModuleType]:
    """Return the test files of the methods that bring mutants."""
    path, package = tests.automix.mixes.__path__, tests.automix.mixes.__name__
    files = [importlib.import_module(f"{package}.{one.name}") for one in pkgutil.iter_modules(path)]
    return [file for file in files if hasattr(file, "MUTANTS")]


FILES = method_files()
MUTANTS = [*CORE, *(mutant for file in FILES for mutant in file.MUTANTS)]

EVERY_KIND = [
    *REPRESENTATIVES,
    *(Form(form.method, guided=True) for form in (CUTMIX, RMIX)),
    *(form for form in FORMS if not form.mixes),
    next(form for form in FORMS if form.info.keeps_label),
]
"""Of mask, made on the host and, guided, where the maps are; no mix at all, and one that keeps the
label."""


def forms_of(mutant: Mutant) -> list[Form]:
    """Return the forms that a method's mutant changes; for the core, one of every kind."""
    package, _, name = mutant.module.rpartition(".")
    if package == "automix.mixes":
        return [form for form in FORMS if form.method == name]
    return EVERY_KIND


def rules_of(mutant: Mutant) -> list[str]:
    """Return the label rule that a mutant changes, else that of what is shown; for the core, both.

    The other of the two tells what was wanted.
    """
    package, _, name = mutant.module.rpartition(".")
    if package == "automix.labels":
        return [name]
    return ["area"] if package == "automix.mixes" else ["area", "requested"]


def fixed_cases(form: Form, rule: str) -> list[Case]:
    return [
        Case(form=form, rule=rule),
        Case(form=form, rule=rule, b=5, channels=1, size=(7, 5), ratio=0.3, seed=1),
        Case(form=form, rule=rule, pairing="roll", share_per="batch", seed=2),
    ]


def run(mutant: Mutant) -> int:
    """Run what finds the mutant on the forms that it holds for; return how often it ran."""
    check, forms = mutant.found_by, forms_of(mutant)
    if check.__module__ != contract.__name__:
        return run_test(check)
    held = [form for form in forms if check in laws_of(form)]
    for form in held:
        check(form)
    cases = [
        case
        for form in forms
        for rule in rules_of(mutant)
        if check in checks_of(form, rule)
        for case in fixed_cases(form, rule)
    ]
    for case in cases:
        check(case)
    return len(held) + len(cases)


def run_test(test) -> int:
    """Run a test of a method's file, which takes nothing or the forms it is parametrised with."""
    marks = [mark for mark in getattr(test, "pytestmark", ()) if mark.name == "parametrize"]
    arguments = [(form,) for mark in marks for form in mark.args[1]] or [()]
    for these in arguments:
        test(*these)
    return len(arguments)


def mistake_of(mutant: Mutant) -> str:
    return mutant.mistake


ALIKE = {
    (mutant.found_by, *rules_of(mutant), *forms_of(mutant)): mutant
    for mutant in MUTANTS
    if mutant.found_by.__module__ == contract.__name__
}
"""One of those that run the same; tests of a method's file run without a mistake by themselves."""


@pytest.mark.parametrize("mutant", ALIKE.values(), ids=mistake_of)
def test_the_contract_holds_on_the_same_batches_without_a_mistake(mutant):
    assert run(mutant) > 0, "nothing ran"


@pytest.mark.parametrize("mutant", MUTANTS, ids=mistake_of)
def test_a_mistake_is_found(mutant):
    with mutated(mutant), pytest.raises(AssertionError):
        run(mutant)


def test_every_check_of_the_contract_finds_some_mistake():
    every = {part for form in FORMS for part in (*checks_of(form), *laws_of(form))}
    assert every <= {mutant.found_by for mutant in MUTANTS}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.__name__.rpartition(".")[2])
def test_every_test_of_a_file_that_brings_mutants_finds_some_mistake(file):
    every = {part for name, part in vars(file).items() if name.startswith("test_")}
    assert every <= {mutant.found_by for mutant in file.MUTANTS}
