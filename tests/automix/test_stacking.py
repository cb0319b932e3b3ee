"""k nets as one: the same numbers as each net alone."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.testing import assert_close

from automix.models import create_classifier
from automix.seeding import borrowed_global_rng
from automix.stacking import GroupedStack, LoopedStack, can_group, frozen_running_statistics, stack

MEMBERS, CLASSES = 3, 4


class Varied(nn.Module):
    """One of each kind of layer that has a grouped twin, with every option that matters."""

    stackable = True

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(2, 6, 3, padding=1, stride=2),
            nn.BatchNorm2d(6, momentum=0.3, eps=1e-3),
            nn.GELU(),
            nn.Conv2d(6, 12, 3, padding=2, dilation=2, groups=3, bias=False),
            nn.BatchNorm2d(12, affine=False),
            nn.MaxPool2d(2),
        )
        self.flat = nn.Flatten()
        self.head = nn.Sequential(nn.Linear(48, 7), nn.SiLU(), nn.Linear(7, CLASSES, bias=False))

    def forward(self, images):
        return self.head(self.flat(self.trunk(images)))


def small_cnn():
    return create_classifier("small_cnn_w8", num_classes=CLASSES, shape=(2, 8, 8), seed=0)


def varied():
    with borrowed_global_rng(0):
        return Varied()


nets_of = pytest.mark.parametrize("net", [small_cnn, varied], ids=["small_cnn", "varied"])
kinds = pytest.mark.parametrize("kind", [GroupedStack, LoopedStack])


def different(net):
    """MEMBERS nets with weights and running statistics of their own."""
    nets = [copy.deepcopy(net()) for _ in range(MEMBERS)]
    with borrowed_global_rng(1), torch.no_grad():
        for one in nets:
            for tensor in [*one.parameters(), *one.buffers()]:
                if tensor.is_floating_point():
                    tensor.add_(torch.rand_like(tensor) * 0.3)
    return nets


def batch(b=6, members=MEMBERS):
    with borrowed_global_rng(2):
        return torch.randn(b, members, 2, 8, 8), torch.randint(CLASSES, (b, members))


def stacked(kind, nets):
    return kind(copy.deepcopy(nets))


def losses_of(logits, labels):
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(
        labels.shape
    )


@nets_of
@kinds
@pytest.mark.parametrize("training", [True, False])
def test_the_stack_gives_each_nets_own_logits(net, kind, training):
    nets, (images, _) = different(net), batch()
    together = stacked(kind, nets)
    together.module().train(training)
    logits = together(images)
    assert logits.shape == (6, MEMBERS, CLASSES)
    for m, one in enumerate(nets):
        alone = one.train(training)(images[:, m])
        assert_close(logits[:, m], alone, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(logits[:, 0], logits[:, 1], atol=0.01)


@nets_of
@kinds
def test_evaluation_uses_each_members_own_running_statistics(net, kind):
    nets, (images, _) = different(net), batch()
    together = stacked(kind, nets)
    together.module().train()
    for _ in range(3):
        together(images * torch.tensor([1.0, 2.0, 5.0])[:, None, None, None])
    together.module().eval()
    for m, one in enumerate(nets):
        one.train()
        for _ in range(3):
            one(images[:, m] * (1.0, 2.0, 5.0)[m])
        assert_close(together(images)[:, m], one.eval()(images[:, m]), atol=1e-5, rtol=1e-4)
        # One image alone: were it the batch's statistics, its neighbours would matter.
        assert_close(together(images[:1])[0, m], together(images)[0, m], atol=1e-5, rtol=1e-4)


@nets_of
@kinds
def test_gradients_and_one_step_are_those_of_each_net_alone(net, kind):
    nets, (images, labels) = different(net), batch()
    together = stacked(kind, nets)
    module = together.module().train()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2)
    losses_of(together(images), labels).mean(0).sum().backward()
    squares = together.member_squares()
    optimizer.step()
    after = together(images)
    for m, one in enumerate(nets):
        one.train()
        alone = torch.optim.SGD(one.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2)
        F.cross_entropy(one(images[:, m]), labels[:, m]).backward()
        wanted = sum(float(p.grad.square().sum()) for p in one.parameters())
        assert float(squares[m]) == pytest.approx(wanted, rel=1e-3)
        alone.step()
        assert_close(after[:, m], one(images[:, m]), atol=1e-4, rtol=1e-3)


@nets_of
@kinds
@pytest.mark.parametrize("chosen", [[1], [2, 0], [0, 1, 2], [1, 1]])
def test_some_members_alone_give_what_they_give_in_the_stack(net, kind, chosen):
    together, (images, _) = stacked(kind, different(net)), batch()
    together.module().eval()
    wanted = together(images)[:, chosen]
    assert_close(together.only(chosen, images[:, chosen]), wanted, atol=1e-5, rtol=1e-4)


@nets_of
@kinds
def test_a_frozen_pass_of_some_members_moves_no_statistics(net, kind):
    together, (images, _) = stacked(kind, different(net)), batch()
    module = together.module().train()
    before = {name: value.clone() for name, value in module.named_buffers()}
    with frozen_running_statistics(module):
        images.requires_grad_()
        together.only([2, 0], images[:, [2, 0]]).sum().backward()
    for name, value in module.named_buffers():
        assert torch.equal(value, before[name])
    assert images.grad[:, [0, 2]].abs().sum() > 0
    assert images.grad[:, 1].abs().sum() == 0


def test_a_member_that_breaks_down_breaks_down_alone():
    nets, (images, labels) = different(small_cnn), batch()
    together, sound = stacked(GroupedStack, nets), stacked(GroupedStack, nets)
    with torch.no_grad():
        conv = next(p for p in together.module().parameters() if p.dim() == 4)
        conv[: len(conv) // MEMBERS].fill_(float("nan"))
    for one in (together, sound):
        one.module().train()
        losses_of(one(images), labels).mean(0).sum().backward()
    assert together.member_squares()[0].isnan()
    assert torch.equal(together.member_squares()[1:], sound.member_squares()[1:])
    assert torch.equal(together(images)[:, 1:], sound(images)[:, 1:])


@pytest.mark.parametrize("members", [1, 3])
def test_equal_copies_give_equal_logits_and_leave_the_net_alone(members):
    net = small_cnn()
    before = copy.deepcopy(net.state_dict())
    together = stack(net, members)
    assert together.members == members
    images, labels = batch(members=1)
    images, labels = images.expand(-1, members, -1, -1, -1), labels.expand(-1, members)
    logits = together(images)
    for m in range(members):
        assert_close(logits[:, m], logits[:, 0], atol=1e-6, rtol=1e-5)
    losses_of(logits, labels).sum().backward()
    torch.optim.SGD(together.module().parameters(), lr=1.0).step()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_what_can_be_grouped_is_grouped():
    assert isinstance(stack(small_cnn(), 2), GroupedStack)
    assert isinstance(stack(varied(), 2), GroupedStack)
    assert isinstance(stack(small_cnn(), 1), LoopedStack)


class Scaled(Varied):
    """Has a weight of its own, which no grouped layer holds."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(6, 1, 1))


class Standardised(nn.Conv2d):
    """A convolution that does more than its class says."""

    def forward(self, images):
        return F.conv2d(images, self.weight - self.weight.mean())


def changed(change):
    def build():
        net = varied()
        change(net)
        return net

    return build


def unmarked(net):
    net.stackable = False


def with_layer(layer):
    return changed(lambda net: net.trunk.append(layer))


def shared(net):
    net.trunk.append(net.trunk[2])
    net.trunk.append(nn.Conv2d(12, 12, 1))
    net.trunk.append(net.trunk[-1])


@pytest.mark.parametrize(
    "net",
    [
        changed(unmarked),
        with_layer(nn.Dropout(0.5)),
        with_layer(nn.GroupNorm(2, 12)),
        with_layer(nn.Softmax(1)),
        with_layer(nn.Conv2d(12, 12, 3, padding=1, padding_mode="circular")),
        with_layer(Standardised(12, 12, 1)),
        changed(shared),
        Scaled,
    ],
    ids=[
        "unmarked",
        "dropout",
        "groupnorm",
        "softmax",
        "circular",
        "own-forward",
        "shared",
        "own-weight",
    ],
)
def test_what_cannot_be_grouped_runs_in_a_loop(net):
    net = net()
    assert not can_group(net)
    together = stack(net, 2)
    assert isinstance(together, LoopedStack)
    together.module().eval()
    images = batch(members=2)[0]
    for m in range(2):
        assert_close(together(images)[:, m], net.eval()(images[:, m]))


def test_members_draw_the_same_dropout_and_every_call_draws_anew():
    together = stack(with_layer(nn.Dropout(0.5))(), 3)
    together.module().train()
    images = batch(members=1)[0].expand(-1, 3, -1, -1, -1)
    with borrowed_global_rng(4):
        first, second = together(images), together(images)
    for logits in (first, second):
        assert torch.equal(logits[:, 1], logits[:, 0])
        assert torch.equal(logits[:, 2], logits[:, 0])
    assert not torch.allclose(first, second, atol=0.01)


def test_timms_own_nets_run_in_a_loop():
    net = create_classifier("test_resnet", num_classes=CLASSES, shape=(3, 32, 32), seed=0)
    assert isinstance(stack(net, 2), LoopedStack)
