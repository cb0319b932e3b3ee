"""Mistakes planted on purpose: the contract that the real mixes pass must find each of them.

They are planted around what is tested, not in its text: on what ``mix_batch`` is given and what it
returns, and on what the registered methods draw.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from automix.masks.recipes import Layers, as_recipe
from automix.masks.shapes import Dense
from automix.mixes import MIXES
from automix.mixing.batch import Mixed, mix_batch
from automix.mixing.options import configured
from tests import contract
from tests.cases import named
from tests.contract import CPU, CUTMIX, FORMS, REPRESENTATIVES, RMIX, Case, checks_of, laws_of


@dataclass(frozen=True)
class Mistake:
    """What is planted, and every check or law that must find it."""

    plant: Callable[[pytest.MonkeyPatch], None]
    found_by: tuple[Callable[..., None], ...]


def result(change: Callable[..., dict[str, Any]], *found_by: Callable[..., None]) -> Mistake:
    """Change fields of what is returned; the change is told the batch and what else was given."""

    def wrong(images: Tensor, labels: Tensor, action: Any, **given: Any) -> Mixed:
        mixed = mix_batch(images, labels, action, **given)
        return replace(mixed, **change(mixed, images, **given))

    return Mistake(lambda patch: patch.setattr(contract, "mix_batch", wrong), found_by)


def request(change: Callable[..., dict[str, Any]], *found_by: Callable[..., None]) -> Mistake:
    """Change what is asked for."""

    def wrong(images: Tensor, labels: Tensor, action: Any, **given: Any) -> Mixed:
        given |= {"images": images, "labels": labels, "action": action}
        return mix_batch(**given | change(**given))

    return Mistake(lambda patch: patch.setattr(contract, "mix_batch", wrong), found_by)


def method(
    ask: Callable[..., Any], answer: Callable[[Tensor], Tensor], *found_by: Callable[..., None]
) -> Mistake:
    """Change the inputs of every method, and the mask that it makes of them."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        def wrong(original: Callable[..., Any]) -> Callable[..., Any]:
            def draw(inputs: Any, **options: Any) -> Any:
                found = original(replace(inputs, **ask(inputs)), **options)
                if isinstance(found, Layers):
                    return found
                recipe = as_recipe(found)
                mask = answer(recipe.mask.dense(CPU).expand(-1, 1, *inputs.size).contiguous())
                return replace(recipe, mask=Dense(mask))

            return draw

        entries = {e.name: replace(e, value=wrong(e.value)) for e in MIXES.entries()}
        patch.setattr(MIXES, "_entries", entries)

    return Mistake(plant, found_by)


def settings(**values: Any) -> Callable[..., dict[str, Any]]:
    return lambda **given: {"settings": replace(given["settings"], **values)}


def seeded(seed: Callable[[], int]) -> Callable[..., dict[str, Any]]:
    return lambda **given: {"rng": np.random.default_rng(seed())}


def otherwise_applied(**given: Any) -> dict[str, Any]:
    asked = given["settings"]
    return settings(mix_probability=1 - asked.mix_probability)(**given)


def otherwise_shared(**given: Any) -> dict[str, Any]:
    other = {"image": "batch", "batch": "image"}[given["settings"].share_per]
    return settings(share_per=other)(**given)


def partly(**given: Any) -> dict[str, Any]:
    """Take the largest and the smallest share for nearly all and nearly nothing."""
    action = copy.copy(given["action"])
    object.__setattr__(action, "ratio", min(max(action.ratio, 0.001), 0.999))
    return {"action": action}


def spoilt(**given: Any) -> dict[str, Any]:
    for name in ("images", "labels"):
        given[name][:1] = given[name][1:2].clone() if len(given[name]) > 1 else 0
    return {}


def read_as_contiguous(**given: Any) -> dict[str, Any]:
    images = given["images"]
    return {"images": images.as_strided(images.shape, torch.empty(images.shape).stride())}


def hardened(**given: Any) -> dict[str, Any]:
    labels = given["labels"]
    return {"labels": labels.argmax(1) if labels.is_floating_point() else labels}


def last_with_first(mixed: Mixed, images: Tensor, **_: Any) -> dict[str, Any]:
    return {"images": mixed.images.roll(1, 0)}


def nearly(mixed: Mixed, images: Tensor, **_: Any) -> dict[str, Any]:
    """Round a little, as a formula of other terms would."""
    one = 1 if images.dtype == torch.uint8 else 1e-2
    return {"images": mixed.images + one}


def same(inputs: Any) -> dict[str, Any]:
    return {}


def maps_swapped(inputs: Any) -> dict[str, Any]:
    return {"own": inputs.partner, "partner": inputs.own}


MISTAKES = {
    "the mask is twice what it should be": method(
        same,
        lambda mask: 2 * mask,
        contract.a_mask_is_a_weight_for_each_pixel,
        contract.no_share_keeps_every_pixel_and_all_of_it_takes_every_pixel,
    ),
    "masks show less of the partner than was asked for": method(
        lambda inputs: {"share": inputs.share**2},
        lambda mask: mask**2,
        contract.the_realised_share_follows_the_wanted_one,
    ),
    "all images have the mask of the first": method(
        same,
        lambda mask: mask[:1].expand(len(mask), -1, -1, -1).contiguous(),
        contract.masks_vary_from_image_to_image,
    ),
    "own and partner saliency are swapped": method(
        maps_swapped, lambda mask: mask, contract.the_partner_shows_more_where_it_is_salient
    ),
    "the label weighs the partner as if it were the own image": result(
        lambda mixed, images, **given: {"targets": mixed.targets.flip(0), "lam": 1 - mixed.lam},
        contract.the_label_tells_what_the_pixels_show,
        contract.a_white_partner_shows_as_much_as_its_label_says,
        contract.targets_follow_lam,
        contract.lam_is_the_mean_of_the_mask,
        contract.the_label_is_kept,
        contract.ratio_0_is_the_identity,
    ),
    "a label counts twice": result(
        lambda mixed, images, **given: {"targets": 2 * mixed.targets},
        contract.targets_are_probabilities,
        contract.a_partner_of_the_same_class_changes_no_target,
        contract.an_image_alone_stays_as_it_is,
    ),
    "images are those of their neighbours": result(
        last_with_first,
        contract.pixels_follow_the_mask,
        contract.several_batches_are_the_batches_one_by_one,
        contract.masks_made_in_blocks_are_those_made_at_once,
    ),
    "pixels are not quite those of the images": result(
        nearly,
        contract.where_the_mask_is_0_or_1_pixels_are_copied,
        contract.bytes_are_rounded_to_the_nearest,
    ),
    "the result is not put where it was asked to be": result(
        lambda mixed, images, **given: {"images": mixed.images.clone()},
        contract.a_place_for_the_result_changes_nothing_else,
    ),
    "lam has the precision of the images": result(
        lambda mixed, images, **given: {"lam": (0.997 * mixed.lam).to(images.dtype).float()},
        contract.bfloat16_gives_the_same_labels,
    ),
    "all but all of the partner": request(partly, contract.all_of_the_partner_is_the_partner),
    "images meet across batches": request(
        lambda **given: {"batch_size": None}, contract.partners_come_from_the_same_batch
    ),
    "the law of the share ignores the concentration": request(
        settings(concentration=3.3), contract.the_ratio_is_the_mean_wanted_share
    ),
    "draws come from the global generator": request(
        seeded(lambda: int(torch.randint(2**31, ()))), contract.a_seed_fixes_the_batch
    ),
    "draws have a seed of their own": request(
        seeded(lambda: 0), contract.another_seed_is_another_batch
    ),
    "mix_probability is the share of batches left out": request(
        otherwise_applied, contract.batches_that_are_not_played_stay_unmixed
    ),
    "a batch shares what each image should have": request(
        otherwise_shared, contract.each_image_or_each_batch_has_its_own_share
    ),
    "the caller's images and labels are written to": request(
        spoilt, contract.the_callers_tensors_are_never_written_to
    ),
    "images are read as if they were contiguous": request(
        read_as_contiguous, contract.the_memory_layout_does_not_matter
    ),
    "soft labels are made hard": request(hardened, contract.soft_labels_pass_through),
}

EVERY_KIND = [
    *REPRESENTATIVES,
    *(replace(form, guided=True) for form in (CUTMIX, RMIX)),
    *(form for form in FORMS if not form.mixes),
    next(form for form in FORMS if form.info.keeps_label),
]
"""Of mask, made on the host and, guided, where the maps are; no mix at all, and one that keeps the
label."""


def runs_of(check: Callable[..., None]) -> list[tuple[Callable[..., None], Any]]:
    """What a check or law is run on: one form of every kind, three batches of each."""
    runs: list[tuple[Callable[..., None], Any]] = []
    for form in EVERY_KIND:
        if check in laws_of(form):
            runs.append((check, form))
        if check in checks_of(form):
            runs += [
                (check, Case(form=form)),
                (check, Case(form=form, b=5, channels=1, size=(7, 5), ratio=0.3, seed=1)),
                (check, Case(form=form, pairing="roll", share_per="batch", seed=2)),
            ]
    return runs


def run_all(check: Callable[..., None]) -> int:
    runs = runs_of(check)
    for run, on in runs:
        run(on)
    return len(runs)


def test_a_planted_mistake_is_found():
    """And what it is found by passes without it."""
    for name, mistake in MISTAKES.items():
        for check in mistake.found_by:
            with named(name, check.__name__):
                assert run_all(check), "nothing ran"
                with pytest.MonkeyPatch.context() as patch:
                    mistake.plant(patch)
                    configured.cache_clear()  # it knows methods by their names
                    with pytest.raises(AssertionError):
                        run_all(check)
                configured.cache_clear()


def test_every_check_of_the_contract_finds_some_mistake():
    every = {part for form in FORMS for part in (*checks_of(form), *laws_of(form))}
    found_by = [check for mistake in MISTAKES.values() for check in mistake.found_by]
    assert every == set(found_by)
