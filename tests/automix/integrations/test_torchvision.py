"""torchvision's own ways to mix: its reference script's collating, and a transform of batches."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset, default_collate
from torchvision.transforms import v2

from automix import MixTransform
from tests.automix.integrations.seen import (
    COUNT,
    IMAGES,
    LABELS,
    SIZE,
    Shares,
    mixer_of,
    shares,
    wanted,
)
from tests.cases import each

WORKERS = (
    {},
    *({"num_workers": 2, "persistent_workers": persistent} for persistent in (False, True)),
)


class Collate:
    """What the reference script has, and the gallery: anything that mixes, after collating."""

    def __init__(self, mix) -> None:
        self.mix = mix

    def __call__(self, samples):
        return self.mix(*default_collate(samples))


def seen(mix, mixer, context: str = "fork", **workers) -> Shares:
    loader = DataLoader(
        TensorDataset(IMAGES, LABELS),
        SIZE,
        shuffle=True,
        collate_fn=Collate(mix),
        multiprocessing_context=context if workers else None,
        **workers,
    )
    found = []
    for epoch in range(2):
        mixer.set_epoch(epoch)
        found.append(shares(targets for _, targets in loader))
    return found


def forms(mixer):
    """The mixer itself, and behind a transform of torchvision's own."""
    return mixer, v2.Compose([v2.Normalize([0.5], [0.5]), MixTransform(mixer)])


@each("workers", WORKERS)
def test_the_net_sees_what_the_schedule_says(workers):
    for form in (0, 1):
        mixer = mixer_of()
        found = seen(forms(mixer)[form], mixer, **workers)
        assert found == wanted(mixer_of(), **workers)
        assert set(found[0]) == {1.0}
        assert min(found[1]) < 0.9


@pytest.mark.slow
@pytest.mark.parametrize("workers", WORKERS[1:])
def test_spawned_workers_show_it_too(workers):
    mixer = mixer_of()
    found = seen(forms(mixer)[1], mixer, context="spawn", **workers)
    assert found == wanted(mixer_of(), **workers)


def test_a_compose_finds_labels_where_it_is_told():
    first, second = mixer_of("mixup@0.25"), mixer_of("mixup@0.25")
    for mixer in (first, second):
        mixer.set_epoch(0)
    transform = v2.Compose([MixTransform(first, lambda batch: batch["target"])])
    batch = transform({"image": IMAGES[:SIZE], "target": LABELS[:SIZE]})
    images, targets = second(IMAGES[:SIZE], LABELS[:SIZE])
    assert torch.equal(batch["image"], images)
    assert torch.equal(batch["target"], targets)
    assert targets.shape == (SIZE, COUNT)
