"""The batches of an epoch: each image once, in the order that was drawn, without waiting."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from automix.core.seeding import generator
from automix.mixing.actions import PLAIN, MixAction
from automix.mixing.batch import MixSettings, mix_batch
from automix.saliency import SALIENCY
from automix.training.batches import loader
from automix.training.batches.augment import AugmentSettings, augmented, draw_views
from automix.training.population import Population
from automix.training.settings import SaliencySettings
from tests import tiny
from tests.automix.training.helpers import (
    digits,
    ensemble_of,
    epoch_of,
    order,
    play_epoch,
    watched_mixes,
)
from tests.cases import each

MIXUP, CUTMIX = MixAction("mixup", 0.5), MixAction("cutmix", 0.5)
RMIX, GRADIENT = MixAction("rmix", 0.5), MixAction("rmix", 0.5, "gradient")
BOX, SPECTRAL = MixAction("cutmix", 0.4, "gradient"), MixAction("rmix", 0.4, "spectral")
DROPOUT = "dropout_cnn_for_tests"


def population_of(tasks, seeds, **changes):
    population = Population(tasks, tiny.trainer_settings(**changes))
    population.reset(seeds)
    return population


def batches_of(population, actions):
    return play_epoch(ensemble_of(population), actions)


# Batches ----------------------------------------------------------------------------------------


@each("epoch", [0, 1])
def test_an_epoch_is_the_training_images_in_the_order_drawn(epoch):
    """Each member's own: two tasks, two seeds, with the labels that training sees."""
    tasks, seeds = [digits(), digits(), digits(seed=4)], [0, 1, 1]
    population = population_of(tasks, seeds, label_smoothing=0.1)
    for _ in range(epoch + 1):
        batches = batches_of(population, [PLAIN] * 3)
    assert [len(images) for images, _ in batches] == [16, 16, 16, 12]
    # The last two do not share their batches, for all that they share the seed.
    for slot, (task, seed) in enumerate(zip(tasks, seeds, strict=True)):
        rows = order(task, seed, epoch)
        images = torch.cat([images[:, slot] for images, _ in batches])
        targets = torch.cat([targets[:, slot] for _, targets in batches])
        assert torch.equal(images, task.normalised(task.train_index)[rows])
        wanted = torch.eye(10)[torch.from_numpy(task.train_labels[rows])] * 0.9 + 0.01
        torch.testing.assert_close(targets, wanted)


def test_an_image_that_would_be_alone_in_its_batch_rests():
    task = digits(49)
    batches = batches_of(population_of([task], [3]), [PLAIN])
    assert [len(images) for images, _ in batches] == [16, 16, 16]
    shown = torch.cat([images[:, 0] for images, _ in batches])
    assert torch.equal(shown, task.normalised(task.train_index)[order(task, 3, 0)[:48]])
    one_by_one = batches_of(population_of([digits(20)], [3], batch_size=1), [PLAIN])
    assert [len(images) for images, _ in one_by_one] == [1] * 20, "asked for"


@each("action", [MIXUP, CUTMIX, RMIX, SPECTRAL])
@each("model", ["small_cnn_w8", DROPOUT])
def test_a_members_batches_are_what_the_mix_makes_of_its_images(action, model):
    """One call for the whole epoch, with the draws of seed and epoch, whoever plays what."""
    task = digits()
    population = population_of([task] * 3, [7] * 3, model=model)
    batches = batches_of(population, [GRADIENT, action, MIXUP])
    rows = torch.from_numpy(order(task, 7, 0))
    images = task.normalised(task.train_index)
    maps = SALIENCY["spectral"](images, torch.zeros(60, 10), torch.nn.Identity())
    wanted = mix_batch(
        images[rows],
        torch.from_numpy(task.train_labels)[rows],
        action,
        num_classes=10,
        rng=generator(7, "mix", 0),
        saliency=maps[rows],
        batch_size=16,
    )
    got = [torch.cat([part[:, 1] for part in parts]) for parts in zip(*batches, strict=True)]
    torch.testing.assert_close(got[0], wanted.images, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(got[1], wanted.targets, atol=1e-6, rtol=1e-6)


def test_images_too_many_for_one_piece_come_in_several(monkeypatch):
    """A piece is a whole number of batches; what is not mixed is the same however it is cut."""
    whole = batches_of(population_of([digits()], [0]), [PLAIN])
    monkeypatch.setattr(loader, "PIECE", 40 * 8 * 8 * 4)
    calls = watched_mixes(monkeypatch)
    pieces = batches_of(population_of([digits()], [0]), [PLAIN])
    assert [len(call.images) for call in calls] == [32, 28]
    for one, other in zip(whole, pieces, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


@each("piece", [1, loader.PIECE])
def test_images_are_moved_before_they_are_mixed(piece, monkeypatch):
    monkeypatch.setattr(loader, "PIECE", piece)
    augment = AugmentSettings(crop_padding=2, flip=0.5)
    task = digits()
    population = population_of([task] * 2, [5, 5], augment=augment)
    rows = torch.from_numpy(order(task, 5, 0))
    images, rng = task.normalised(task.train_index)[rows], generator(5, "augment", 0)
    sizes = [60] if piece > 1 else [16, 16, 16, 12]
    views = [draw_views(size, augment, rng) for size in sizes]
    wanted = torch.cat(
        [augmented(part, view) for part, view in zip(images.split(sizes), views, strict=True)]
    )
    got = torch.cat([part for part, _ in batches_of(population, [PLAIN, CUTMIX])])
    assert torch.equal(got[:, 0], wanted)
    assert not torch.equal(got[:, 0], images)


def test_maps_of_still_providers_move_with_their_images(monkeypatch):
    """The map of the untouched image, moved as the image is; padding carries no content."""
    augment = AugmentSettings(crop_padding=2, flip=1.0)
    task, calls = digits(), watched_mixes(monkeypatch)
    batches_of(population_of([task], [5], augment=augment), [SPECTRAL])
    images, rows = task.normalised(task.train_index), torch.from_numpy(order(task, 5, 0))
    maps = SALIENCY["spectral"](images, torch.zeros(60, 10), torch.nn.Identity())[rows]
    views = draw_views(60, augment, generator(5, "augment", 0))
    wanted = torch.zeros_like(maps)
    for i in range(60):
        for y in range(8):
            for x in range(8):
                at = y + views.dy[i], 7 - x + views.dx[i]
                if 0 <= at[0] < 8 and 0 <= at[1] < 8:
                    wanted[i, y, x] = maps[i, at[0], at[1]]
    wanted /= wanted.sum((1, 2), keepdim=True)
    torch.testing.assert_close(torch.cat([call.saliency for call in calls]), wanted)


def test_a_batch_is_valid_until_the_next_is_asked_for():
    """Its memory is used again in the next epoch, not for the next member."""
    population = population_of([digits()] * 2, [0, 0])
    ensemble = ensemble_of(population)
    with epoch_of(ensemble, [GRADIENT, PLAIN]) as (batches, log):
        for batch in batches:
            before = batch.images.clone(), batch.targets.clone()
            ensemble._step(batch, log)
            assert torch.equal(batch.images, before[0])
            assert torch.equal(batch.targets, before[1])


# No waiting -------------------------------------------------------------------------------------


class WouldWaitError(Exception):
    """An operator for whose result the host waits."""


class NeverWait(TorchDispatchMode):
    """Fails where a GPU would have to finish before the host can go on."""

    NAMES = frozenset(
        {
            *("_local_scalar_dense", "item", "nonzero", "is_nonzero", "equal", "masked_select"),
            *("unique", "_unique2", "unique_consecutive", "allclose", "isin", "bincount"),
        }
    )

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in self.NAMES or (name.startswith("index") and by_bools(args)):
            raise WouldWaitError(func)
        return func(*args, **(kwargs or {}))


def by_bools(args):
    """Whether a mask picks rows, the number of which only the device knows."""
    indices = args[1] if len(args) > 1 and isinstance(args[1], list | tuple) else ()
    return any(
        isinstance(i, torch.Tensor) and i.dtype in (torch.bool, torch.uint8) for i in indices
    )


@each(
    "wait",
    [
        lambda x: x.sum().item(),
        lambda x: bool((x > 0).any()),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x.masked_fill_(x > 0, 0)[x > 0].sum(),
        lambda x: x.__setitem__(x > 0, torch.ones(2)),
    ],
)
def test_the_watch_sees_what_waits(wait):
    with pytest.raises(WouldWaitError), NeverWait():
        wait(torch.tensor([1.0, -1.0, 2.0]))


WAYS = {
    "plain": {},
    "moved": {"augment": AugmentSettings(crop_padding=2, flip=0.5)},
    "refresh": {"saliency": SaliencySettings(refresh=2, scale=2)},
    "step": {"saliency": SaliencySettings(source="step")},
    "step-moved": {
        "saliency": SaliencySettings(source="step", refresh=2),
        "augment": AugmentSettings(crop_padding=1),
    },
    "requested": {"mix": MixSettings(label_rule="requested", mix_probability=0.5)},
    "derange": {"mix": MixSettings(pairing="derange", share_per="batch")},
    "adamw": {"opt": "adamw", "lr": 0.01},
    "bfloat16": {"precision": "bfloat16"},
    "dropout": {"model": DROPOUT},
}


@each("way", WAYS)
def test_nothing_in_an_epoch_waits_for_the_device(way):
    """Neither making batches nor steps; one member and all kinds of actions side by side."""
    for actions in ([GRADIENT], [PLAIN, MIXUP, CUTMIX, RMIX, GRADIENT, BOX, SPECTRAL]):
        population = population_of([digits(20)] * len(actions), [0] * len(actions), **WAYS[way])
        ensemble = ensemble_of(population)
        with NeverWait():
            for _ in range(2):
                play_epoch(ensemble, actions)


@pytest.mark.gpu
@each("way", WAYS)
def test_nothing_in_an_epoch_waits_for_a_gpu(way):
    actions = [PLAIN, MIXUP, CUTMIX, RMIX, GRADIENT, BOX, SPECTRAL]
    population = Population([digits()] * 7, tiny.trainer_settings(**WAYS[way]), "cuda")
    population.reset([0] * 7)
    ensemble = ensemble_of(population)
    play_epoch(ensemble, actions)
    torch.cuda.set_sync_debug_mode("error")
    try:
        play_epoch(ensemble, actions)
    finally:
        torch.cuda.set_sync_debug_mode("default")
