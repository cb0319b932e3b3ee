"""k nets as one: the same numbers as each net alone."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from automix.core.seeding import borrowed_global_rng
from automix.nets.create import create_classifier
from automix.nets.feature_maps import features, scored
from automix.nets.stacking import (
    GroupedStack,
    LoopedStack,
    can_group,
    frozen_running_statistics,
    logits_of,
    stack,
)
from tests.cases import each

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


def built(net):
    def build():
        with borrowed_global_rng(0):
            return net()

    return build


varied = built(Varied)
nets_of = each("net", [small_cnn, varied])
kinds = each("kind", [GroupedStack, LoopedStack])


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
@each("training", [True, False])
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
@each("chosen", [[1], [2, 0], [0, 1, 2], [1, 1]])
def test_some_members_alone_give_what_they_give_in_the_stack(net, kind, chosen):
    together, (images, _) = stacked(kind, different(net)), batch()
    together.module().eval()
    wanted = together(images)[:, chosen]
    assert_close(
        together.ask(chosen, logits_of, images[:, chosen])[0], wanted, atol=1e-5, rtol=1e-4
    )


@kinds
@each("chosen", [[1], [2, 0], [0, 1, 2]])
@each("training", [True, False])
def test_some_members_show_the_feature_maps_and_slopes_of_each_alone(kind, chosen, training):
    nets, (images, labels) = different(small_cnn), batch()
    together = stacked(kind, nets)
    together.module().train(training)
    targets = F.one_hot(labels, CLASSES).float()
    (shown,) = together.ask(chosen, features, images[:, chosen])
    found, gradients = together.ask(chosen, scored, images[:, chosen], targets[:, chosen])
    assert torch.equal(found, shown)
    for at, m in enumerate(chosen):
        wanted = scored(nets[m].train(training), images[:, m], targets[:, m])
        assert_close(found[:, at], wanted[0], atol=1e-5, rtol=1e-4)
        assert_close(gradients[:, at], wanted[1], atol=1e-6, rtol=1e-4)


@nets_of
@kinds
@each("chosen", [[1], [2, 0], [0, 1, 2]])
def test_a_pass_of_some_members_that_trains_reaches_their_weights_only(net, kind, chosen):
    nets, (images, labels) = different(net), batch()
    together = stacked(kind, nets)
    together.module().train()
    (found,) = together.ask(chosen, logits_of, images[:, chosen], trains=True)
    losses_of(found, labels[:, chosen]).sum().backward()
    for m, one in enumerate(nets):
        one.train()
        F.cross_entropy(one(images[:, m]), labels[:, m], reduction="sum").backward()
        for name, weight in one.named_parameters():
            value, rows = together.parts(m)[name]
            got = value.grad[rows] if value.grad is not None else torch.zeros_like(weight)
            wanted = weight.grad if m in chosen else torch.zeros_like(weight)
            assert_close(got, wanted, atol=1e-4, rtol=1e-3)


@nets_of
@kinds
def test_a_frozen_pass_of_some_members_moves_no_statistics(net, kind):
    together, (images, _) = stacked(kind, different(net)), batch()
    module = together.module().train()
    before = {name: value.clone() for name, value in module.named_buffers()}
    with frozen_running_statistics(module):
        images.requires_grad_()
        together.ask([2, 0], logits_of, images[:, [2, 0]])[0].sum().backward()
    for name, value in module.named_buffers():
        assert torch.equal(value, before[name])
    assert images.grad[:, [0, 2]].abs().sum() > 0
    assert images.grad[:, 1].abs().sum() == 0


@nets_of
@each("chosen", [[0, 1, 2], [2, 0]])
def test_no_gradient_of_a_look_reaches_the_weights_of_a_grouped_stack(net, chosen):
    together, (images, _) = stacked(GroupedStack, different(net)), batch()
    images.requires_grad_()
    together.ask(chosen, logits_of, images[:, chosen])[0].square().sum().backward()
    assert all(p.grad is None and p.requires_grad for p in together.module().parameters())
    assert bool((images.grad[:, chosen].abs().amax((0, 2, 3, 4)) > 0).all())


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


@each("members", [1, 3])
def test_equal_copies_give_equal_logits_and_leave_the_net_alone(members):
    net = small_cnn()
    before = copy.deepcopy(net.state_dict())
    together = stack([net] * members)
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
    assert isinstance(stack([small_cnn()] * 2), GroupedStack)
    assert isinstance(stack([varied()] * 2), GroupedStack)
    assert isinstance(stack([small_cnn()]), LoopedStack)


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


@each(
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
)
def test_what_cannot_be_grouped_runs_in_a_loop(net):
    net = net()
    assert not can_group(net)
    together = stack([net] * 2)
    assert isinstance(together, LoopedStack)
    together.module().eval()
    images = batch(members=2)[0]
    for m in range(2):
        assert_close(together(images)[:, m], net.eval()(images[:, m]))


def test_members_draw_the_same_dropout_and_every_call_draws_anew():
    together = stack([with_layer(nn.Dropout(0.5))()] * 3)
    together.module().train()
    images = batch(members=1)[0].expand(-1, 3, -1, -1, -1)
    with borrowed_global_rng(4):
        first, second = together(images), together(images)
    for logits in (first, second):
        assert torch.equal(logits[:, 1], logits[:, 0])
        assert torch.equal(logits[:, 2], logits[:, 0])
    assert not torch.allclose(first, second, atol=0.01)


# The nets in evaluation mode --------------------------------------------------------------------


class Oriented(nn.Module):
    """Groups in the first layer, a norm that keeps no statistics, one that no layer precedes."""

    stackable = True

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(2, 4, 3, groups=2, bias=False),
            nn.BatchNorm2d(4, track_running_stats=False),
            nn.ReLU(),
        )
        self.norm = nn.BatchNorm2d(4)
        self.body = nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU(), nn.BatchNorm2d(6))
        self.fc = nn.Linear(6, CLASSES)

    def forward(self, images):
        return self.fc(self.body(self.norm(self.stem(images))).mean((2, 3)))


class Pooled(Varied):
    """Shrinks the images before the first weights see them."""

    def __init__(self):
        super().__init__()
        self.trunk.insert(0, nn.AvgPool2d(1))


oriented, pooled = built(Oriented), built(Pooled)
all_nets = each("net", [small_cnn, varied, oriented, pooled])


def trained(together, steps=2, lr=0.05):
    """Move weights and running statistics by a few steps."""
    module = together.module().train()
    optimizer = torch.optim.SGD(module.parameters(), lr=lr, momentum=0.9)
    images, labels = batch(8, together.members)
    for step in range(steps):
        losses_of(together(images * (1 + step)), labels).mean(0).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return together


def nets_in(together, net):
    """Each member as the net that it stands for."""
    for member in range(together.members):
        one = copy.deepcopy(net())
        parts = together.parts(member)
        one.load_state_dict({name: value[rows].detach() for name, (value, rows) in parts.items()})
        yield one


@all_nets
@kinds
@each("members", [1, 2, 4, 6])
def test_the_evaluator_gives_each_nets_own_answers(net, kind, members):
    """To an image of its own, to one for all, and to one for neighbours."""
    together = trained(kind([copy.deepcopy(net()) for _ in range(members)]))
    nets = list(nets_in(together, net))
    evaluate = together.evaluator()
    for shown in {1, members, *(j for j in (2, 3) if members % j == 0)}:
        images = batch(5, shown)[0]
        logits = evaluate(images)
        assert logits.shape == (5, members, CLASSES)
        for member, one in enumerate(nets):
            wanted = one.eval()(images[:, member * shown // members])
            assert_close(logits[:, member], wanted, atol=1e-5, rtol=1e-4)
        spread = images.repeat_interleave(members // shown, 1)
        assert_close(logits, together(spread), atol=1e-5, rtol=1e-4)


@all_nets
@kinds
def test_evaluating_leaves_the_nets_as_they_were(net, kind):
    together = trained(stacked(kind, different(net)))
    module = together.module()
    before = copy.deepcopy(module.state_dict())
    parameters, children = list(module.parameters()), list(module.modules())
    together.evaluator()(batch()[0])
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(a is b for a, b in zip(module.parameters(), parameters, strict=True))
    assert all(a is b for a, b in zip(module.modules(), children, strict=True))
    assert all(p.requires_grad and p.grad is None for p in parameters)
    # And they train on as if nobody had looked.
    other = trained(stacked(kind, different(net)))
    for one in (together, other):
        trained(one)
    for name, value in together.module().state_dict().items():
        assert torch.equal(value, other.module().state_dict()[name])


@all_nets
@kinds
def test_an_evaluator_made_after_a_step_knows_of_it(net, kind):
    together, images = trained(stacked(kind, different(net))), batch()[0]
    before = together.evaluator()(images).detach()
    trained(together)
    after = together.evaluator()(images)
    assert float((after - before).detach().abs().amax((0, 2)).min()) > 0.01
    assert_close(after, together(images), atol=1e-5, rtol=1e-4)


def test_norms_that_keep_no_statistics_are_left_where_they_are():
    """They norm by the batch, also in evaluation mode: one image alone gets another answer."""
    together = trained(stacked(GroupedStack, different(oriented)))
    images = batch(6)[0]
    evaluate = together.evaluator()
    assert not torch.allclose(evaluate(images)[:1], evaluate(images[:1]), atol=0.01)
    assert_close(evaluate(images[:1]), together(images[:1]), atol=1e-5, rtol=1e-4)


class Norms(TorchDispatchMode):
    """Counts the batch norms that run."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += "batch_norm" in func.overloadpacket.__name__
        return func(*args, **(kwargs or {}))


@each("net, norms", [(small_cnn, 0), (varied, 0), (oriented, 3)])
def test_a_norm_behind_a_convolution_costs_nothing(net, norms):
    evaluate = stacked(GroupedStack, different(net)).evaluator()
    with torch.no_grad(), Norms() as ran:
        evaluate(batch()[0])
    assert ran.count == norms


def shared_activation():
    """One ReLU in two places, as many nets have it."""
    net, relu = varied(), nn.ReLU()
    net.trunk[2] = relu
    net.trunk.insert(5, relu)
    return net


class Sometimes(Varied):
    """Has a place for a layer, and no layer in it."""

    def __init__(self):
        super().__init__()
        self.register_module("extra", None)

    def forward(self, images):
        return super().forward(images if self.extra is None else self.extra(images))


class Residual(nn.Sequential):
    """Adds its input between the convolution and the norm."""

    def forward(self, images):
        return self[1](self[0](images) + images)


class Around(Varied):
    def __init__(self):
        super().__init__()
        self.trunk.append(Residual(nn.Conv2d(12, 12, 1), nn.BatchNorm2d(12)))


class NormFirst(Varied):
    """Defines the layer that sees the images after another one."""

    def __init__(self):
        super().__init__()
        self.first = nn.BatchNorm2d(2)

    def forward(self, images):
        return super().forward(self.first(images))


class Echo(Varied):
    """Adds the images themselves to what the first layer makes of them."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), *list(self.trunk))

    def forward(self, images):
        return self.head(self.flat(self.trunk[1:](self.trunk[0](images) + images)))


@each(
    "net, shown",
    [
        (shared_activation, 1),
        (shared_activation, 4),
        (built(Sometimes), 4),
        (built(Around), 4),
        (built(NormFirst), 1),
        (built(NormFirst), 4),
        (built(Echo), 1),
        (built(Echo), 4),
    ],
)
def test_whatever_is_grouped_is_evaluated_as_it_is_trained(net, shown):
    """Or it must not be grouped."""
    together = stack([net() for _ in range(4)])
    trained(together)
    images = batch(5, shown)[0]
    logits = together.evaluator()(images)
    for member, one in enumerate(nets_in(together, net)):
        wanted = one.eval()(images[:, member * shown // 4])
        assert_close(logits[:, member], wanted, atol=1e-5, rtol=1e-4)


def test_a_norm_without_weights_in_two_places_is_no_two_norms():
    """No parameter shows that it is shared, so that counting parameters does not."""

    net = varied()
    with borrowed_global_rng(0):
        net.trunk.insert(2, nn.Conv2d(6, 12, 1))
        net.trunk.insert(3, net.trunk[5])
        net.trunk.insert(4, nn.Conv2d(12, 6, 1))
    assert not can_group(net)
    together = stack([net] * 2)
    together.module().eval()
    images = batch(5, 2)[0]
    assert_close(together(images)[:, 0], net.eval()(images[:, 0]), atol=1e-5, rtol=1e-4)


# Parts ------------------------------------------------------------------------------------------


@all_nets
@kinds
def test_parts_are_the_names_shapes_and_values_of_each_net(net, kind):
    nets = different(net)
    together = stacked(kind, nets)
    for member, one in enumerate(nets):
        parts = together.parts(member)
        wanted = one.state_dict()
        assert parts.keys() == wanted.keys()
        for name, (value, rows) in parts.items():
            assert torch.equal(value[rows], wanted[name])


@all_nets
@kinds
def test_parts_cover_everything_once(net, kind):
    together = stacked(kind, different(net))
    module = together.module()
    counts = {
        id(value): torch.zeros_like(value, dtype=torch.int64)
        for value in [*module.parameters(), *module.buffers()]
    }
    for member in range(MEMBERS):
        for value, rows in together.parts(member).values():
            counts[id(value)][rows] += 1
    for value in [*module.parameters(), *module.buffers()]:
        # What has no rows, a count of batches, is common to those who sit together.
        common = kind is GroupedStack and value.dim() == 0
        assert bool((counts[id(value)] == (MEMBERS if common else 1)).all())


@all_nets
@kinds
@each("member", range(MEMBERS))
def test_what_is_written_through_parts_moves_one_member(net, kind, member):
    together, images = stacked(kind, different(net)), batch()[0]
    other = net()
    before = together.evaluator()(images).detach()
    with torch.no_grad():
        for name, (value, rows) in together.parts(member).items():
            value[rows] = other.state_dict()[name]
    after = together.evaluator()(images)
    for m in range(MEMBERS):
        wanted = other.eval()(images[:, m]) if m == member else before[:, m]
        assert_close(after[:, m], wanted, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(after[:, member], before[:, member], atol=0.01)


def test_timms_own_nets_run_in_a_loop():
    net = create_classifier("test_resnet", num_classes=CLASSES, shape=(3, 32, 32), seed=0)
    assert isinstance(stack([net] * 2), LoopedStack)
