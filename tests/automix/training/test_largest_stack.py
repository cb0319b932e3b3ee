"""How many nets a stack may have: sizes by hand, and what they depend on."""

from __future__ import annotations

import copy

import torch
import torch.nn as nn

from automix.nets.create import create_classifier
from automix.training import population
from automix.training.batches.task_tensors import TaskTensors
from automix.training.population import activation_bytes, largest_stack
from tests import tiny
from tests.automix.training.helpers import CPU
from tests.cases import each

PLENTY = 2**40


def small_cnn(shape=(1, 8, 8), classes=10, model="small_cnn_w8"):
    return create_classifier(model, num_classes=classes, shape=shape, seed=0)


def largest(monkeypatch, shape=(1, 8, 8), free=PLENTY, model="small_cnn_w8", **changes):
    monkeypatch.setattr(population, "free_memory", lambda: free)
    settings = tiny.trainer_settings(**changes)
    data = TaskTensors(tiny.fake_task(shape), settings, CPU)
    return largest_stack(small_cnn(shape, 3, model), data, settings, CPU)


@each("side, channels", [(8, 1), (16, 3), (32, 3)])
def test_bytes_of_activations_by_hand(side, channels):
    """Convolution, norm and ReLU give the same again: 8 channels, then 16 and 32 at half sides."""
    maps = 8 * side**2 + 16 * (side // 2) ** 2 + 32 * (side // 4) ** 2
    floats = 3 * maps + 32 + 10  # then the pooling and the logits
    assert activation_bytes(small_cnn((channels, side, side)), (channels, side, side)) == 4 * floats


def test_counting_leaves_the_net_as_it_was():
    net = small_cnn().train()
    before = copy.deepcopy(net.state_dict())
    activation_bytes(net, (1, 8, 8))
    assert net.training
    assert all(not module._forward_hooks for module in net.modules())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_layers_that_are_called_twice_count_twice():
    layer = nn.Linear(4, 4)

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, images):
            return self.layer(self.layer(images.flatten(1)))

    assert activation_bytes(Twice(), (1, 2, 2)) == 4 * (4 + 4)


def test_a_stack_is_what_the_cache_holds_where_memory_is_plenty(monkeypatch):
    floats = 3 * (8 * 64 + 16 * 16 + 32 * 4) + 32 + 3
    assert largest(monkeypatch, batch_size=16) == 10 * 2**20 // (16 * 4 * floats)


def test_larger_batches_and_images_and_nets_make_smaller_stacks(monkeypatch):
    by_batch = [largest(monkeypatch, batch_size=b) for b in (1, 4, 16, 64, 256, 10**6)]
    assert by_batch == sorted(by_batch, reverse=True)
    assert by_batch[0] > by_batch[2] > by_batch[3] > by_batch[4] > by_batch[5] == 1
    by_side = [largest(monkeypatch, (1, side, side)) for side in (4, 8, 16, 32, 64)]
    assert by_side == sorted(set(by_side), reverse=True)
    by_width = [largest(monkeypatch, model=f"small_cnn_w{w}") for w in (8, 16, 32)]
    assert by_width == sorted(set(by_width), reverse=True)
    assert by_side[1] == by_width[0] == by_batch[2]


def test_it_does_not_hang_on_what_else_the_machine_does(monkeypatch):
    sizes = {largest(monkeypatch, free=free) for free in (10**9, 10**10, 10**11, 10**12)}
    assert len(sizes) == 1


def test_short_memory_makes_smaller_stacks_but_never_none(monkeypatch):
    net = small_cnn(classes=3)
    weights = 4 * sum(p.numel() for p in net.parameters())
    activations = 16 * activation_bytes(net, (1, 8, 8))
    each = 4 * weights + 2 * activations
    for members in (1, 2, 5):
        # Half of the memory is for the stack; a byte less, and the last one does not fit.
        assert largest(monkeypatch, free=2 * members * each, batch_size=16) == members
        less = largest(monkeypatch, free=2 * members * each - 2, batch_size=16)
        assert less == max(1, members - 1)
    assert largest(monkeypatch, free=0) == 1
